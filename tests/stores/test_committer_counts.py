"""What rs3d_committed_operations_total counts: operations that were carried out, each once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.stores.submitted import Submitted
from rs3d.types import operations as ops
from rs3d.types.identifiers import BucketId
from rs3d.types.objects import ObjectMeta
from tests.stores.committed import ETAG, OWNER, CommittedStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    opened = CommittedStore(tmp_path)
    yield opened
    opened.close()


def counted(store: CommittedStore, *operations: ops.Operation) -> tuple[int, int]:
    """How many operations of one batch succeed, and how many are counted."""
    before = store.core.committed
    replies = store.core.execute([Submitted(operation, operation.id.epoch) for operation in operations])
    return sum(reply.error is None for reply in replies), store.core.committed - before


def refused_put(store: CommittedStore) -> ops.PutVersion:
    return store.put_operation(BucketId(999), "of no bucket")


def test_a_refusal_beside_a_success_is_not_counted(store: CommittedStore) -> None:
    bucket = store.bucket()
    operations = [store.put_operation(bucket, "key"), refused_put(store), store.put_operation(bucket, "other")]
    assert counted(store, *operations) == (2, 2)


def test_a_batch_of_refusals_counts_for_nothing(store: CommittedStore) -> None:
    assert counted(store, refused_put(store), refused_put(store)) == (0, 0)


def test_what_was_carried_out_already_is_counted_though_nothing_is_written(store: CommittedStore) -> None:
    operation = store.put_operation(store.bucket(), "key")
    assert counted(store, operation) == (1, 1)
    assert counted(store, operation) == (1, 1)


def test_a_batch_that_is_run_again_one_by_one_is_counted_once(store: CommittedStore) -> None:
    bucket = store.bucket()
    unusable = store.put_operation(bucket, "unusable", etag="not hex")
    assert counted(store, store.put_operation(bucket, "key"), unusable, refused_put(store)) == (1, 1)


def test_an_operation_whose_numbers_fit_no_counter_fails_alone(store: CommittedStore) -> None:
    bucket = store.bucket()
    huge = store.put_operation(bucket, "huge", meta=ObjectMeta(size_bytes=1 << 63, etag=ETAG, owner=OWNER))
    assert counted(store, store.put_operation(bucket, "key"), huge, store.put_operation(bucket, "other")) == (2, 2)
    assert store.keys(bucket) == ["key", "other"]
