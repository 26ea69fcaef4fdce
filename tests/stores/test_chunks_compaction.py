"""Records of chunks in a log that is compacted: where chunks lie follows from what is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.stores.compaction import Compacted, compact
from rs3d.types import operations as ops
from rs3d.types.identifiers import BlobId, BucketId
from tests.stores.chunked import check_counts, free, move, place, put_body
from tests.stores.committed import CommittedStore, rows_without_positions


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    opened = CommittedStore(tmp_path, segment_bytes=16 << 10)
    yield opened
    opened.close()


@pytest.fixture
def bucket(store: CommittedStore) -> BucketId:
    return store.bucket()


def fill(store: CommittedStore, bucket: BucketId) -> None:
    """Begin another log segment, for certain."""
    for _ in range(6):
        store.put(bucket, "filling", b"x" * 4000)


def compact_all(store: CommittedStore, first: int = 1) -> None:
    done = Compacted()
    for _ in compact(store.core, first=first, last=0, result=done):
        pass
    assert done.sources
    store.commit(ops.DropLogSegments(id=store.id(), numbers=done.sources))


def rebuild(store: CommittedStore) -> None:
    store.close_epoch()
    before = rows_without_positions(store.tables)
    store.without_catalog()
    store.close_epoch()
    assert rows_without_positions(store.tables) == before
    check_counts(store)


def pack_of(store: CommittedStore, number: int) -> BlobId:
    found = place(store, number)
    assert found is not None
    return found.pack


def test_a_move_outlives_the_compaction_of_its_record(store: CommittedStore, bucket: BucketId) -> None:
    put_body(store, bucket, "k", [1, 2])
    fill(store, bucket)
    new = store.new_blob()
    move(store, pack_of(store, 1), new, [(1, 0), (2, 600)])
    fill(store, bucket)
    compact_all(store)
    rebuild(store)
    assert pack_of(store, 1) == pack_of(store, 2) == new


def test_a_chunk_that_moved_twice_lies_where_the_last_move_led_though_the_first_is_dropped(
    store: CommittedStore, bucket: BucketId
) -> None:
    put_body(store, bucket, "k", [1])
    fill(store, bucket)
    between, last = store.new_blob(), store.new_blob()
    move(store, pack_of(store, 1), between, [(1, 0)])
    fill(store, bucket)
    move(store, between, last, [(1, 40)])
    fill(store, bucket)
    compact_all(store)
    rebuild(store)
    assert pack_of(store, 1) == last


def test_the_first_pin_of_a_chunk_may_be_dropped_while_a_later_one_lives(
    store: CommittedStore, bucket: BucketId
) -> None:
    first = put_body(store, bucket, "first", [1, 2])
    old = pack_of(store, 1)
    fill(store, bucket)
    put_body(store, bucket, "second", [1])
    store.remove(bucket, "first")
    free(store, first)
    fill(store, bucket)
    compact_all(store)
    rebuild(store)
    assert pack_of(store, 1) == old and place(store, 2) is None


def test_what_kept_a_pack_alive_in_between_may_be_dropped(store: CommittedStore, bucket: BucketId) -> None:
    """In the replay the pack is garbage for a while, and comes back with a pin that the commits made of a living
    chunk."""
    first = put_body(store, bucket, "first", [1])
    pack = pack_of(store, 1)
    fill(store, bucket)
    with store.view() as view:
        middle_first = max(row.first for _, row in view.log_segments())
    between = put_body(store, bucket, "between", [1])
    fill(store, bucket)
    store.remove(bucket, "first")
    free(store, first)
    put_body(store, bucket, "last", [1])
    store.remove(bucket, "between")
    free(store, between)
    fill(store, bucket)
    done = Compacted()
    for _ in compact(store.core, first=middle_first, last=middle_first, result=done):
        pass
    assert done.sources == (middle_first,)
    rebuild(store)
    with store.view() as view:
        assert view.blob_references(pack) == 1
        assert pack not in {row.blob for row in view.garbage()}
