"""What the one writer remembers of gathered rows between its transactions is what the catalog holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs3d.errors import OutcomeUnknown, RecordDamaged
from rs3d.format.rows import LogSegmentRow, Tail
from rs3d.kernels.smallput import first_row
from rs3d.stores.catalogwriter import OBJECTS, TAIL_KEY, CatalogTransaction, Known
from rs3d.types import operations as ops
from rs3d.types.identifiers import BucketId
from rs3d.types.identities import User
from rs3d.types.objects import CanonicalId
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


def test_a_buckets_row_is_found_with_the_generation_of_identities(store: CommittedStore) -> None:
    catalog = store.catalog
    assert catalog.row_of_bucket(b"bucket")[0] is None
    store.bucket("bucket")
    store.commit(ops.PutUser(id=store.id(), user=User(name="n", canonical_id=CanonicalId("ab" * 32), display_name="n")))
    with store.view() as view:
        # While this thread has a view open, too.
        found = catalog.row_of_bucket(b"bucket")
        assert found == (view.stored_bucket(b"bucket"), view.identity_generation, view.sequence)
    assert found[0] is not None and found[1] > 0


def test_a_generation_in_a_damaged_row_is_not_believed(store: CommittedStore) -> None:
    store.bucket("bucket")
    state = store.tables.state
    with store.tables.environment.begin(write=True) as transaction:
        sealed = transaction.get(TAIL_KEY, db=state.handle)
        assert sealed is not None
        changed = bytearray(sealed)
        changed[20] ^= 1  # of the generation
        transaction.put(TAIL_KEY, bytes(changed), db=state.handle)
    with pytest.raises(RecordDamaged, match="state"):
        store.catalog.row_of_bucket(b"bucket")


@given(
    keys=st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=8, unique=True),
    sought=st.binary(min_size=1, max_size=3),
    flipped=st.none() | st.integers(0, 7),
)
@settings(max_examples=300, deadline=None)
def test_the_rows_beside_a_key_are_met_by_the_kernel_as_by_the_transaction(
    keys: list[bytes], sought: bytes, flipped: int | None
) -> None:
    """Any rows, one of which may be damaged: the same row, none at all, or damage, on both ways."""
    with tempfile.TemporaryDirectory() as folder:
        store = CommittedStore(Path(folder))
        try:
            transaction = CatalogTransaction(store.tables)
            versions = store.tables.versions
            for number, key in enumerate(sorted(keys)):
                value = versions.seal(key, b"value")
                if number == flipped:
                    value = value[:-1] + bytes((value[-1] ^ 1,))
                transaction.lmdb.put(key, value, db=versions.handle)
            met = first_row(transaction.lmdb.cursor(versions.handle), sought, versions.seed)
            try:
                assert met == transaction.first_row(sought)
            except RecordDamaged:
                assert met is False
            transaction.abort()
        finally:
            store.close()
