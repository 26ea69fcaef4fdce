"""Chunks, packs and manifests through the committer's core, without a byte on the disk."""

from __future__ import annotations

from collections import Counter, defaultdict
from hashlib import sha256

from rs3d.stores.catalogsnapshot import Snapshot
from rs3d.types import operations as ops
from rs3d.types.chunks import Chunk, ChunkMove, ChunkPin, ChunkPlace, DedupTotals
from rs3d.types.identifiers import BlobId, BucketId
from rs3d.types.objects import Extent
from tests.stores.committed import CommittedStore

PACK_BYTES = 1 << 20


def chunk(number: int) -> Chunk:
    """A chunk that differs from those of other numbers, in its length as well."""
    return Chunk(sha256(str(number).encode()).digest(), 1000 + number)


def placed(number: int, pack: BlobId, offset: int | None = None) -> ChunkPin:
    """The chunk with a copy of it in `pack`; it was compressed to half."""
    found = chunk(number)
    at = number * 1000 if offset is None else offset
    return ChunkPin(found, ChunkPlace(pack, at, found.client_bytes // 2, found.client_bytes, 1))


def wanted(number: int) -> ChunkPin:
    """The chunk as a worker wants it that saw it in a snapshot."""
    return ChunkPin(chunk(number))


def pin(
    store: CommittedStore,
    manifest: BlobId,
    pins: list[ChunkPin],
    *,
    batch: int = 0,
    packs: tuple[BlobId, ...] | None = None,
) -> ops.Outcome:
    """Pin with the packs that the places name, or those given."""
    named = tuple(sorted({found.place.pack for found in pins if found.place})) if packs is None else packs
    new = tuple(ops.NewBlob(pack, PACK_BYTES, PACK_BYTES + 4096) for pack in named)
    operation = ops.PinChunks(id=store.id(), manifest=manifest, batch=batch, chunks=tuple(pins), new_blobs=new)
    return store.commit(operation)


def free(store: CommittedStore, manifest: BlobId, batch: int = 0) -> ops.Outcome:
    with store.view() as view:
        hashes = view.pinned_hashes(manifest, batch)
    return store.commit(ops.FreeChunks(id=store.id(), manifest=manifest, batch=batch, hashes=hashes))


def move(store: CommittedStore, old: BlobId, new: BlobId, moves: list[tuple[int, int]]) -> ops.Outcome:
    """Chunks by number, with their offsets in the new pack."""
    found = tuple(ChunkMove(chunk(number).hash, offset) for number, offset in moves)
    pack = ops.NewBlob(new, PACK_BYTES, PACK_BYTES + 4096)
    return store.commit(ops.MoveChunks(id=store.id(), old=old, new=pack, moves=found))


def put_manifest(store: CommittedStore, bucket: BucketId, key: str, manifest: BlobId, size: int = 100_000) -> None:
    store.put(
        bucket, key, size=size, placement=Extent(manifest, 0, size), new_blobs=(ops.NewBlob(manifest, size // 1000),)
    )


def put_body(store: CommittedStore, bucket: BucketId, key: str, numbers: list[int]) -> BlobId:
    """A deduplicated body of these chunks, all of which the sender wrote into a pack of its own."""
    manifest, pack = store.new_blob(), store.new_blob()
    assert pin(store, manifest, [placed(number, pack) for number in numbers]).missing == ()
    put_manifest(store, bucket, key, manifest)
    return manifest


def garbage(store: CommittedStore) -> set[BlobId]:
    with store.view() as view:
        return {row.blob for row in view.garbage()}


def place(store: CommittedStore, number: int) -> ChunkPlace | None:
    with store.view() as view:
        return view.chunk(chunk(number).hash)


def check_counts(store: CommittedStore) -> None:
    """Counts, packs and totals are what the records of the pins say (PITFALLS P8, D12)."""
    with store.view() as view:
        _check_counts(view)


def _check_counts(view: Snapshot) -> None:
    counted: Counter[bytes] = Counter()
    for batch in view.pins():
        hashes = view.pinned_hashes(batch.manifest, batch.batch)
        assert len(hashes) == batch.chunks
        counted.update(hashes)
    rows = dict(view.chunk_rows())
    assert {key: row.references for key, row in rows.items()} == counted
    packs: defaultdict[BlobId, list[int]] = defaultdict(list)
    for row in rows.values():
        packs[row.place.pack].append(row.stored_bytes)
    assert {use.pack: (use.chunks, use.live_stored_bytes) for use in view.packs()} == {
        pack: (len(found), sum(found)) for pack, found in packs.items()
    }
    dead = {row.blob for row in view.garbage()}
    for use in view.packs():
        assert view.blob_references(use.pack) == use.chunks
        assert use.total_stored_bytes == PACK_BYTES
        assert use.pack not in dead
    assert view.dedup_totals() == DedupTotals(
        len(rows),
        sum(row.client_bytes for row in rows.values()),
        sum(row.stored_bytes for row in rows.values()),
        sum(row.client_bytes * row.references for row in rows.values()),
    )
