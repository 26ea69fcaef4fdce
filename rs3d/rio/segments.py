"""Layered bytes for sinks and sources that cannot seek: a stream of segments, each encoded by itself. No I/O.

A blob's stored bytes need their recipe and random access. A pipe has neither; so there the client's bytes are cut into
segments (1 MiB), and each travels as a preamble of 1,024 bytes, which holds its recipe, and its stored bytes:

    stream  = segment 0 | ... | final segment
    segment = preamble (1,024) | stored bytes                      (with parity: three copies of the preamble)

Memory on both sides is one segment. The preamble's CRC finds accidents; against forgery the keys of a segment are
derived from the stream's key for salt and number, and its frames are bound to salt, number and finality: a segment
moved, dropped, repeated, cut off or taken from another stream does not open.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgpack  # type: ignore[import-untyped]

from rs3d.errors import FormatUnknown
from rs3d.kernels import crc
from rs3d.rio.codecs import CompressionDictionary
from rs3d.rio.decoder import Decoder
from rs3d.rio.encoder import LayerReport, build_encoder
from rs3d.rio.errors import LayersRefused, StreamClosed, StreamDamaged
from rs3d.rio.keys import EncryptionKey, Purpose
from rs3d.rio.layers import Buffer
from rs3d.rio.plans import EncryptPlan, LayerPlan, ParityPlan, check_order
from rs3d.types.recipe import LayerRecipe, LayerValue, Recipe

MAGIC: Final = b"rs3drio1"
PREAMBLE: Final = struct.Struct(">8s16sQBBHII")
"""Magic, salt, number, finality, copy, recipe bytes, stored bytes, client bytes; then the recipe, zeros, CRC32C."""
PREAMBLE_BYTES: Final = 1024
CHECK: Final = struct.Struct(">I")
SALT_BYTES: Final = 16
PARITY_COPIES: Final = 3

SEGMENT_BYTES_USUAL: Final = 1 << 20
SEGMENT_BYTES_CEILING: Final = 8 << 20
STORED_BYTES_CEILING: Final = 64 * SEGMENT_BYTES_CEILING
"""A segment's stored bytes are bounded by this and by 64 times its client bytes and 64 KiB (parity 1 + 63 at worst)."""

_CONTEXT: Final = struct.Struct(">16s16sQB")


@dataclass(frozen=True, slots=True)
class Preamble:
    """The head of one segment."""

    salt: bytes
    number: int
    is_final: bool
    recipe: Recipe
    stored_bytes: int
    client_bytes: int

    @property
    def context(self) -> bytes:
        """What the segment's frames are bound to."""
        return segment_context(self.salt, self.number, self.is_final)

    def pack(self, copy: int) -> bytes:
        """Its bytes.

        Raises:
            LayersRefused: the recipe is too long.
        """
        rows = [(layer.name, layer.version, dict(layer.parameters)) for layer in self.recipe.layers]
        recipe = cast(bytes, msgpack.packb(rows))
        if len(recipe) > PREAMBLE_BYTES - PREAMBLE.size - CHECK.size:
            raise LayersRefused(reason=f"the recipe of these layers has {len(recipe)} bytes, too many for a stream")
        head = PREAMBLE.pack(
            MAGIC, self.salt, self.number, self.is_final, copy, len(recipe), self.stored_bytes, self.client_bytes
        )
        body = (head + recipe).ljust(PREAMBLE_BYTES - CHECK.size, b"\0")
        return body + CHECK.pack(crc.crc32c(body))


def segment_context(salt: bytes, number: int, is_final: bool) -> bytes:
    """What sealed frames of a segment are bound to."""
    return _CONTEXT.pack(b"rs3d rio segment", salt, number, is_final)


def segment_key(key: EncryptionKey, salt: bytes, number: int) -> EncryptionKey:
    """The data key of one segment."""
    return key.derive(Purpose.STREAM, salt + number.to_bytes(8, "big"))


