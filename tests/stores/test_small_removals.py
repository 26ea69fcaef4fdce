"""RemoveSmall leaves in log and catalog what the RemoveVersion of the same key leaves, whatever stands beside it in a
batch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs3d.errors import InvalidArgument, NoSuchBucket, ObjectLocked, RecordDamaged, StoreReadOnly
from rs3d.stores.blobput import BlobPut
from rs3d.stores.committer import DAMAGE_REASON
from rs3d.stores.messages import decode_operation, encode_operation
from rs3d.stores.smallput import SmallPut
from rs3d.stores.smallremoval import SmallRemoval, encode_small_removal
from rs3d.stores.submitted import Submitted
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BlobId, BucketId, SegmentId
from rs3d.types.objects import Extent, LegalHold, MutablePart, Retention, RetentionMode
from tests.stores.bothways import (
    blob_put,
    bodies,
    long_put,
    long_removal,
    remember_short_way,
    rows,
    small_put,
    small_removal,
)
from tests.stores.committed import OWNER, CommittedStore, rows_without_positions

KEYS = ("a", "a/b", "b", "k" * 462, "k" * 463, "ü", "nul\0nul")
MUTABLE = {
    "tagged": MutablePart(tags=(("a", "b"),)),
    "held": MutablePart(legal_hold=LegalHold.ON),
    "retained": MutablePart(retention=Retention(RetentionMode.COMPLIANCE, 1 << 62)),
    "was retained": MutablePart(retention=Retention(RetentionMode.GOVERNANCE, 1)),
}
KINDS = (
    "put",
    "put",
    "put",
    "remove",
    "remove",
    "remove",
    "remove null",
    "blob",
    "blob",
    "long blob",
    "copy",
    *MUTABLE,
)
Removals = list[bytes | None]


class Step(NamedTuple):
    """An operation on a key."""

    kind: str
    key: str
    size: int = 10


steps = st.builds(Step, st.sampled_from(KINDS), st.sampled_from(KEYS), st.sampled_from((0, 1, 300)))
batches = st.lists(st.lists(steps, min_size=1, max_size=8), min_size=1, max_size=6)


def execute(store: CommittedStore, operations: list[ops.Operation], *, are_sent: bool = True) -> list[bytes | str]:
    """One batch: the outcomes and refusals of all. Operations that are not sent go the way of all: a message may be of
    a form of its own."""
    store.clock.advance(0.001)
    received = [
        decode_operation(memoryview(b"".join(encode_operation(made, 0)))).operation if are_sent else made
        for made in operations
    ]
    replies = store.core.execute([Submitted(operation, store.epoch) for operation in received])
    return [repr(reply.error) if reply.outcome is None else reply.outcome for reply in replies]


class BothWays:
    """Two stores that are told the same: the first by general operations, the second by small ones."""

    def __init__(self, root: Path) -> None:
        self.stores: list[CommittedStore] = []
        for name in ("long", "small"):
            (root / name).mkdir()
            self.last_blob: dict[CommittedStore, BlobId] = {}
            self.stores.append(CommittedStore(root / name, map_bytes=16 << 20))
        self.bucket, other = (store.bucket() for store in self.stores)
        assert self.bucket == other

    def versioning(self, state: Versioning) -> None:
        for store in self.stores:
            store.versioning(self.bucket, state)

    def operation(self, number: int, step: Step) -> ops.Operation:
        store, bucket = self.stores[number], self.bucket
        kind, key, size = step
        if kind == "put":
            return (long_put, small_put)[number](store, bucket, key, b"x" * size)
        if kind == "remove":
            return (long_removal, small_removal)[number](store, bucket, key)
        if kind == "remove null":
            return ops.RemoveVersion(
                id=store.id(), bucket=bucket, key=key, token=store.token(), version="null", owner=OWNER
            )
        if kind in ("blob", "long blob"):
            mutable = MUTABLE["tagged"] if kind == "long blob" else MutablePart()
            made = blob_put(store, bucket, key, 9000 + size, "text/plain" if size else "", mutable=mutable)
            self.last_blob[store] = made.new_blobs[0].blob
            return made
        if kind == "copy":
            return store.put_operation(
                bucket, key, size=9000, placement=Extent(self.last_blob.get(store, BlobId(SegmentId(9), 9)), 0, 9000)
            )
        return store.put_operation(bucket, key, b"x" * size, mutable=MUTABLE[kind])

    def run(self, batch: list[Step]) -> list[bytes | str]:
        """Both answer the batch alike."""
        answers = [
            execute(store, [self.operation(number, step) for step in batch], are_sent=number == 1)
            for number, store in enumerate(self.stores)
        ]
        assert answers[0] == answers[1]
        return answers[1]

    def patch(self, key: str) -> None:
        """The version's state lies in a record of its own then."""
        for store in self.stores:
            with store.view() as view:
                found = view.latest(self.bucket, key)
            assert found is not None
            mutable = MutablePart(revision=found.mutable.revision, tags=(("c", "d"),))
            store.commit(
                ops.PatchVersion(id=store.id(), bucket=self.bucket, key=key, version=found.version, mutable=mutable)
            )

    def check(self) -> None:
        """Both hold the same, and the log alone leads there too."""
        long, small = self.stores
        assert rows(long) == rows(small)
        assert bodies(long) == bodies(small)
        small.close_epoch()
        before = rows_without_positions(small.tables)
        small.without_catalog()
        small.close_epoch()
        assert rows_without_positions(small.tables) == before

    def close(self) -> None:
        for store in self.stores:
            store.close()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[BothWays]:
    made = BothWays(tmp_path)
    yield made
    made.close()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Removals:
    """What the short way said of each removal that it was asked for: an outcome, or None."""
    return remember_short_way(monkeypatch, SmallRemoval)


