"""Epochs, the blobs they name, and operations that are asked again."""

from __future__ import annotations

from typing import Any

import pytest

from rs3d import errors
from rs3d.stores.submitted import Submitted
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BlobId, BucketId, Epoch, OperationId, SegmentId
from rs3d.types.objects import (
    Extent,
)
from tests.stores.committed import CommittedStore


def test_store_rule_10_a_blob_outside_the_senders_epoch_is_refused(store: CommittedStore, bucket: BucketId) -> None:
    blob = BlobId(SegmentId(12345), 0)
    with pytest.raises(errors.InvalidArgument, match="epoch"):
        store.put(bucket, "key", placement=Extent(blob, 0, 5), size=5, new_blobs=(ops.NewBlob(blob, 5),))
    mine = store.new_blob()
    store.epoch = int(store.commit(ops.OpenEpoch(id=OperationId(Epoch(0), 0), role="other")).sequence)
    with pytest.raises(errors.InvalidArgument, match="epoch"):
        store.put(bucket, "key", placement=Extent(mine, 0, 5), size=5, new_blobs=(ops.NewBlob(mine, 5),))


def test_store_rule_10_a_closed_epoch_commits_nothing_more(store: CommittedStore, bucket: BucketId) -> None:
    operation = store.put_operation(bucket, "key")
    store.close_epoch()
    with pytest.raises(errors.InvalidArgument, match="not open"):
        store.commit(operation)


def test_store_rule_10_only_segments_of_closed_epochs_are_swept(store: CommittedStore) -> None:
    segment = store.new_blob().segment
    with pytest.raises(errors.InvalidArgument):
        store.commit(ops.SegmentSwept(id=store.id(), segment=segment))
    store.close_epoch()
    store.epoch = int(store.commit(ops.OpenEpoch(id=OperationId(Epoch(0), 0), role="steward")).sequence)
    with store.view() as view:
        assert [(row.segment, row.closed, row.swept) for row in view.blob_segments()] == [(segment, True, False)]
    store.commit(ops.SegmentSwept(id=store.id(), segment=segment))
    with store.view() as view:
        assert [row.swept for row in view.blob_segments()] == [True]
        assert [state.role for state in view.epochs()] == ["steward"]


def test_a_blob_is_committed_once(store: CommittedStore, bucket: BucketId) -> None:
    blob = store.put_blob(bucket, "key", 5)
    again: dict[str, Any] = {"placement": Extent(blob, 0, 5), "size": 5, "new_blobs": (ops.NewBlob(blob, 5),)}
    with pytest.raises(errors.InvalidArgument, match="before"):
        store.put(bucket, "other", **again)
    store.remove(bucket, "key")
    with pytest.raises(errors.InvalidArgument, match="before"):
        store.put(bucket, "other", **again)


def test_store_rule_14_zero_is_final(store: CommittedStore, bucket: BucketId) -> None:
    blob = store.put_blob(bucket, "key", 5)
    store.put(bucket, "copy", placement=Extent(blob, 0, 5), size=5)
    store.remove(bucket, "key")
    with store.view() as view:
        assert view.blob_references(blob) == 1 and list(view.garbage()) == []
    store.remove(bucket, "copy")
    with store.view() as view:
        assert [row.blob for row in view.garbage()] == [blob]
    with pytest.raises(errors.StaleSource):
        store.put(bucket, "late", placement=Extent(blob, 0, 5), size=5)
    store.commit(ops.DropGarbage(id=store.id(), blobs=(blob,)))
    with store.view() as view:
        assert list(view.garbage()) == []


def test_a_self_copy_keeps_its_blob(store: CommittedStore, bucket: BucketId) -> None:
    blob = store.put_blob(bucket, "key", 5)
    store.put(bucket, "key", placement=Extent(blob, 0, 5), size=5)
    with store.view() as view:
        assert view.blob_references(blob) == 1 and list(view.garbage()) == []


def test_store_rule_11_an_operation_asked_again_is_answered_again(store: CommittedStore, bucket: BucketId) -> None:
    store.versioning(bucket, Versioning.ENABLED)
    operation = store.put_operation(bucket, "key")
    first, again = store.commit(operation), store.commit(operation)
    assert first == again
    with store.view() as view:
        assert view.counters(bucket).versions == 1
    store.opened.core.tables.environment.sync(True)
    epoch = store.epoch
    store.catalog.close()
    store.opened.close()
    store.open()  # the committer died; the worker lives on and asks its successor
    store.epoch = epoch
    assert store.commit(operation) == first


def test_store_rule_11_outcomes_are_rebuilt_from_the_log(store: CommittedStore, bucket: BucketId) -> None:
    operation = store.put_operation(bucket, "key")
    first, epoch = store.commit(operation), store.epoch
    store.without_catalog()
    store.epoch = epoch
    assert store.commit(operation) == first


def test_store_rule_11_refusals_are_not_remembered(store: CommittedStore, bucket: BucketId) -> None:
    operation = store.put_operation(bucket, "key", preconditions=ops.Preconditions(if_match=("*",)))
    with pytest.raises(errors.NoSuchKey):
        store.commit(operation)
    store.put(bucket, "key")
    store.commit(operation)


def test_store_rule_11_answered_outcomes_are_forgotten(store: CommittedStore, bucket: BucketId) -> None:
    for _ in range(5):
        operation = store.put_operation(bucket, "key")
        store.core.execute([Submitted(operation, store.epoch, operation.id.counter)])
    with store.tables.environment.begin() as view:
        row = view.get(store.epoch.to_bytes(8, "big"), db=store.tables.operations.handle)
    assert row is not None and len(row) < 150