def parse_preamble(raw: bytes) -> tuple[Preamble, int] | None:
    """A preamble and its copy number; None when its check fails.

    Raises:
        FormatUnknown: whole, but not of a version that is read here.
    """
    body = raw[: -CHECK.size]
    if len(raw) != PREAMBLE_BYTES or CHECK.unpack(raw[-CHECK.size :])[0] != crc.crc32c(body):
        return None
    magic, salt, number, final, copy, recipe_bytes, stored_bytes, client_bytes = PREAMBLE.unpack_from(body)
    if magic != MAGIC:
        raise FormatUnknown(what="stream of segments", reason=f"its magic is {magic!r}")
    recipe = _recipe_of(body[PREAMBLE.size : PREAMBLE.size + recipe_bytes])
    return Preamble(salt, number, bool(final), recipe, stored_bytes, client_bytes), copy


def _recipe_of(packed: bytes) -> Recipe:
    try:
        rows = msgpack.unpackb(packed, strict_map_key=True)
        layers = tuple(LayerRecipe(str(name), int(version), _parameters(given)) for name, version, given in rows)
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise FormatUnknown(what="recipe of a segment", reason=str(error)) from None
    return Recipe(layers)


def _parameters(given: Mapping[str, LayerValue]) -> tuple[tuple[str, LayerValue], ...]:
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, int | str | bytes | None):
            raise ValueError(f"parameter {name!r}")
    return tuple(given.items())


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What became of a stream that was written or read to its end.

    Args:
        client_bytes, stored_bytes: preambles included in the latter.
        segments: how many.
        recipe: of the last segment; every segment carries its own.
        reports: one a layer, summed over the segments, in the order of writing (or of reading).
    """

    client_bytes: int
    stored_bytes: int
    segments: int
    recipe: Recipe
    reports: tuple[LayerReport, ...]


class _Totals:
    """Sums of reports by layer."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: list[LayerReport] = []

    def add(self, reports: tuple[LayerReport, ...]) -> None:
        if [row.name for row in self._rows] != [report.name for report in reports]:
            # Layers that left no trace in one segment are missing there: their sums stay.
            by_name = {row.name: row for row in self._rows}
            self._rows = [*self._rows, *(LayerReport(r.name, 0, 0, 0.0) for r in reports if r.name not in by_name)]
        left = list(reports)
        for place, row in enumerate(self._rows):
            match = next((report for report in left if report.name == row.name), None)
            if match is not None:
                left.remove(match)
                self._rows[place] = LayerReport(
                    row.name,
                    row.bytes_in + match.bytes_in,
                    row.bytes_out + match.bytes_out,
                    row.seconds + match.seconds,
                )

    @property
    def reports(self) -> tuple[LayerReport, ...]:
        return tuple(self._rows)


