"""The layer `parity`: finds damaged blocks by their checks and restores them by Reed-Solomon. Always outermost.

The layout stands in `rs3d.rio.paritylayout`, the code in `rs3d.kernels.reedsolomon`. Reading touches the blocks of its
range only, and the rest of a stripe when one of them is bad. What was repaired is listed, so that whoever drives the
decoder can write the blob anew; nothing is changed in place here.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from time import thread_time
from typing import Final

from rs3d.kernels import crc
from rs3d.kernels.reedsolomon import ReedSolomon
from rs3d.rio.errors import StreamDamaged
from rs3d.rio.layers import LENGTH_LIMIT, WINDOW_BYTES, Buffer, DecodingLayer, Need, Steps, Surroundings, whole_number
from rs3d.rio.paritylayout import (
    BLOCK_BYTES_CEILING,
    BLOCK_BYTES_FLOOR,
    CHECK,
    SHARDS_CEILING,
    ParityLayout,
    Stripe,
)
from rs3d.types.recipe import LayerRecipe, Recipe

NAME: Final = "parity"
VERSION: Final = 1


def corrects(recipe: Recipe) -> bool:
    """Whether stored bytes made by this recipe can be mended: their outermost layer is parity."""
    return bool(recipe.layers) and recipe.layers[-1].name == NAME


class ParityLayer:
    """Encoder. Gathers one stripe; gives whole stripes."""

    def __init__(self, data_blocks: int, parity_blocks: int, block_bytes: int) -> None:
        self.name: Final = NAME
        self._layout = ParityLayout(data_blocks, parity_blocks, block_bytes)
        self._code = ReedSolomon(data_blocks, parity_blocks)
        self._stripe = bytearray(self._layout.stripe_stored_bytes)
        self._lent: list[bytearray] = []
        self._spare: list[bytearray] = []
        self._filled = 0
        self._length = 0

    def encode(self, pieces: list[Buffer]) -> list[Buffer]:
        self._spare += self._lent
        self._lent = []
        ready: list[Buffer] = []
        for piece in pieces:
            view = memoryview(piece).cast("B")
            at = 0
            while at < len(view):
                at += self._gather(view[at:])
                if self._filled == self._layout.stripe_bytes:
                    ready.append(self._seal_full())
        return ready

    def finish(self, pieces: list[Buffer]) -> list[Buffer]:
        ready = self.encode(pieces)
        if self._filled:
            ready.append(self._seal_last())
        return ready

    def recipe(self) -> LayerRecipe | None:
        layout = self._layout
        parameters = (
            ("data", layout.data_blocks),
            ("parity", layout.parity_blocks),
            ("block", layout.block_bytes),
            ("length", self._length),
        )
        return LayerRecipe(NAME, VERSION, parameters)

    def _gather(self, view: memoryview) -> int:
        """Copy up to the end of the block being filled, to where it will be stored. Returns bytes taken."""
        size = self._layout.block_bytes
        block, inside = divmod(self._filled, size)
        count = min(size - inside, len(view))
        begin = block * (size + CHECK.size) + inside
        self._stripe[begin : begin + count] = view[:count]
        self._filled += count
        self._length += count
        return count

    def _seal_full(self) -> Buffer:
        number = self._length // self._layout.stripe_bytes - 1
        stripe = self._layout.stripe(number, self._length)
        whole = self._stripe
        self._seal(stripe, whole)
        self._lent.append(whole)
        self._stripe = self._spare.pop() if self._spare else bytearray(len(whole))
        self._filled = 0
        return whole

    def _seal_last(self) -> Buffer:
        """The rest is spread over blocks of equal, smaller size."""
        layout = self._layout
        stripe = layout.stripe((self._length - 1) // layout.stripe_bytes, self._length)
        size = layout.block_bytes
        rest = bytearray()
        for at in range(0, self._filled, size):
            begin = at // size * (size + CHECK.size)
            rest += memoryview(self._stripe)[begin : begin + min(size, self._filled - at)]
        stored = bytearray(layout.stored_bytes(self._length) - stripe.stored_first)
        for block in range(stripe.data_count):
            begin = layout.stored_offset(stripe, block) - stripe.stored_first
            part = memoryview(rest)[block * stripe.shard_bytes :][: layout.payload_bytes(stripe, block)]
            stored[begin : begin + len(part)] = part
        self._seal(stripe, stored)
        self._filled = 0
        return stored

    def _seal(self, stripe: Stripe, stored: bytearray) -> None:
        """Compute parity and checks of a stripe whose data stand where they are stored."""
        layout = self._layout
        view = memoryview(stored)
        data: list[Buffer] = []
        parity: list[memoryview] = []
        for block in range(layout.data_blocks + layout.parity_blocks):
            length = layout.payload_bytes(stripe, block)
            begin = layout.stored_offset(stripe, block) - stripe.stored_first if length else 0
            if block >= layout.data_blocks:
                parity.append(view[begin : begin + length])
            elif length == stripe.shard_bytes:
                data.append(view[begin : begin + length])
            else:
                data.append(padded(view[begin : begin + length], stripe.shard_bytes))
        self._code.encode(data, parity)
        for block in range(layout.data_blocks + layout.parity_blocks):
            length = layout.payload_bytes(stripe, block)
            if length:
                begin = layout.stored_offset(stripe, block) - stripe.stored_first
                check = crc.crc32c(view[begin : begin + length], crc.crc32c(layout.seed(stripe, block)))
                CHECK.pack_into(stored, begin + length, check)


def padded(part: memoryview, length: int) -> bytearray:
    """A copy with zeros behind it."""
    whole = bytearray(length)
    whole[: len(part)] = part
    return whole


@dataclass(frozen=True, slots=True)
class Repair:
    """A stored block that was bad: `stored` is what should stand at `offset` of the stored stream."""

    offset: int
    stored: bytes


class CorrectingLayer:
    """Decoder of ranges."""

    REPAIRS_KEPT: Final = 64
    """Repairs that are listed with their bytes; later ones are counted only."""

    def __init__(self, recipe: LayerRecipe, outside: DecodingLayer, surroundings: Surroundings) -> None:
        self.name: Final = NAME
        self.seconds = 0.0
        self.bytes_out = 0
        self._outside = outside
        self.length = whole_number(recipe, "length", 0, LENGTH_LIMIT)
        data_blocks = whole_number(recipe, "data", 1, SHARDS_CEILING - 1)
        parity_blocks = whole_number(recipe, "parity", 1, SHARDS_CEILING - data_blocks)
        block_bytes = whole_number(recipe, "block", BLOCK_BYTES_FLOOR, BLOCK_BYTES_CEILING)
        self._layout = ParityLayout(data_blocks, parity_blocks, block_bytes)
        self._code = ReedSolomon(data_blocks, parity_blocks)
        expected = self._layout.stored_bytes(self.length)
        if expected != outside.length:
            reason = f"{self.length} bytes and their parity are {expected}, not {outside.length}"
            raise StreamDamaged(layer=NAME, offset=0, reason=reason)
        self._scratch = bytearray()
        self._cached: tuple[int, int] = (-1, -1)
        self._block = bytearray()
        self.repairs: list[Repair] = []
        self.repair_count = 0

    def fill(self, first: int, out: memoryview) -> Steps:
        at, end = first, first + len(out)
        while at < end:
            stripe = self._layout.stripe(at // self._layout.stripe_bytes, self.length)
            block = (at - stripe.first) // stripe.shard_bytes
            inside = min(end, stripe.first + stripe.length)
            last = (inside - 1 - stripe.first) // stripe.shard_bytes
            last = min(last, block + max(0, WINDOW_BYTES // stripe.shard_bytes - 1))
            if (stripe.number, block) == self._cached:
                at = self._hand_out(memoryview(self._block), stripe, block, at, end, out[at - first :])
                continue
            stored, readable = yield from self._read(stripe, block, last)
            started = thread_time()
            bad: list[int] = []
            begin = self._layout.stored_offset(stripe, block)
            for number in range(block, last + 1):
                offset = self._layout.stored_offset(stripe, number) - begin
                piece = stored[offset : offset + self._layout.payload_bytes(stripe, number) + CHECK.size]
                if number not in readable or not self._is_good(stripe, number, piece):
                    bad.append(number)
            self.seconds += thread_time() - started
            restored: dict[int, bytearray] = {}
            if bad:
                restored = yield from self._restore(stripe, bad)
            for number in range(block, last + 1):
                offset = self._layout.stored_offset(stripe, number) - begin
                length = self._layout.payload_bytes(stripe, number)
                source = memoryview(restored[number]) if number in restored else stored[offset:]
                at = self._hand_out(source[:length], stripe, number, at, end, out[at - first :])
        self.bytes_out += len(out)

    @property
    def last_stripe(self) -> tuple[int, int]:
        """Number of the last stripe, whose blocks may be shorter, and where it begins in the stored stream."""
        number = max(self.length - 1, 0) // self._layout.stripe_bytes
        return number, number * self._layout.stripe_stored_bytes

    @property
    def losable_bytes(self) -> int:
        """Stored bytes of the last stripe that may be missing at most: those of as many blocks as are parity."""
        rest = self.length - self.last_stripe[0] * self._layout.stripe_bytes
        return self._layout.parity_blocks * (-(-rest // self._layout.data_blocks) + CHECK.size)

    def scrub(self, first_stripe: int = 0) -> Steps:
        """Read everything from a stripe on, parity too, and restore what is bad; `repairs` tells.

        Raises:
            StreamDamaged: a stripe is beyond repair.
        """
        layout = self._layout
        for number in range(first_stripe, -(-self.length // layout.stripe_bytes)):
            stripe = layout.stripe(number, self.length)
            bad = []
            for block in range(layout.data_blocks + layout.parity_blocks):
                length = layout.payload_bytes(stripe, block)
                if not length:
                    continue
                stored = memoryview(bytearray(length + CHECK.size))
                if not (yield Need(layout.stored_offset(stripe, block), stored)) or not self._is_good(
                    stripe, block, stored
                ):
                    bad.append(block)
            if bad:
                yield from self._restore(stripe, bad)

    def _hand_out(self, payload: memoryview, stripe: Stripe, block: int, at: int, end: int, out: memoryview) -> int:
        begin = stripe.first + block * stripe.shard_bytes
        count = min(begin + len(payload), end) - at
        out[:count] = payload[at - begin : at - begin + count]
        if at + count < begin + len(payload) and (stripe.number, block) != self._cached:
            self._block, self._cached = bytearray(payload), (stripe.number, block)
        return at + count

    def _read(self, stripe: Stripe, block: int, last: int) -> Generator[Need, bool, tuple[memoryview, set[int]]]:
        """Stored blocks `block` to `last`, and which of them could be read: all at once, or else one by one."""
        begin = self._layout.stored_offset(stripe, block)
        end = self._layout.stored_offset(stripe, last) + self._layout.payload_bytes(stripe, last) + CHECK.size
        if len(self._scratch) < end - begin:
            self._scratch = bytearray(end - begin)
        stored = memoryview(self._scratch)[: end - begin]
        if (yield Need(begin, stored)):
            return stored, set(range(block, last + 1))
        readable = set()
        for number in range(block, last + 1):
            offset = self._layout.stored_offset(stripe, number)
            length = self._layout.payload_bytes(stripe, number) + CHECK.size
            if (yield Need(offset, stored[offset - begin : offset - begin + length])):
                readable.add(number)
        return stored, readable

    def _is_good(self, stripe: Stripe, block: int, stored: memoryview) -> bool:
        payload = stored[: -CHECK.size]
        check: int = CHECK.unpack_from(stored, len(payload))[0]
        return crc.crc32c(payload, crc.crc32c(self._layout.seed(stripe, block))) == check

    def _restore(self, stripe: Stripe, bad: list[int]) -> Generator[Need, bool, dict[int, bytearray]]:
        """The payloads of the blocks `bad`, from the rest of the stripe."""
        layout = self._layout
        present: dict[int, Buffer] = {}
        for block in range(layout.data_blocks + layout.parity_blocks):
            if len(present) == layout.data_blocks:
                break
            length = layout.payload_bytes(stripe, block)
            if block in bad:
                continue
            if not length:
                present[block] = bytes(stripe.shard_bytes)
                continue
            stored = memoryview(bytearray(length + CHECK.size))
            if (yield Need(layout.stored_offset(stripe, block), stored)) and self._is_good(stripe, block, stored):
                payload = stored[:length]
                present[block] = payload if length == stripe.shard_bytes else padded(payload, stripe.shard_bytes)
        if len(present) < layout.data_blocks:
            reason = f"stripe {stripe.number} has more bad blocks than its {layout.parity_blocks} parity blocks restore"
            raise StreamDamaged(layer=NAME, offset=stripe.first, reason=reason)
        started = thread_time()
        restored = {block: bytearray(stripe.shard_bytes) for block in bad}
        self._code.reconstruct(present, restored)
        for block, shard in restored.items():
            self._note(stripe, block, shard)
        self.seconds += thread_time() - started
        return restored

    def _note(self, stripe: Stripe, block: int, shard: bytearray) -> None:
        self.repair_count += 1
        if len(self.repairs) < self.REPAIRS_KEPT:
            payload = bytes(shard[: self._layout.payload_bytes(stripe, block)])
            check = CHECK.pack(crc.crc32c(payload, crc.crc32c(self._layout.seed(stripe, block))))
            self.repairs.append(Repair(self._layout.stored_offset(stripe, block), payload + check))
