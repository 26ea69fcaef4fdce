"""What the one writer remembers of gathered rows between its transactions is what the catalog holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from rs3d.errors import OutcomeUnknown
from rs3d.format.rows import LogSegmentRow, Tail
from rs3d.stores.catalogwriter import OBJECTS, CatalogTransaction, Known
from rs3d.types.identifiers import BucketId
from tests.stores.committed import CommittedStore

EPOCH = 77


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    store = CommittedStore(tmp_path)
    yield store
    store.close()


def stored(store: CommittedStore, bucket: BucketId) -> tuple[int, dict[int, bytes]]:
    """Counter and outcomes as a transaction reads them that remembers nothing."""
    transaction = CatalogTransaction(store.tables)
    try:
        return transaction.counters(bucket)[OBJECTS], dict(transaction.outcomes(EPOCH))
    finally:
        transaction.abort()


def change(transaction: CatalogTransaction, bucket: BucketId, counter: int) -> None:
    transaction.counters(bucket)[OBJECTS] += 1
    transaction.outcomes(EPOCH)[counter] = b"%d" % counter


def test_what_a_transaction_wrote_is_known_to_the_next(store: CommittedStore) -> None:
    bucket, known = BucketId(5), Known()
    for counter in (1, 2, 3):
        transaction = CatalogTransaction(store.tables, known=known)
        change(transaction, bucket, counter)
        transaction.commit()
        remembered = known.counters[bucket][OBJECTS], known.outcomes[EPOCH]
        assert remembered == stored(store, bucket) == (counter, {n: b"%d" % n for n in range(1, counter + 1)})


@pytest.mark.parametrize("is_flushed", [False, True])
def test_what_was_undone_is_not_known(store: CommittedStore, is_flushed: bool) -> None:
    bucket, known = BucketId(5), Known()
    transaction = CatalogTransaction(store.tables, known=known)
    change(transaction, bucket, 1)
    transaction.commit()
    transaction = CatalogTransaction(store.tables, known=known)
    change(transaction, bucket, 2)
    if is_flushed:
        transaction.flush()
        known.clear()  # as whoever undoes a flushed one has to
    transaction.abort()
    transaction = CatalogTransaction(store.tables, known=known)
    found = transaction.counters(bucket)[OBJECTS], transaction.outcomes(EPOCH)
    transaction.abort()
    assert found == (1, {1: b"1"})


def test_what_an_abandoned_child_did_is_not_known(store: CommittedStore) -> None:
    bucket, known = BucketId(5), Known()
    transaction = CatalogTransaction(store.tables, known=known)
    change(transaction, bucket, 1)
    child = transaction.child()
    change(child, bucket, 2)
    child.flush()
    transaction.abandon(child)
    change(transaction, bucket, 3)
    transaction.commit()
    assert stored(store, bucket) == (2, {1: b"1", 3: b"3"})


def test_dropped_rows_are_not_known(store: CommittedStore) -> None:
    bucket, known = BucketId(5), Known()
    transaction = CatalogTransaction(store.tables, known=known)
    change(transaction, bucket, 1)
    transaction.commit()
    transaction = CatalogTransaction(store.tables, known=known)
    transaction.drop_counters(bucket)
    transaction.drop_outcomes(EPOCH)
    transaction.commit()
    assert not known.counters and not known.outcomes
    assert stored(store, bucket) == (0, {})


def test_a_batch_that_could_not_be_committed_leaves_nothing_known(
    store: CommittedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.bucket()
    known = store.core._known
    assert known.outcomes, "or this shows nothing"

    def fail(transaction: CatalogTransaction) -> None:
        transaction.flush()
        transaction.lmdb.abort()
        raise lmdb.Error("no space")

    monkeypatch.setattr(CatalogTransaction, "commit", fail)
    with pytest.raises(OutcomeUnknown, match="no space"):
        store.bucket("second")
    assert not known.buckets and not known.counters and not known.outcomes


def tail_and_active_row(store: CommittedStore) -> tuple[Tail, LogSegmentRow | None]:
    """As a transaction reads them that remembers nothing."""
    transaction = CatalogTransaction(store.tables)
    try:
        return transaction.tail, transaction.log_segment(transaction.tail.segment)
    finally:
        transaction.abort()


def test_tail_and_active_row_are_remembered_as_they_are_stored(store: CommittedStore) -> None:
    bucket, known = store.bucket(), store.core._known
    segments = set()
    for number in range(12):
        store.put(bucket, f"k{number % 5}", b"x" * 60_000)  # replaced ones die in this segment or an older one
        segments.add(known.active_number)
        assert (known.tail, known.active) == tail_and_active_row(store)
        assert known.tail is not None and known.tail.segment == known.active_number
    assert len(segments) > 2


def test_tail_and_active_row_are_read_again_after_what_was_undone(store: CommittedStore) -> None:
    bucket, known = BucketId(5), Known()
    transaction = CatalogTransaction(store.tables, known=known)
    before = transaction.tail
    change(transaction, bucket, 1)
    transaction.flush()
    child = transaction.child()
    child.log_appended(before.segment, before.sequence + 1, before.offset + 64, 1, 64)
    child.flush()
    assert known.tail != before
    transaction.abandon(child)
    assert (known.tail, known.active) == (None, None)
    transaction.abort()
    transaction = CatalogTransaction(store.tables, known=known)
    found = transaction.tail
    transaction.abort()
    assert found == before