class SegmentEncoder:
    """Client bytes to a stream of segments. Errors are final. Not for two threads at once."""

    def __init__(self, layers: Sequence[LayerPlan], *, segment_bytes: int = SEGMENT_BYTES_USUAL) -> None:
        """
        Args:
            layers: as for `build_encoder`; keys of encryptions are the stream's, and may be used for many streams.

        Raises:
            LayersRefused: a senseless order or segment size.
        """
        check_order(layers)
        if not 4096 <= segment_bytes <= SEGMENT_BYTES_CEILING:
            raise LayersRefused(reason=f"segments have 4096 to {SEGMENT_BYTES_CEILING} bytes, not {segment_bytes}")
        self._layers = tuple(layers)
        self._copies = PARITY_COPIES if any(isinstance(layer, ParityPlan) for layer in layers) else 1
        self._segment_bytes = segment_bytes
        self._salt = os.urandom(SALT_BYTES)
        self._held = bytearray()
        self._number = 0
        self._client_bytes = 0
        self._stored_bytes = 0
        self._totals = _Totals()
        self._recipe = Recipe()
        self._finished = False
        self._failure: BaseException | None = None

    def write(self, data: Buffer) -> list[Buffer]:
        """Take client bytes; give what can be sent. `data` may be changed once what was returned has been sent.

        Raises:
            StreamClosed: the stream was finished. Whatever failed once.
        """
        return self._guarded(memoryview(data).cast("B"), ends=False)

    def finish(self) -> list[Buffer]:
        """The final segment: there is always one, if only to say that the stream is whole.

        Raises:
            StreamClosed: the stream was finished already. Whatever failed once.
        """
        return self._guarded(memoryview(b""), ends=True)

    @property
    def held_bytes(self) -> int:
        """Client bytes that wait for more, or for the end."""
        return len(self._held)

    @property
    def summary(self) -> StreamSummary:
        """What became of it so far."""
        return StreamSummary(self._client_bytes, self._stored_bytes, self._number, self._recipe, self._totals.reports)

    def _guarded(self, view: memoryview, *, ends: bool) -> list[Buffer]:
        if self._failure is not None:
            raise self._failure
        if self._finished:
            raise StreamClosed(reason="it was finished")
        try:
            ready = self._take(view)
            if ends:
                self._segment(memoryview(bytes(self._held)), ready, is_final=True)
                self._held.clear()
        except BaseException as failure:
            self._failure = failure
            raise
        self._finished = ends
        return ready

    def _take(self, view: memoryview) -> list[Buffer]:
        ready: list[Buffer] = []
        size = self._segment_bytes
        at = 0
        # A segment goes when more bytes follow: the last one has to be marked as such.
        while len(self._held) + len(view) - at > size:
            if self._held:
                count = size - len(self._held)
                self._held += view[at : at + count]
                whole, self._held = memoryview(self._held), bytearray()
            else:
                count = size
                whole = view[at : at + count]
            at += count
            self._segment(whole, ready, is_final=False)
        self._held += view[at:]
        return ready

    def _segment(self, client: memoryview, ready: list[Buffer], *, is_final: bool) -> None:
        plans = [self._keyed(layer) for layer in self._layers]
        encoder = build_encoder(plans, context=segment_context(self._salt, self._number, is_final))
        pieces = encoder.finish(client)
        self._recipe = encoder.recipe
        head = Preamble(self._salt, self._number, is_final, self._recipe, encoder.bytes_out, len(client))
        for copy in range(self._copies):
            ready.append(head.pack(self._copies - 1 - copy))
        ready += pieces
        self._number += 1
        self._client_bytes += len(client)
        self._stored_bytes += encoder.bytes_out + self._copies * PREAMBLE_BYTES
        self._totals.add(encoder.reports)

    def _keyed(self, layer: LayerPlan) -> LayerPlan:
        if isinstance(layer, EncryptPlan):
            return dataclasses.replace(layer, key=segment_key(layer.key, self._salt, self._number))
        return layer