@settings(max_examples=60, deadline=None)
@given(histories=st.lists(st.tuples(st.sampled_from((None, None, *Versioning)), batches), min_size=1, max_size=3))
def test_both_ways_leave_the_same_rows_records_and_answers(
    histories: list[tuple[Versioning | None, list[list[Step]]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        both = BothWays(Path(folder))
        try:
            for versioning, history in histories:
                if versioning in (Versioning.ENABLED, Versioning.SUSPENDED):
                    both.versioning(versioning)
                for batch in history:
                    both.run(batch)
            both.check()
        finally:
            both.close()


def test_what_is_put_and_removed_in_one_batch_keeps_its_order(both: BothWays, taken: Removals) -> None:
    put, remove = Step("put", "k", 40), Step("remove", "k")
    answers = both.run([put, remove, put, remove, remove, put, Step("blob", "b"), remove, put])
    assert [isinstance(answer, bytes) for answer in answers] == [True] * 9
    assert [said is not None for said in taken] == [True, True, False, True]  # one finds nothing there
    assert both.stores[1].keys(both.bucket) == ["b", "k"]
    both.check()


@pytest.mark.parametrize(
    ("kind", "is_short"),
    [("put", True), ("tagged", True), ("was retained", False), ("blob", True), ("long blob", True)],
)
def test_the_short_way_takes_objects_that_nothing_keeps(
    both: BothWays, taken: Removals, kind: str, is_short: bool
) -> None:
    both.run([Step(kind, "k"), Step("put", "other")])
    both.run([Step("remove", "k")])
    assert [said is not None for said in taken] == [is_short]
    assert both.stores[1].keys(both.bucket) == ["other"]
    both.check()


@pytest.mark.parametrize(
    ("kind", "is_short"),
    [("put", True), ("tagged", True), ("was retained", False), ("blob", True), ("long blob", True), ("copy", True)],
)
@pytest.mark.parametrize("versioning", [Versioning.UNVERSIONED, Versioning.SUSPENDED])
def test_a_put_replaces_such_an_object_the_short_way(
    both: BothWays, monkeypatch: pytest.MonkeyPatch, versioning: Versioning, kind: str, is_short: bool
) -> None:
    if versioning is Versioning.SUSPENDED:
        both.versioning(Versioning.ENABLED)
        both.run([Step("put", "k", 5)])
        both.versioning(versioning)
    both.run([Step("blob", "source"), Step(kind, "k", 20)])
    said = remember_short_way(monkeypatch, SmallPut, BlobPut)
    both.run([Step("put", "k", 30)])
    assert [outcome is not None for outcome in said] == [is_short]
    both.run([Step("put", "k", 0), Step("blob", "k", 7), Step("blob", "k", 8), Step("put", "k", 9), Step("put", "new")])
    assert len(said) == 6 and all(said[1:])
    both.check()


def test_a_locked_object_is_not_replaced(both: BothWays) -> None:
    both.run([Step("held", "k"), Step("retained", "l")])
    answers = both.run([Step("put", "k"), Step("put", "l")])
    assert [isinstance(answer, str) and answer.startswith(ObjectLocked.__name__) for answer in answers] == [True, True]


def test_a_patched_object_goes_the_long_way_for_its_second_record(both: BothWays, taken: Removals) -> None:
    both.run([Step("put", "k")])
    both.patch("k")
    both.run([Step("remove", "k")])
    assert taken == [None]
    both.check()


def test_a_blob_becomes_garbage(both: BothWays) -> None:
    both.run([Step("blob", "k"), Step("remove", "k")])
    store = both.stores[1]
    with store.tables.environment.begin() as view:
        assert view.stat(store.tables.garbage.handle)["entries"] == 1
        assert view.stat(store.tables.blobs.handle)["entries"] == 0


@pytest.mark.parametrize("kind", ["held", "retained"])
def test_a_locked_object_stays(both: BothWays, taken: Removals, kind: str) -> None:
    both.run([Step(kind, "k")])
    store = both.stores[1]
    with pytest.raises(ObjectLocked):
        store.commit(small_removal(store, both.bucket, "k"))
    assert taken == [None]
    assert store.keys(both.bucket) == ["k"]


@pytest.mark.parametrize("versioning", [Versioning.ENABLED, Versioning.SUSPENDED])
def test_a_bucket_that_keeps_versions_gets_a_marker(both: BothWays, taken: Removals, versioning: Versioning) -> None:
    both.run([Step("put", "k")])
    both.versioning(versioning)
    answers = both.run([Step("remove", "k")])
    assert taken == [None]
    assert isinstance(answers[0], bytes) and not both.stores[1].keys(both.bucket)
    both.check()


def test_a_removal_that_is_asked_again_is_answered_as_before(store: CommittedStore) -> None:
    bucket = store.bucket()
    store.put(bucket, "k")
    removal = small_removal(store, bucket, "k")
    first = store.commit(removal)
    again = small_put(store, bucket, "k", b"again")
    store.commit(again)
    assert store.commit_all(removal, removal) == [first, first]
    assert store.keys(bucket) == ["k"]


def test_a_removal_in_a_bucket_that_went_is_refused(store: CommittedStore) -> None:
    with pytest.raises(NoSuchBucket):
        store.commit(small_removal(store, BucketId(77), "k"))


def test_a_removal_of_another_epoch_is_refused(store: CommittedStore) -> None:
    bucket = store.bucket()
    store.put(bucket, "k")
    removal = small_removal(store, bucket, "k")
    sent = decode_operation(memoryview(b"".join(encode_operation(removal, 0)))).operation
    (reply,) = store.core.execute([Submitted(sent, store.epoch + 1)])
    assert isinstance(reply.error, InvalidArgument)
    assert store.keys(bucket) == ["k"]


def test_nothing_is_removed_while_lost_records_are_not_acknowledged(store: CommittedStore) -> None:
    bucket = store.bucket()
    store.put(bucket, "k")
    store.core.damage = DAMAGE_REASON
    with pytest.raises(StoreReadOnly):
        store.commit(small_removal(store, bucket, "k"))
    assert store.keys(bucket) == ["k"]


@pytest.mark.parametrize("key", [b"\xff\xfe", b"k" * 464 + b"\xff"])
def test_a_key_that_is_no_text_is_refused(store: CommittedStore, key: bytes) -> None:
    bucket = store.bucket()
    with pytest.raises(InvalidArgument):
        store.commit(encode_small_removal(store.id(), bucket, key, store.token(), OWNER.encode("ascii")))


@pytest.mark.parametrize("length", [16, 40, 95])
def test_a_removal_that_is_cut_is_refused(store: CommittedStore, length: int) -> None:
    removal = small_removal(store, store.bucket(), "k")
    removal.message = removal.message[:length]
    with pytest.raises(InvalidArgument):
        store.commit(removal)


@pytest.mark.parametrize("damaged", ["a", "k", "z"])
def test_damage_beside_or_in_the_row_fails_the_removal_alone(store: CommittedStore, damaged: str) -> None:
    """Rows hidden by it would be taken not to be there: the next version of the key, or its neighbours."""
    bucket = store.bucket()
    for key in ("a", "k", "y", "z"):
        store.put(bucket, key)
    with store.tables.environment.begin(write=True) as transaction:
        cursor = transaction.cursor(db=store.tables.versions.handle)
        assert cursor.set_range(bucket.to_bytes(8, "big") + damaged.encode())
        row_key, sealed = cursor.item()
        transaction.put(row_key, bytes((sealed[0] ^ 4,)) + sealed[1:], db=store.tables.versions.handle)
    removals = [small_removal(store, bucket, key) for key in ("k", "y")]
    answers = execute(store, list(removals))
    refused = {"a": [True, False], "k": [True, True], "z": [False, True]}[damaged]
    assert [isinstance(answer, str) and answer.startswith(RecordDamaged.__name__) for answer in answers] == refused
