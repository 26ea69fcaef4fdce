"""A PutVersion of a new blob whose message has a form of its own: which puts have it, and what the committer refuses.
What it leaves in log and catalog beside other writes is in test_small_removals.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from rs3d.errors import InvalidArgument, NoSuchBucket, QuotaExceeded, RecordDamaged, StoreFull
from rs3d.stores.blobput import BLOB, BlobPut, encode_blob_put
from rs3d.stores.messages import decode_operation, encode_operation
from rs3d.stores.submitted import Submitted
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BlobId, BucketId, SegmentId
from rs3d.types.objects import Checksum, Extent, Inline, MutablePart
from tests.stores.bothways import blob_put, bodies, remember_short_way, rows
from tests.stores.committed import CommittedStore

Answers = list[bytes | None]
KEYS = ("a", "a", "k" * 462, "k" * 463, "\u00fc", "nul\0nul", "x/y")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What the short way said of each put that it was asked for: an outcome, or None."""
    return remember_short_way(monkeypatch, BlobPut)


def received(operation: ops.Operation) -> Any:
    """As the committer gets it."""
    return decode_operation(memoryview(b"".join(encode_operation(operation, 0)))).operation


def plain(store: CommittedStore, **fields: Any) -> ops.PutVersion:
    return blob_put(store, BucketId(1), "key", content_type="text/plain", **fields)


def test_a_plain_put_has_the_form_and_says_the_same(store: CommittedStore) -> None:
    put = plain(store)
    found = received(put)
    assert type(found) is BlobPut
    message = found.message()
    assert (message.id, message.bucket, message.key, message.token) == (put.id, put.bucket, put.key, put.token)
    assert (message.meta, message.mutable, message.extent) == (put.meta, put.mutable, put.placement)
    assert (message.new_blobs, message.inline, message.payload) == (put.new_blobs, None, b"")


@pytest.mark.parametrize(
    "change",
    [
        {"user_metadata": (("a", "b"),)},
        {"checksums": (Checksum("CRC32C", bytes(4)),)},
        {"part_count": 1},
        {"signature": b"signed"},
        {"last_modified_ns": 5},
        {"headers": (("cache-control", "no-cache"),)},
        {"headers": (("content-type", "a"), ("cache-control", "b"))},
        {"headers": (("content-type", ""),)},
        {"headers": (("content-type", "t" * 513),)},
        {"etag": "0" * 31},
        {"etag": "AB" * 16},
        {"etag": "00" * 16 + "-1"},
        {"etag": ""},
        {"owner": "AB" * 32},
        {"owner": "ab"},
        {"merkle_root": b""},
        {"size_bytes": 8999},
        {"size_bytes": -1},
    ],
)
def test_what_the_form_cannot_say_of_an_object_goes_as_it_is(store: CommittedStore, change: dict[str, Any]) -> None:
    put = plain(store)
    assert encode_blob_put(put) is not None
    changed = dataclasses.replace(put, meta=dataclasses.replace(put.meta, **change))
    assert encode_blob_put(changed) is None
    assert type(received(changed)) is not BlobPut


@pytest.mark.parametrize(
    "change",
    [
        {"preconditions": ops.Preconditions(if_none_match=("*",))},
        {"mutable": MutablePart(tags=(("a", "b"),))},
        {"key": ""},
        {"key": "k" * 463},
        {"key": "\ud800"},
        {"token": b"short"},
        {"new_blobs": ()},
        {"placement": Inline(4, payload=b"data")},
        {"placement": Extent(BlobId(SegmentId(1), 77), 0, 9000)},
    ],
)
def test_what_the_form_cannot_say_of_a_put_goes_as_it_is(store: CommittedStore, change: dict[str, Any]) -> None:
    put = plain(store)
    assert encode_blob_put(dataclasses.replace(put, **change)) is None
    (new,) = put.new_blobs
    assert isinstance(put.placement, Extent)
    piece = dataclasses.replace(put.placement, offset=1)
    assert encode_blob_put(dataclasses.replace(put, placement=piece)) is None
    assert encode_blob_put(dataclasses.replace(put, new_blobs=(new, new))) is None
    huge = dataclasses.replace(new, stored_bytes=1 << 64)
    assert encode_blob_put(dataclasses.replace(put, new_blobs=(huge,))) is None


@pytest.mark.parametrize("versioning", list(Versioning))
def test_both_ways_leave_the_same_rows_and_records(tmp_path: Path, taken: Answers, versioning: Versioning) -> None:
    found: list[object] = []
    for name in ("long", "short"):
        (tmp_path / name).mkdir()
        store = CommittedStore(tmp_path / name)
        bucket = store.bucket()
        if versioning is not Versioning.UNVERSIONED:
            store.versioning(bucket, versioning)
        for number in range(3):
            puts = [blob_put(store, bucket, key, 9000 + number, "text/plain" if number else "") for key in KEYS]
            store.clock.advance(0.001)
            operations = puts if name == "long" else [received(put) for put in puts]
            replies = store.core.execute([Submitted(operation, store.epoch) for operation in operations])
            assert all(reply.error is None for reply in replies)
            found.append([reply.outcome for reply in replies])
        found.append([rows(store), bodies(store)])
        store.close()
    assert found[:4] == found[4:]
    assert len([said for said in taken if said]) >= (9 if versioning is not Versioning.ENABLED else 3)


