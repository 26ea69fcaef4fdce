"""What records of chunks do to the tables `chunks`, `pins`, `packs`, `blobs` and `garbage`. FORMAT.md section "Chunks
and packs".

A chunk's row lives from its first pin to its last: zero is final (STORE.md 14). A pack is referred to by the rows of
its chunks. Every record carries what its rows need, so that any log that compaction leaves replays to the same
tables.
"""

from __future__ import annotations

from typing import Final, cast

import msgspec

from rs3d.errors import RecordDamaged
from rs3d.format import recordbodies as bodies
from rs3d.format.chunkrows import CHUNK, PACK, ChunkRow, PackRow, freed_hashes, moved_chunks, pinned_chunks
from rs3d.format.rows import BlobRow
from rs3d.stores.catalogreferences import Applicable, origin_of
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.types.operations import NewBlob

CHUNKS, CLIENT_BYTES, STORED_BYTES, REFERENCED_BYTES = range(4)
"""Positions in the totals (`CatalogTransaction.dedup_totals`)."""


class PinsRow(msgspec.Struct, frozen=True):
    """A batch of a manifest's pins: how many chunks, repeats counted."""

    chunks: int


PINS_DECODER: Final = msgspec.msgpack.Decoder(PinsRow)


def pins_key(manifest: bytes, batch: int) -> bytes:
    """The key of a batch: by manifest, then by number."""
    return manifest + batch.to_bytes(4, "big")


def chunk_row(t: CatalogTransaction, chunk_hash: bytes) -> ChunkRow | None:
    """The row of a chunk."""
    value = t.get(t.tables.chunks, chunk_hash)
    return None if value is None else ChunkRow._make(CHUNK.unpack(value))


class _PackUses:
    """What one record adds to packs and takes from them, written once for each pack."""

    def __init__(self) -> None:
        self._changes: dict[bytes, list[int]] = {}

    def add(self, pack: bytes, chunks: int, stored_bytes: int) -> None:
        change = self._changes.setdefault(pack, [0, 0])
        change[0] += chunks
        change[1] += stored_bytes

    def settle(self, t: CatalogTransaction, death: int, lengths: dict[bytes, NewBlob]) -> None:
        """Write the packs' rows. One without chunks is garbage from `death` on.

        Args:
            lengths: of packs that may have no row yet.
        """
        for pack, (chunks, stored_bytes) in self._changes.items():
            if chunks or stored_bytes:
                _change_pack(t, pack, chunks, stored_bytes, death, lengths.get(pack))


def _change_pack(
    t: CatalogTransaction, pack: bytes, chunks: int, stored_bytes: int, death: int, new: NewBlob | None
) -> None:
    tables = t.tables
    value, blob = t.get(tables.packs, pack), t.blob(pack)
    if value is None or blob is None:
        if new is None:
            return
        row, blob = PackRow(0, 0, new.stored_bytes), BlobRow(0, new.stored_bytes, new.disk_bytes)
        # Only in a replay: compaction dropped the pins that had kept the pack alive in between.
        t.delete(tables.garbage, pack)
    else:
        row = PackRow._make(PACK.unpack(value))
    row = row._replace(chunks=row.chunks + chunks, live_stored_bytes=row.live_stored_bytes + stored_bytes)
    if row.chunks > 0:
        t.put(tables.packs, pack, PACK.pack(*row))
        t.put_blob(pack, blob._replace(references=blob.references + chunks))
        return
    t.delete(tables.packs, pack)
    t.delete(tables.blobs, pack)
    t.put(tables.garbage, pack, death.to_bytes(8, "big"))


def chunks_pinned(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.ChunksPinned, r.body)
    packs = [new.blob.to_bytes() for new in body.packs]
    uses, totals, table = _PackUses(), t.dedup_totals(), t.tables.chunks
    count = 0
    for chunk_hash, pack, offset, stored_bytes, client_bytes, codec in pinned_chunks(r.payload):
        row = chunk_row(t, chunk_hash)
        if row is None:
            if pack >= len(packs):
                raise RecordDamaged(what="a record of chunks", reason=f"it has no pack {pack}")
            row = ChunkRow(packs[pack], offset, stored_bytes, client_bytes, codec, 1)
            uses.add(row.pack, 1, stored_bytes)
            totals[CHUNKS] += 1
            totals[CLIENT_BYTES] += client_bytes
            totals[STORED_BYTES] += stored_bytes
        else:
            row = row._replace(references=row.references + 1)
        totals[REFERENCED_BYTES] += row.client_bytes
        t.put(table, chunk_hash, CHUNK.pack(*row))
        count += 1
    t.put_origin(t.tables.pins, pins_key(body.manifest, body.batch), origin_of(r), PinsRow(count))
    uses.settle(t, r.sequence, dict(zip(packs, body.packs, strict=True)))


def chunks_freed(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.ChunksFreed, r.body)
    if not t.delete_origin(t.tables.pins, pins_key(body.manifest, body.batch)):
        return
    uses, totals, table = _PackUses(), t.dedup_totals(), t.tables.chunks
    for chunk_hash in freed_hashes(r.payload):
        row = chunk_row(t, chunk_hash)
        if row is None:
            continue
        totals[REFERENCED_BYTES] -= row.client_bytes
        if row.references > 1:
            t.put(table, chunk_hash, CHUNK.pack(*row._replace(references=row.references - 1)))
            continue
        t.delete(table, chunk_hash)
        uses.add(row.pack, -1, -row.stored_bytes)
        totals[CHUNKS] -= 1
        totals[CLIENT_BYTES] -= row.client_bytes
        totals[STORED_BYTES] -= row.stored_bytes
    uses.settle(t, r.sequence, {})


def chunks_moved(t: CatalogTransaction, r: Applicable) -> None:
    """Whatever place a row holds: in a replay it may be one from before a move that compaction dropped, because
    nothing lies where that one led."""
    body = cast(bodies.ChunksMoved, r.body)
    pack = body.pack.blob.to_bytes()
    uses = _PackUses()
    for chunk_hash, offset in moved_chunks(r.payload):
        row = chunk_row(t, chunk_hash)
        if row is None:
            continue
        uses.add(row.pack, -1, -row.stored_bytes)
        uses.add(pack, 1, row.stored_bytes)
        t.put(t.tables.chunks, chunk_hash, CHUNK.pack(*row._replace(pack=pack, offset=offset)))
    uses.settle(t, r.sequence, {pack: body.pack})