class SegmentDecoder:
    """A stream of segments to client bytes. Errors are final. Not for two threads at once."""

    def __init__(
        self,
        *,
        keys: Mapping[str, EncryptionKey] | None = None,
        dictionaries: Mapping[str, CompressionDictionary] | None = None,
    ) -> None:
        """
        Args:
            keys: by slot. Every key given has to be used by every segment: a stream that should be sealed is not taken
                for one that is not.
            dictionaries: by id.
        """
        self._keys = dict(keys or {})
        self._dictionaries = dict(dictionaries or {})
        self._held = bytearray()
        self._head: Preamble | None = None
        self._copies_left = 0
        self._lost_copies = 0
        self._salt = b""
        self._number = 0
        self._client_bytes = 0
        self._stored_bytes = 0
        self._totals = _Totals()
        self._failure: BaseException | None = None
        self.repair_count = 0
        """Stored blocks and preambles that had to be restored."""
        self.finished = False
        """Whether the final segment was decoded."""

    @property
    def wanted_bytes(self) -> int:
        """How many more bytes can be used now, at most; 0 when finished. Whatever is fed beyond is refused."""
        if self.finished:
            return 0
        return self._goal() - len(self._held)

    @property
    def segment_bytes(self) -> int:
        """Stored bytes of the segment under way, as far as known: how much work its last byte will make."""
        return self._goal()

    def feed(self, data: Buffer) -> list[Buffer]:
        """Take stored bytes, at most `wanted_bytes` of them; give client bytes, all of them checked.

        Raises:
            StreamDamaged: they are not what was written. FormatUnknown, KeyMissing: as `Decoder`.
            ValueError: more bytes than wanted.
        """
        if self._failure is not None:
            raise self._failure
        if memoryview(data).nbytes > self.wanted_bytes:
            raise ValueError(f"{memoryview(data).nbytes} bytes fed, {self.wanted_bytes} wanted")
        try:
            self._held += data
            return self._advance()
        except BaseException as failure:
            self._failure = failure
            raise

    def end(self) -> StreamSummary:
        """The source has ended, or nobody wants to read on.

        Raises:
            StreamDamaged: the final segment has not been seen: the stream was cut off.
        """
        if self._failure is not None:
            raise self._failure
        if not self.finished:
            self._failure = self._damaged(f"it was cut off in segment {self._number}")
            raise self._failure
        return self.summary

    @property
    def summary(self) -> StreamSummary:
        """What became of it so far."""
        recipe = Recipe() if self._head is None else self._head.recipe
        return StreamSummary(self._client_bytes, self._stored_bytes, self._number, recipe, self._totals.reports)

    def _goal(self) -> int:
        if self._head is None:
            return PREAMBLE_BYTES
        return self._head.stored_bytes + self._copies_left * PREAMBLE_BYTES

    def _advance(self) -> list[Buffer]:
        if len(self._held) < self._goal():
            return []
        if self._head is None:
            self._open_head()
            # A segment may be empty: then there is nothing more to wait for.
            if self._head is None or self._goal():
                return []
        return self._decode()

    def _open_head(self) -> None:
        raw = bytes(self._held)
        self._held.clear()
        self._stored_bytes += len(raw)
        parsed = parse_preamble(raw)
        if parsed is None:
            self._lost_copies += 1
            if self._lost_copies >= PARITY_COPIES:
                raise self._damaged(f"the preamble of segment {self._number} fails its check")
            return
        head, copy = parsed
        if copy >= PARITY_COPIES or (self._lost_copies and copy + self._lost_copies != PARITY_COPIES - 1):
            raise self._damaged(f"the preamble of segment {self._number} is out of place")
        self._check(head)
        self.repair_count += self._lost_copies
        self._lost_copies = 0
        self._copies_left = copy
        self._head = head

    def _check(self, head: Preamble) -> None:
        if self._number == 0:
            self._salt = head.salt
        if head.salt != self._salt or head.number != self._number:
            raise self._damaged(f"segment {self._number} is missing or of another stream")
        bound = min(STORED_BYTES_CEILING, 64 * head.client_bytes + 65536)
        if head.client_bytes > SEGMENT_BYTES_CEILING or head.stored_bytes > bound:
            raise self._damaged(f"segment {self._number} claims {head.stored_bytes} for {head.client_bytes} bytes")

    def _decode(self) -> list[Buffer]:
        head = cast(Preamble, self._head)
        keys = {slot: segment_key(key, head.salt, head.number) for slot, key in self._keys.items()}
        decoder = Decoder(
            head.recipe, head.stored_bytes, context=head.context, keys=keys, dictionaries=self._dictionaries
        )
        if decoder.key_slots != frozenset(self._keys):
            raise self._damaged(f"segment {self._number} is not sealed under the keys that were given")
        if decoder.client_bytes != head.client_bytes:
            raise self._damaged(f"segment {self._number} has not the length that it claims")
        stored = memoryview(bytes(self._held))[self._copies_left * PREAMBLE_BYTES :]
        client = decoder.decode(stored)
        self._stored_bytes += len(self._held)
        self._held.clear()
        self._client_bytes += len(client)
        self._number += 1
        self._copies_left = 0
        self._totals.add(decoder.reports)
        self.repair_count += decoder.repair_count
        self.finished = head.is_final
        if not self.finished:
            self._head = None
        return [client] if client else []

    def _damaged(self, reason: str) -> StreamDamaged:
        return StreamDamaged(layer="segments", offset=self._client_bytes, reason=reason)
