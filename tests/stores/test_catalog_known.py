"""What the one writer remembers of gathered rows between its transactions is what the catalog holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs3d.errors import OutcomeUnknown, RecordDamaged
from rs3d.format.rows import TAIL, LogSegmentRow, Tail
from rs3d.stores.catalogwriter import OBJECTS, TAIL_KEY, CatalogTransaction, Known
from rs3d.types import operations as ops
from rs3d.types.identifiers import BucketId
from rs3d.types.identities import User
from rs3d.types.objects import CanonicalId
from tests.stores.bothways import long_put, small_put, small_removal
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


KINDS = ("put", "remove", "long", "other")


class _NeverHot:
    """In the place of the kernel: everything is gathered and flushed."""

    def write(self, *given: Any) -> bool:
        return False


def every_row(store: CommittedStore) -> dict[str, list[tuple[bytes, bytes]]]:
    with store.tables.environment.begin() as view:
        return {table.name: list(view.cursor(db=table.handle)) for table in store.tables.all}


@given(
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5)), min_size=1, max_size=6),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_hot_rows_are_written_by_the_kernel_as_they_are_flushed(batches: list[list[tuple[str, int]]]) -> None:
    """Small writes in two buckets, among them general ones, over several segments of the log: every row of every table,
    the tail's too, and what is known of them."""
    with tempfile.TemporaryDirectory() as folder:
        found: list[object] = []
        for name in ("gathered", "hot"):
            (Path(folder) / name).mkdir()
            store = CommittedStore(Path(folder) / name, segment_bytes=16 << 10)
            try:
                if name == "gathered":
                    store.core._hot_rows = _NeverHot()  # type: ignore[assignment]
                buckets = store.bucket("one"), store.bucket("two")
                for batch in batches:
                    made: list[ops.Operation] = []
                    for kind, number in batch:
                        bucket, key = buckets[number & 1], f"k{number}"
                        if kind in ("put", "other"):
                            made.append(small_put(store, bucket, key, b"x" * (900 if kind == "other" else number)))
                        elif kind == "remove":
                            made.append(small_removal(store, bucket, key))
                        else:
                            made.append(long_put(store, bucket, key, b"long"))
                    store.commit_all(*made)
                known, rows = store.core._known, every_row(store)
                (sealed,) = [sealed for key, sealed in rows.pop(store.tables.state.name) if key == TAIL_KEY]
                tail = Tail(*TAIL.unpack(store.tables.state.unseal(TAIL_KEY, sealed)))
                assert known.tail is None or known.tail == tail  # None where the last batch changed nothing
                # The CRCs of records begin with a number of chance.
                found.append((rows, tail._replace(crc=0), known.tail is None, known.active_number, known.active))
                found.append((known.counters.keys(), {epoch: dict(kept) for epoch, kept in known.outcomes.items()}))
            finally:
                store.close()
        assert found[:2] == found[2:]


def test_hot_rows_that_are_not_known_are_left_to_the_flush(store: CommittedStore) -> None:
    bucket = store.bucket()
    known = store.core._known
    known.clear()
    store.commit(small_put(store, bucket, "k", b"data"))
    before = known.tail
    assert before is not None and known.active is not None
    store.commit_all(small_put(store, bucket, "l", b"data"), small_removal(store, bucket, "k"))
    after = known.tail
    assert after is not None and (after.segment, after.records) == (before.segment, before.records + 2)
    store.reopen()
    with store.view() as view:
        assert view.sequence >= after.sequence
    assert store.keys(bucket) == ["l"]
