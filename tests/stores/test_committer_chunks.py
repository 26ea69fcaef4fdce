"""PinChunks, FreeChunks, MoveChunks: what they do, what they refuse, and that the counts are those of the pins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.errors import InvalidArgument
from rs3d.types import operations as ops
from rs3d.types.chunks import Chunk, ChunkPin, ChunkPlace, DedupTotals
from rs3d.types.identifiers import BlobId, BucketId, Epoch, OperationId, SegmentId
from tests.stores.chunked import (
    PACK_BYTES,
    check_counts,
    chunk,
    free,
    garbage,
    move,
    pin,
    place,
    placed,
    put_body,
    put_manifest,
    wanted,
)
from tests.stores.committed import CommittedStore, rows_without_positions


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    opened = CommittedStore(tmp_path)
    yield opened
    check_counts(opened)
    opened.close_epoch()
    before = rows_without_positions(opened.tables)
    opened.without_catalog()
    opened.close_epoch()
    assert rows_without_positions(opened.tables) == before
    check_counts(opened)
    opened.close()


@pytest.fixture
def bucket(store: CommittedStore) -> BucketId:
    return store.bucket()


def dead_body(store: CommittedStore, bucket: BucketId, numbers: list[int]) -> BlobId:
    manifest = put_body(store, bucket, "dead", numbers)
    store.remove(bucket, "dead")
    return manifest


# ------------------------------------------------------------------------------------------------------- pinning


def test_a_new_chunk_gets_a_row_where_its_writer_put_it(store: CommittedStore) -> None:
    manifest, pack = store.new_blob(), store.new_blob()
    assert pin(store, manifest, [placed(1, pack), placed(2, pack)]).missing == ()
    assert place(store, 1) == ChunkPlace(pack, 1000, 500, 1001, 1)
    with store.view() as view:
        assert [tuple(found) for found in view.packs()] == [(pack, 2, 1001, PACK_BYTES)]
        assert view.dedup_totals() == DedupTotals(2, 2003, 1001, 2003)
        assert view.pinned_hashes(manifest, 0) == (chunk(1).hash, chunk(2).hash)
        assert [tuple(found) for found in view.pin_batches(manifest)] == [(manifest, 0, 2)]
        assert view.blob_references(pack) == 2 and view.blob_is_known(pack)


def test_a_second_copy_of_a_chunk_stays_unused(store: CommittedStore) -> None:
    first, second = store.new_blob(), store.new_blob()
    pin(store, store.new_blob(), [placed(1, first)])
    pin(store, store.new_blob(), [placed(1, second)])
    found = place(store, 1)
    assert found is not None and found.pack == first
    with store.view() as view:
        assert not view.blob_is_known(second)
        assert view.dedup_totals().referenced_client_bytes == 2 * 1001


def test_a_chunk_seen_in_a_snapshot_is_pinned_while_it_has_a_row_and_else_missing(store: CommittedStore) -> None:
    pack, manifest = store.new_blob(), store.new_blob()
    pin(store, manifest, [placed(1, pack)])
    assert pin(store, store.new_blob(), [wanted(2), wanted(1), wanted(3)]).missing == (0, 2)
    nothing = pin(store, store.new_blob(), [wanted(2)])
    assert (nothing.sequence, nothing.missing) == (0, (0,))


def test_a_repeat_inside_a_body_counts_again(store: CommittedStore) -> None:
    pack, manifest = store.new_blob(), store.new_blob()
    assert pin(store, manifest, [placed(1, pack), wanted(1), placed(1, pack, 5000)]).missing == ()
    with store.view() as view:
        assert dict(view.chunk_rows())[chunk(1).hash].references == 3
    assert place(store, 1) == ChunkPlace(pack, 1000, 500, 1001, 1)
    free(store, manifest)
    assert place(store, 1) is None


def test_a_pack_may_come_with_every_batch_or_only_with_the_first(store: CommittedStore) -> None:
    pack, manifest = store.new_blob(), store.new_blob()
    pin(store, manifest, [placed(1, pack)])
    pin(store, manifest, [placed(2, pack)], batch=1)
    pin(store, manifest, [placed(3, pack)], batch=2, packs=())
    with store.view() as view:
        assert [found.batch for found in view.pin_batches(manifest)] == [0, 1, 2]
        assert view.blob_references(pack) == 3


def test_the_same_operation_asked_again_is_answered_and_not_done_again(store: CommittedStore) -> None:
    pack, manifest = store.new_blob(), store.new_blob()
    operation = ops.PinChunks(
        id=store.id(),
        manifest=manifest,
        batch=0,
        chunks=(placed(1, pack), wanted(9)),
        new_blobs=(ops.NewBlob(pack, PACK_BYTES),),
    )
    first = store.commit(operation)
    assert store.commit(operation) == first
    assert first.missing == (1,)
    with store.view() as view:
        assert dict(view.chunk_rows())[chunk(1).hash].references == 1


def refused(store: CommittedStore, operation: ops.Operation, text: str) -> None:
    """Refused, and neither a chunk, a pin nor a garbage row is another than before."""

    def rows() -> tuple[object, ...]:
        with store.view() as view:
            return list(view.chunk_rows()), list(view.garbage())

    before = rows()
    with pytest.raises(InvalidArgument, match=text):
        store.commit(operation)
    assert rows() == before


def pinning(
    store: CommittedStore, manifest: BlobId, *pins: ChunkPin, packs: tuple[ops.NewBlob, ...] = ()
) -> ops.PinChunks:
    return ops.PinChunks(id=store.id(), manifest=manifest, batch=0, chunks=pins, new_blobs=packs)


def test_a_batch_that_is_empty_or_too_long_is_refused(store: CommittedStore) -> None:
    refused(store, pinning(store, store.new_blob()), "must be 1 to 1000")
    refused(store, pinning(store, store.new_blob(), *[wanted(1)] * 1001), "must be 1 to 1000")


def test_a_batch_is_pinned_once(store: CommittedStore) -> None:
    pack, manifest = store.new_blob(), store.new_blob()
    pin(store, manifest, [placed(1, pack)])
    refused(store, pinning(store, manifest, wanted(1)), "is pinned")


def test_a_manifest_that_was_committed_pins_nothing_more(store: CommittedStore, bucket: BucketId) -> None:
    manifest = put_body(store, bucket, "k", [1])
    refused(store, ops.PinChunks(id=store.id(), manifest=manifest, batch=1, chunks=(wanted(1),)), "committed before")
    store.remove(bucket, "k")
    refused(store, ops.PinChunks(id=store.id(), manifest=manifest, batch=1, chunks=(wanted(1),)), "committed before")


def test_store_rule_10_manifest_and_packs_lie_in_the_senders_open_epoch(store: CommittedStore) -> None:
    foreign = BlobId(SegmentId(5), 0)
    refused(store, pinning(store, foreign, wanted(1)), "outside the sender's open epoch")
    operation = pinning(store, store.new_blob(), placed(1, foreign), packs=(ops.NewBlob(foreign, PACK_BYTES),))
    refused(store, operation, "outside the sender's open epoch")
    refused(store, pinning(store, store.new_blob(), placed(1, foreign)), "outside the sender's open epoch")


def test_a_place_lies_in_a_pack_that_was_offered_and_inside_it(store: CommittedStore, bucket: BucketId) -> None:
    manifest, pack = store.new_blob(), store.new_blob()
    refused(store, pinning(store, manifest, placed(1, pack)), "no pack")
    new = (ops.NewBlob(pack, PACK_BYTES),)
    refused(store, pinning(store, manifest, placed(1, pack, PACK_BYTES - 499), packs=new), "are none")
    refused(store, pinning(store, manifest, placed(1, pack, -1), packs=new), "are none")
    empty = ChunkPin(chunk(1), ChunkPlace(pack, 0, 0, 1001, 1))
    refused(store, pinning(store, manifest, empty, packs=new), "are none")
    blob = store.put_blob(bucket, "no pack")
    refused(store, pinning(store, manifest, placed(1, blob)), "no pack")
    refused(store, pinning(store, manifest, placed(1, blob), packs=(ops.NewBlob(blob, 100_000),)), "no pack")


def test_a_pack_does_not_change_its_length(store: CommittedStore) -> None:
    pack, manifest = store.new_blob(), store.new_blob()
    pin(store, manifest, [placed(1, pack)])
    changed = (ops.NewBlob(pack, 2 * PACK_BYTES),)
    refused(store, pinning(store, store.new_blob(), placed(2, pack), packs=changed), "other lengths")


def test_a_chunk_has_one_length_and_a_hash_of_32_bytes(store: CommittedStore) -> None:
    pack = store.new_blob()
    pin(store, store.new_blob(), [placed(1, pack)])
    refused(store, pinning(store, store.new_blob(), ChunkPin(Chunk(chunk(1).hash, 5))), "has 1001 bytes")
    refused(store, pinning(store, store.new_blob(), ChunkPin(Chunk(b"short", 5))), "32 bytes")
    place = ChunkPlace(pack, 0, 10, 11, 0)
    refused(store, pinning(store, store.new_blob(), ChunkPin(Chunk(chunk(2).hash, 12), place)), "has 11 bytes")


# ------------------------------------------------------------------------------------------------------- freeing


def test_pitfall_p8_two_equal_bodies_share_chunks_and_the_death_of_one_leaves_the_other(
    store: CommittedStore, bucket: BucketId
) -> None:
    first = put_body(store, bucket, "a", [1])
    second = put_body(store, bucket, "b", [1])
    with store.view() as view:
        assert dict(view.chunk_rows())[chunk(1).hash].references == 2
    store.remove(bucket, "a")
    free(store, first)
    found = place(store, 1)
    assert found is not None and garbage(store) == {first}
    store.remove(bucket, "b")
    free(store, second)
    assert place(store, 1) is None
    assert garbage(store) == {first, second, found.pack}


def test_zero_is_final_and_who_wants_the_chunk_writes_it_again(store: CommittedStore, bucket: BucketId) -> None:
    manifest = dead_body(store, bucket, [1, 2])
    pack = (place(store, 1) or pytest.fail()).pack
    free(store, manifest)
    assert pack in garbage(store)
    assert pin(store, store.new_blob(), [wanted(1)]).missing == (0,)
    again = put_body(store, bucket, "again", [1])
    found = place(store, 1)
    assert found is not None and found.pack != pack and again not in garbage(store)


def test_a_copy_in_a_pack_that_is_garbage_counts_as_none(store: CommittedStore) -> None:
    pack, manifest = store.new_blob(), store.new_blob()
    pin(store, manifest, [placed(1, pack)])
    free(store, manifest)
    assert garbage(store) == {pack}
    assert pin(store, store.new_blob(), [placed(2, pack)]).missing == (0,)
    assert garbage(store) == {pack}


def test_freeing_a_batch_again_does_nothing(store: CommittedStore, bucket: BucketId) -> None:
    manifest = dead_body(store, bucket, [1])
    with store.view() as view:
        hashes = view.pinned_hashes(manifest, 0)
    other = put_body(store, bucket, "other", [1])
    free(store, manifest)
    assert free(store, manifest).sequence == 0
    again = ops.FreeChunks(id=store.id(), manifest=manifest, batch=0, hashes=hashes)
    assert store.commit(again).sequence == 0
    assert place(store, 1) is not None and other not in garbage(store)


def test_pins_of_a_manifest_that_is_referred_to_are_not_freed(store: CommittedStore, bucket: BucketId) -> None:
    manifest = put_body(store, bucket, "k", [1])
    refused(store, ops.FreeChunks(id=store.id(), manifest=manifest, batch=0, hashes=(chunk(1).hash,)), "is referred to")


def test_pins_of_a_body_in_flight_are_not_freed_by_another_epoch(store: CommittedStore) -> None:
    manifest, pack = store.new_blob(), store.new_blob()
    pin(store, manifest, [placed(1, pack)])
    own, steward = store.epoch, store.commit(ops.OpenEpoch(id=OperationId(Epoch(0), 0), role="steward")).sequence
    freeing = ops.FreeChunks(id=OperationId(Epoch(steward), 1), manifest=manifest, batch=0, hashes=(chunk(1).hash,))
    refused(store, freeing, "another epoch's")
    store.close_epoch()
    assert store.commit(freeing).sequence
    assert place(store, 1) is None
    assert own != steward
    store.epoch = steward


def test_the_hashes_of_a_batch_come_whole(store: CommittedStore, bucket: BucketId) -> None:
    manifest = dead_body(store, bucket, [1, 2])
    refused(store, ops.FreeChunks(id=store.id(), manifest=manifest, batch=0, hashes=(chunk(1).hash,)), "pins 2 chunks")
    refused(store, ops.FreeChunks(id=store.id(), manifest=manifest, batch=0, hashes=(b"x", b"y")), "pins 2 chunks")


def test_a_manifest_keeps_its_garbage_row_while_it_pins(store: CommittedStore, bucket: BucketId) -> None:
    manifest = dead_body(store, bucket, [1])
    refused(store, ops.DropGarbage(id=store.id(), blobs=(manifest,)), "to be freed first")
    free(store, manifest)
    store.commit(ops.DropGarbage(id=store.id(), blobs=(manifest,)))
    assert manifest not in garbage(store)


# -------------------------------------------------------------------------------------------------------- moving


def test_moved_chunks_lie_in_the_new_pack_and_the_old_one_dies_with_the_last(
    store: CommittedStore, bucket: BucketId
) -> None:
    put_body(store, bucket, "k", [1, 2])
    old = (place(store, 1) or pytest.fail()).pack
    new = store.new_blob()
    assert move(store, old, new, [(1, 7)]).missing == ()
    assert place(store, 1) == ChunkPlace(new, 7, 500, 1001, 1)
    assert garbage(store) == set()
    assert move(store, old, new, [(1, 7), (2, 600), (3, 0)]).missing == (0, 2)
    assert garbage(store) == {old}
    nothing = move(store, old, new, [(1, 7)])
    assert (nothing.sequence, nothing.missing) == (0, (0,))


def test_a_chunk_that_died_and_was_written_again_elsewhere_is_not_moved(
    store: CommittedStore, bucket: BucketId
) -> None:
    manifest = put_body(store, bucket, "k", [1, 2])
    old = (place(store, 1) or pytest.fail()).pack
    store.remove(bucket, "k")
    free(store, manifest)
    put_body(store, bucket, "l", [1])
    at = place(store, 1)
    assert move(store, old, store.new_blob(), [(1, 0), (2, 500)]).missing == (0, 1)
    assert place(store, 1) == at


def test_moves_are_refused_into_what_is_no_new_pack_of_the_sender(store: CommittedStore, bucket: BucketId) -> None:
    put_body(store, bucket, "k", [1])
    old = (place(store, 1) or pytest.fail()).pack
    dead, manifest = store.new_blob(), store.new_blob()
    pin(store, manifest, [placed(9, dead)])
    free(store, manifest)
    for new, reason in ((BlobId(SegmentId(5), 0), "open epoch"), (dead, "garbage"), (old, "is the old one")):
        with pytest.raises(InvalidArgument, match=reason):
            move(store, old, new, [(1, 0)])
    with pytest.raises(InvalidArgument, match="lies outside"):
        move(store, old, store.new_blob(), [(1, PACK_BYTES)])
    with pytest.raises(InvalidArgument, match="must be 1 to 1000"):
        move(store, old, store.new_blob(), [])


def test_many_chunks_travel_in_one_operation(store: CommittedStore, bucket: BucketId) -> None:
    manifest, pack = store.new_blob(), store.new_blob()
    pin(store, manifest, [placed(number, pack) for number in range(1000)])
    put_manifest(store, bucket, "k", manifest)
    with store.view() as view:
        assert view.dedup_totals().chunks == 1000 == len(view.pinned_hashes(manifest, 0))
