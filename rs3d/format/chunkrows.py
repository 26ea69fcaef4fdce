"""Rows of chunks and packs, in the catalog and in the payloads of log records. FORMAT.md sections "Catalog rows" and
"Record bodies"."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from rs3d.errors import RecordDamaged
from rs3d.types.chunks import CHUNK_HASH_BYTES, ChunkPlace
from rs3d.types.identifiers import BlobId

CHUNK: Final = struct.Struct(">12sQIIBI")
"""pack, offset, stored bytes, client bytes, codec, references."""

PACK: Final = struct.Struct(">IQQ")
"""chunk rows, live stored bytes, total stored bytes."""

DEDUP_TOTALS: Final = struct.Struct(">QQQQ")
"""chunks, client bytes, stored bytes, referenced client bytes."""

PINNED_CHUNK: Final = struct.Struct(">32sHQIIB")
"""hash, index of the pack in the body, offset, stored bytes, client bytes, codec."""

MOVED_CHUNK: Final = struct.Struct(">32sQ")
"""hash, offset in the new pack."""


class ChunkRow(NamedTuple):
    pack: bytes
    offset: int
    stored_bytes: int
    client_bytes: int
    codec: int
    references: int

    @property
    def place(self) -> ChunkPlace:
        return ChunkPlace(BlobId.from_bytes(self.pack), self.offset, self.stored_bytes, self.client_bytes, self.codec)


class PackRow(NamedTuple):
    """`chunks` are the rows of table `chunks` that point into the pack: never 0 in a row."""

    chunks: int
    live_stored_bytes: int
    total_stored_bytes: int


class PinnedChunk(NamedTuple):
    """A chunk in the payload of CHUNKS_PINNED; `pack` is an index."""

    hash: bytes
    pack: int
    offset: int
    stored_bytes: int
    client_bytes: int
    codec: int


def pinned_chunks(payload: bytes | memoryview) -> Iterator[PinnedChunk]:
    """The rows in the payload of CHUNKS_PINNED.

    Raises:
        RecordDamaged: its length is no multiple of a row's.
    """
    _check(payload, PINNED_CHUNK.size)
    return map(PinnedChunk._make, PINNED_CHUNK.iter_unpack(payload))


def moved_chunks(payload: bytes | memoryview) -> Iterator[tuple[bytes, int]]:
    """Hash and new offset of each row in the payload of CHUNKS_MOVED.

    Raises:
        RecordDamaged: its length is no multiple of a row's.
    """
    _check(payload, MOVED_CHUNK.size)
    return MOVED_CHUNK.iter_unpack(payload)


def freed_hashes(payload: bytes | memoryview) -> list[bytes]:
    """The hashes in the payload of CHUNKS_FREED.

    Raises:
        RecordDamaged: its length is no multiple of a hash's.
    """
    _check(payload, CHUNK_HASH_BYTES)
    return [bytes(payload[at : at + CHUNK_HASH_BYTES]) for at in range(0, len(payload), CHUNK_HASH_BYTES)]


def _check(payload: bytes | memoryview, row_bytes: int) -> None:
    if len(payload) % row_bytes:
        raise RecordDamaged(what="a record of chunks", reason=f"{len(payload)} bytes are no rows of {row_bytes}")