def test_a_put_that_is_asked_again_is_answered_as_before(store: CommittedStore, taken: Answers) -> None:
    put = blob_put(store, store.bucket(), "k")
    first = store.commit(put)
    assert store.commit(put) == first
    assert [said is not None for said in taken] == [True, False]


def blobs_and_garbage(store: CommittedStore) -> tuple[int, int]:
    with store.tables.environment.begin() as view:
        counts = [int(view.stat(table.handle)["entries"]) for table in (store.tables.blobs, store.tables.garbage)]
    return counts[0], counts[1]


def test_a_blob_that_is_replaced_or_removed_becomes_garbage(store: CommittedStore, taken: Answers) -> None:
    bucket = store.bucket()
    store.commit(blob_put(store, bucket, "k"))
    store.commit(blob_put(store, bucket, "k"))
    assert (blobs_and_garbage(store), len(taken), all(taken)) == ((1, 1), 2, True)
    store.remove(bucket, "k")
    assert blobs_and_garbage(store) == (0, 2)


def test_blobs_that_are_not_the_senders_or_not_new_are_refused(store: CommittedStore, taken: Answers) -> None:
    bucket = store.bucket()
    put = blob_put(store, bucket, "k")
    store.commit(put)
    (known,) = put.new_blobs
    replaced = blob_put(store, bucket, "k")
    store.commit(replaced)  # the first blob is garbage now, the second one is referred to
    (living,) = replaced.new_blobs
    foreign = BlobId(SegmentId(known.blob.segment + 1), 0)
    beyond = BlobId(known.blob.segment, 4096)
    for blob in (known.blob, living.blob, foreign, beyond):
        again = blob_put(
            store, bucket, "l", placement=Extent(blob, 0, 9000), new_blobs=(ops.NewBlob(blob, 9100, 4096),)
        )
        assert type(received(again)) is BlobPut
        with pytest.raises(InvalidArgument):
            store.commit(again)
    assert [said is not None for said in taken] == [True, True, False, False, False, False]
    assert store.keys(bucket) == ["k"]
    assert blobs_and_garbage(store) == (1, 1)


def test_what_refuses_a_put_refuses_this_one(store: CommittedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = store.bucket(settings=(("quota_objects", "1"),))
    store.commit(blob_put(store, bucket, "k"))
    with pytest.raises(QuotaExceeded):
        store.commit(blob_put(store, bucket, "l"))
    with pytest.raises(NoSuchBucket):
        store.commit(blob_put(store, BucketId(bucket + 1), "k"))
    other = store.bucket("other")
    put = blob_put(store, other, "k")
    full = StoreFull(what="the disk", free_bytes=0, needed_bytes=1)
    monkeypatch.setattr(store.core.space, "refusal", lambda: full)
    with pytest.raises(StoreFull):
        store.commit(put)


@pytest.mark.parametrize("cut", [1, BLOB.size, BLOB.size + 1])
def test_a_put_that_is_cut_is_refused_alone(store: CommittedStore, cut: int) -> None:
    bucket = store.bucket()
    puts = [received(blob_put(store, bucket, key)) for key in "abc"]
    puts[1].body = puts[1].body[:-cut]
    replies = store.core.execute([Submitted(put, store.epoch) for put in puts])
    assert [type(reply.error) for reply in replies] == [type(None), InvalidArgument, type(None)]
    assert store.keys(bucket) == ["a", "c"]


@pytest.mark.parametrize("at", range(1, BLOB.size + 1))
def test_a_blob_that_changed_on_its_way_is_refused(store: CommittedStore, at: int) -> None:
    bucket = store.bucket()
    put = received(blob_put(store, bucket, "k"))
    put.body = put.body[:-at] + bytes((put.body[-at] ^ 1,)) + put.body[len(put.body) - at + 1 :]
    (reply,) = store.core.execute([Submitted(put, store.epoch)])
    assert isinstance(reply.error, InvalidArgument)
    assert store.keys(bucket) == []


@pytest.mark.parametrize("kind", ["put", "remove"])
def test_a_damaged_row_of_the_blob_that_goes_fails_the_operation(store: CommittedStore, kind: str) -> None:
    bucket = store.bucket()
    put = blob_put(store, bucket, "k")
    store.commit(put)
    row_key = put.new_blobs[0].blob.to_bytes()
    with store.tables.environment.begin(write=True) as transaction:
        sealed = transaction.get(row_key, db=store.tables.blobs.handle)
        assert sealed is not None
        transaction.put(row_key, bytes((sealed[0] ^ 4,)) + sealed[1:], db=store.tables.blobs.handle)
    with pytest.raises(RecordDamaged):
        store.commit(blob_put(store, bucket, "k")) if kind == "put" else store.remove(bucket, "k")
    assert store.keys(bucket) == ["k"]
