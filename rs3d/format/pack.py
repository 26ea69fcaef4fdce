"""A pack: chunks one behind the other, then an index of them. FORMAT.md section 7.6.

The index makes a pack complete in itself: it can be audited and rewritten without the catalog. Pure functions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from rs3d.errors import FormatUnknown
from rs3d.rio.chunks import CHUNK_LIMIT_BYTES
from rs3d.rio.errors import StreamDamaged
from rs3d.rio.layers import LENGTH_LIMIT, Buffer, whole_number
from rs3d.types.recipe import LayerRecipe, Recipe

NAME: Final = "pack"
VERSION: Final = 1
ROW: Final = struct.Struct(">32sQIIB3x")
"""Name, offset, stored bytes, client bytes, codec."""

PACK_LIMIT_BYTES: Final = 256 << 20
"""Bytes of chunks in one pack: what a rewrite reads, and what one damaged sidecar can take along."""
STORED_CHUNK_LIMIT_BYTES: Final = CHUNK_LIMIT_BYTES + 28


class PackedChunk(NamedTuple):
    """A row of the index."""

    name: bytes
    offset: int
    stored_bytes: int
    client_bytes: int
    codec: int


class PackHead(NamedTuple):
    """The parameters of the layer `pack`."""

    chunks: int
    index_at: int
    """Where the index begins: the bytes of all chunks."""

    @property
    def length(self) -> int:
        return self.index_at + self.chunks * ROW.size

    def layer(self) -> LayerRecipe:
        """The layer as it stands in a recipe."""
        return LayerRecipe(NAME, VERSION, (("chunks", self.chunks), ("index", self.index_at), ("length", self.length)))


def is_pack(recipe: Recipe) -> bool:
    """Whether a blob is a pack."""
    return bool(recipe.layers) and recipe.layers[0].name == NAME


def parse_pack(recipe: Recipe) -> tuple[PackHead, Recipe]:
    """The head of a pack, and the recipe of its bytes (parity, or plain).

    Raises:
        FormatUnknown: another version or layer, or numbers that contradict each other.
    """
    layer = recipe.layers[0]
    if layer.name != NAME or layer.version != VERSION:
        raise FormatUnknown(what=f"recipe layer {layer.name}", reason=f"version {layer.version} is unknown")
    head = PackHead(whole_number(layer, "chunks", 0, LENGTH_LIMIT), whole_number(layer, "index", 0, LENGTH_LIMIT))
    if whole_number(layer, "length", 0, LENGTH_LIMIT) != head.length:
        raise FormatUnknown(what="recipe layer pack", reason="its lengths contradict each other")
    return head, Recipe(recipe.layers[1:])


class PackIndex:
    """The index of a pack being written."""

    __slots__ = ("_rows", "chunks", "end")

    def __init__(self) -> None:
        self._rows = bytearray()
        self.chunks = 0
        self.end = 0
        """Where the next chunk goes."""

    def add(self, name: bytes, stored_bytes: int, client_bytes: int, codec: int) -> PackedChunk:
        """Append a chunk; its row."""
        row = PackedChunk(name, self.end, stored_bytes, client_bytes, codec)
        self._rows += ROW.pack(*row)
        self.end += stored_bytes
        self.chunks += 1
        return row

    def rows(self, first: int, count: int) -> list[PackedChunk]:
        """Rows from `first`, at most `count`."""
        stretch = memoryview(self._rows)[first * ROW.size : (first + count) * ROW.size]
        return [PackedChunk(*fields) for fields in ROW.iter_unpack(stretch)]

    def encode(self) -> bytes:
        """The index as it is appended to the pack."""
        return bytes(self._rows)

    @property
    def head(self) -> PackHead:
        return PackHead(self.chunks, self.end)


def decode_index(raw: Buffer, head: PackHead) -> Iterator[PackedChunk]:
    """The rows of an index, each checked for its place.

    Raises:
        StreamDamaged: chunks that overlap, leave a gap, or are longer than any chunk.
    """
    if len(raw) != head.chunks * ROW.size:
        raise StreamDamaged(layer=NAME, offset=head.index_at, reason="the index has another length")
    end = 0
    for fields in ROW.iter_unpack(raw):
        row = PackedChunk(*fields)
        if row.offset != end or row.stored_bytes > STORED_CHUNK_LIMIT_BYTES or row.client_bytes > CHUNK_LIMIT_BYTES:
            raise StreamDamaged(layer=NAME, offset=row.offset, reason="a row of the index is impossible")
        end += row.stored_bytes
        yield row
    if end != head.index_at:
        raise StreamDamaged(layer=NAME, offset=end, reason="the index does not cover the pack")
