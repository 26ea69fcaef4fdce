"""PutSmall leaves in log and catalog what the PutVersion of the same object leaves."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.errors import InvalidArgument, NoSuchBucket, QuotaExceeded
from rs3d.stores.messages import decode_operation, encode_operation
from rs3d.stores.submitted import Submitted
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BucketId, LogPosition
from tests.stores.bothways import bodies, fields, long_put, rows, small_put
from tests.stores.committed import CommittedStore

ANYWHERE = LogPosition(0, 0)
KEYS = ("a", "b", "k" * 462, "k" * 463, "k" * 1024, "ü", "nul\0nul", "x/y")


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[CommittedStore, CommittedStore]]:
    """Two that are told the same."""
    for name in ("long", "small"):
        (tmp_path / name).mkdir()
    both = CommittedStore(tmp_path / "long"), CommittedStore(tmp_path / "small")
    yield both
    for store in both:
        store.close()


def listed(store: CommittedStore, bucket: BucketId) -> list[tuple[object, bytes]]:
    """Every object and its payload."""
    with store.view() as view:
        keys = [key.decode() for key, _ in view.list_objects(bucket, b"", b"")]
        versions = [view.latest(bucket, key) for key in keys]
        return [
            (dataclasses.replace(found, body_position=ANYWHERE), view.inline_payload(found))
            for found in versions
            if found is not None
        ]


@pytest.mark.parametrize("versioning", list(Versioning))
def test_both_ways_leave_the_same_rows_and_records(
    stores: tuple[CommittedStore, CommittedStore], versioning: Versioning
) -> None:
    chance = random.Random(versioning.value)
    made = [store.bucket() for store in stores]
    assert made[0] == made[1]
    if versioning is not Versioning.UNVERSIONED:
        for store in stores:
            store.versioning(made[0], versioning)
    for _ in range(40):
        puts = [
            (chance.choice(KEYS), chance.randbytes(chance.choice((0, 1, 4096))), chance.choice(("", "text/plain", "ü")))
            for _ in range(chance.randrange(1, 5))
        ]
        by_long = stores[0].commit_all(*(long_put(stores[0], made[0], *put) for put in puts))
        by_small = stores[1].commit_all(*(small_put(stores[1], made[0], *put) for put in puts))
        assert by_long == by_small
    assert rows(stores[0]) == rows(stores[1])
    assert bodies(stores[0]) == bodies(stores[1])


def test_records_of_small_puts_replay_to_the_rows_they_made(tmp_path: Path) -> None:
    store = CommittedStore(tmp_path)
    bucket = store.bucket()
    store.commit_all(*(small_put(store, bucket, f"k{number}", b"x" * number) for number in range(50)))
    before = listed(store, bucket)
    store.close()
    for name in (tmp_path / "catalog").iterdir():
        name.unlink()
    store.open()
    after = listed(store, bucket)
    store.close()
    assert len(before) == 50
    assert after == before


def test_a_small_put_that_is_asked_again_is_answered_as_before(stores: tuple[CommittedStore, CommittedStore]) -> None:
    store = stores[1]
    put = small_put(store, store.bucket(), "k", b"data")
    first = store.commit(put)
    assert store.commit(put) == first


def test_what_refuses_a_put_refuses_a_small_one(stores: tuple[CommittedStore, CommittedStore]) -> None:
    store = stores[1]
    bucket = store.bucket(settings=(("quota_objects", "1"),))
    store.commit(small_put(store, bucket, "k", b"data"))
    with pytest.raises(QuotaExceeded):
        store.commit(small_put(store, bucket, "l", b"data"))
    with pytest.raises(NoSuchBucket):
        store.commit(small_put(store, BucketId(bucket + 1), "k", b"data"))


def test_a_damaged_small_put_fails_alone(stores: tuple[CommittedStore, CommittedStore]) -> None:
    store = stores[1]
    bucket = store.bucket()
    batch = [fields(store, bucket, key, b"data") for key in "abc"]
    batch[1].payload = b"date"
    replies = store.core.execute(
        [
            Submitted(
                decode_operation(memoryview(b"".join(encode_operation(put.operation(), 0)))).operation, store.epoch
            )
            for put in batch
        ]
    )
    assert [type(reply.error) for reply in replies] == [type(None), InvalidArgument, type(None)]
    with store.view() as view:
        assert [key for key, _ in view.list_objects(bucket, b"", b"")] == [b"a", b"c"]


@pytest.mark.parametrize("key", [b"\xff\xfe", b"k" * 464 + b"\xff"])
def test_a_key_that_is_no_text_is_refused(stores: tuple[CommittedStore, CommittedStore], key: bytes) -> None:
    store = stores[1]
    put = fields(store, store.bucket(), "k", b"data")
    put.key = key
    with pytest.raises(InvalidArgument):
        store.commit(put.operation())
