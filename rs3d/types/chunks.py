"""Chunks of deduplicated bodies: what a manifest names, where a chunk's bytes lie, what they save. FORMAT.md section
"Chunks and packs"."""

from __future__ import annotations

from typing import Final, NamedTuple

from rs3d.types.identifiers import BlobId

CHUNK_HASH_BYTES: Final = 32
CHUNKS_PER_OPERATION: Final = 1000
"""At most so many chunks in one PinChunks, FreeChunks or MoveChunks."""


class Chunk(NamedTuple):
    """A chunk as a manifest names it. `hash` (32 bytes) is its key in the catalog: the SHA-256 of the client's bytes,
    or in an encrypted bucket a keyed hash of that."""

    hash: bytes
    client_bytes: int


class ChunkPlace(NamedTuple):
    """Where a chunk's stored bytes lie. `codec`: low 7 bits as in compressed frames, 128 = sealed."""

    pack: BlobId
    offset: int
    stored_bytes: int
    client_bytes: int
    codec: int


class ChunkPin(NamedTuple):
    """A chunk that a manifest is to hold, and where the sender wrote a copy of it; None: it wrote none, because a
    snapshot showed the chunk."""

    chunk: Chunk
    place: ChunkPlace | None = None


class ChunkMove(NamedTuple):
    """A chunk and its offset in the new pack; lengths and codec stay."""

    hash: bytes
    offset: int


class PinBatch(NamedTuple):
    """One batch of a manifest's pins: at most CHUNKS_PER_OPERATION chunks, repeats counted."""

    manifest: BlobId
    batch: int
    chunks: int


class PackUse(NamedTuple):
    """How much of a pack is referred to. `chunks`: rows that point into it."""

    pack: BlobId
    chunks: int
    live_stored_bytes: int
    total_stored_bytes: int


class DedupTotals(NamedTuple):
    """Over the whole store. Saved are `referenced_client_bytes` - `client_bytes`, and what compression saves."""

    chunks: int = 0
    client_bytes: int = 0
    """Of the chunks, each once."""
    stored_bytes: int = 0
    """Of the chunks in their packs, each once; packs also hold dead bytes (`PackUse`)."""
    referenced_client_bytes: int = 0
    """Of the chunks, each as often as manifests refer to it."""
