"""The layer `merkle`: the SHA-256 of every block behind the stream, the root of the tree over them in the recipe.

    stream = bytes | leaf 0 (32) | leaf 1 (32) | ...

The tree is the store's (FORMAT.md section 6.3, `rs3d.kernels.merkle`). A reader reads the leaves once, checks them
against the root, and then every block it touches against its leaf: so each range is proved by the root alone, which may
be signed (`rs3d.rio.signatures`).
"""

from __future__ import annotations

from dataclasses import dataclass
from time import thread_time
from typing import Final

from rs3d.errors import FormatUnknown
from rs3d.kernels import merkle
from rs3d.rio.errors import LayersRefused, StreamDamaged
from rs3d.rio.layers import (
    LENGTH_LIMIT,
    WINDOW_BYTES,
    Buffer,
    DecodingLayer,
    Steps,
    Surroundings,
    octets,
    whole_number,
)
from rs3d.types.recipe import LayerRecipe

NAME: Final = "merkle"
VERSION: Final = 1

LEAF_BYTES_FLOOR: Final = 4096
LEAF_BYTES_CEILING: Final = 16 << 20
LEAF_BYTES_USUAL: Final = 1 << 20
LEAVES_LIMIT: Final = 1 << 19
"""Leaves of one stream, 16 MiB of them: a reader holds them all. 512 GiB of usual leaves."""


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """Shows that a block is part of a stream whose root is known, without the rest of it.

    Args:
        index: number of the block.
        leaf: SHA-256 of the block.
        siblings: hashes on the way to the top, lowest first, 32 bytes each.
        leaf_count, length_bytes: of the whole stream; bound by the root.
    """

    index: int
    leaf: bytes
    siblings: bytes
    leaf_count: int
    length_bytes: int

    def proves(self, root: bytes, block: Buffer) -> bool:
        """Whether `block` is block `index` of the stream with this root."""
        if merkle.sha256(block) != self.leaf:
            return False
        return merkle.verify(root, self.leaf, self.index, self.leaf_count, self.length_bytes, self.siblings)


def prove(leaves: bytes, length_bytes: int, index: int) -> InclusionProof:
    """The proof for one block.

    Raises:
        ValueError: there is no such leaf, or `leaves` is malformed.
    """
    siblings = merkle.prove(leaves, index)
    leaf = leaves[index * merkle.HASH_BYTES : (index + 1) * merkle.HASH_BYTES]
    return InclusionProof(index, leaf, siblings, len(leaves) // merkle.HASH_BYTES, length_bytes)


class TreeLayer:
    """Encoder: passes bytes on and appends their leaves."""

    def __init__(self, leaf_bytes: int) -> None:
        self.name: Final = NAME
        self._leaf_bytes = leaf_bytes
        self._tree = merkle.TreeAppender(leaf_bytes)
        self._leaves = bytearray()
        self.root = b""
        """The root, once finished."""

    @property
    def leaves(self) -> bytes:
        """The leaves so far, 32 bytes each."""
        return bytes(self._leaves)

    @property
    def length_bytes(self) -> int:
        """Bytes so far."""
        return self._tree.length_bytes

    def encode(self, pieces: list[Buffer]) -> list[Buffer]:
        for piece in pieces:
            self._leaves += self._tree.update(piece)
        if self._tree.leaf_count > LEAVES_LIMIT:
            raise LayersRefused(reason=f"more than {LEAVES_LIMIT} Merkle leaves; use larger ones")
        return pieces

    def finish(self, pieces: list[Buffer]) -> list[Buffer]:
        ready = self.encode(pieces)
        leaf, self.root = self._tree.end()
        self._leaves += leaf
        return [*ready, self._leaves]

    def recipe(self) -> LayerRecipe | None:
        parameters = (("leaf", self._leaf_bytes), ("root", self.root), ("length", self._tree.length_bytes))
        return LayerRecipe(NAME, VERSION, parameters)


class TreeCheckingLayer:
    """Decoder: reads whole blocks and checks each."""

    def __init__(self, recipe: LayerRecipe, outside: DecodingLayer, surroundings: Surroundings) -> None:
        self.name: Final = NAME
        self.seconds = 0.0
        self.bytes_out = 0
        self._outside = outside
        self.length = whole_number(recipe, "length", 0, LENGTH_LIMIT)
        self._leaf_bytes = whole_number(recipe, "leaf", LEAF_BYTES_FLOOR, LEAF_BYTES_CEILING)
        self.root: Final = octets(recipe, "root", merkle.HASH_BYTES)
        self._count = max(1, -(-self.length // self._leaf_bytes))
        if self._count > LEAVES_LIMIT:
            raise FormatUnknown(what=f"recipe layer {NAME}", reason=f"{self._count} leaves")
        if outside.length != self.length + self._count * merkle.HASH_BYTES:
            reason = f"there are {outside.length} bytes for {self.length} and {self._count} leaves"
            raise StreamDamaged(layer=NAME, offset=0, reason=reason)
        self._leaves = b""
        self._cached_block = -1
        self._cached = bytearray()

    def fill(self, first: int, out: memoryview) -> Steps:
        if not self._leaves:
            yield from self._load_leaves()
        at, end = first, first + len(out)
        size = self._leaf_bytes
        while at < end:
            block = at // size
            if block != self._cached_block and at == block * size:
                # Whole blocks are checked where they belong.
                whole = min((end // size if end < self.length else self._count) - block, max(1, WINDOW_BYTES // size))
                if whole > 0:
                    stop = min((block + whole) * size, self.length)
                    part = out[at - first : stop - first]
                    yield from self._outside.fill(at, part)
                    self._check(part, block)
                    at = stop
                    continue
            if block != self._cached_block:
                self._cached_block = -1
                self._cached = bytearray(min(size, self.length - block * size))
                yield from self._outside.fill(block * size, memoryview(self._cached))
                self._check(self._cached, block)
                self._cached_block = block
            skip = at - block * size
            count = min(len(self._cached) - skip, end - at)
            out[at - first : at - first + count] = memoryview(self._cached)[skip : skip + count]
            at += count
        self.bytes_out += len(out)

    def proof(self, index: int) -> InclusionProof:
        """The proof for block `index`; the leaves are known once any range was read.

        Raises:
            ValueError: nothing was read yet, or there is no such block.
        """
        return prove(self._leaves, self.length, index)

    def _load_leaves(self) -> Steps:
        leaves = bytearray(self._count * merkle.HASH_BYTES)
        yield from self._outside.fill(self.length, memoryview(leaves))
        if merkle.root(leaves, self.length) != self.root:
            raise StreamDamaged(layer=NAME, offset=self.length, reason="the leaves do not have the recipe's root")
        if self.length == 0 and leaves != merkle.sha256(b""):
            raise StreamDamaged(layer=NAME, offset=0, reason="the leaf of an empty stream is another")
        self._leaves = bytes(leaves)

    def _check(self, part: memoryview | bytearray, block: int) -> None:
        started = thread_time()
        count = -(-len(part) // self._leaf_bytes)
        expected = memoryview(self._leaves)[block * merkle.HASH_BYTES : (block + count) * merkle.HASH_BYTES]
        bad = merkle.check_leaves(part, expected, self._leaf_bytes)
        self.seconds += thread_time() - started
        if bad >= 0:
            reason = f"block {block + bad} is not the one under the root"
            raise StreamDamaged(layer=NAME, offset=(block + bad) * self._leaf_bytes, reason=reason)
