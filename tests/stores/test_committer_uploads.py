"""Multipart uploads in the commit: parts, completing, aborting, and sets that die."""

from __future__ import annotations

import pytest

from rs3d import errors
from rs3d.stores.submitted import Submitted
from rs3d.types import operations as ops
from rs3d.types.identifiers import BucketId, UploadId
from rs3d.types.objects import (
    Extent,
    PartEntry,
)
from tests.stores.committed import ETAG, CommittedStore


def test_pitfall_d24_a_complete_is_answered_again_while_its_version_exists(
    store: CommittedStore, bucket: BucketId
) -> None:
    upload = store.open_upload(bucket, "key")
    for number in (1, 2):
        store.put_part(bucket, "key", upload, number)
    first = store.complete(bucket, "key", upload, (1, 2))
    store.without_catalog()
    again = store.complete(bucket, "key", upload, (1, 2))
    assert (again.version_text, again.etag, again.last_modified_ns) == (
        first.version_text, first.etag, first.last_modified_ns,
    )  # fmt: skip
    with store.view() as view:
        found = view.completed(upload)
        assert found is not None and [part.number for part in view.set_parts(found)] == [1, 2]
    with pytest.raises(errors.NoSuchUpload):
        store.complete(bucket, "key", upload, (1,))
    store.remove(bucket, "key")
    with pytest.raises(errors.NoSuchUpload):
        store.complete(bucket, "key", upload, (1, 2))


def test_pitfall_d11_abort_and_complete_leave_one_outcome(store: CommittedStore, bucket: BucketId) -> None:
    upload = store.open_upload(bucket, "key")
    store.put_part(bucket, "key", upload, 1)
    complete = store.complete_operation(bucket, "key", upload, (1,))
    abort = ops.AbortUpload(id=store.id(), bucket=bucket, key="key", upload=upload)
    replies = store.core.execute([Submitted(abort, store.epoch), Submitted(complete, store.epoch)])
    assert replies[0].error is None and isinstance(replies[1].error, errors.NoSuchUpload)
    with pytest.raises(errors.NoSuchUpload):
        store.put_part(bucket, "key", upload, 2)
    assert store.keys(bucket) == []


def test_a_complete_of_changed_parts_is_stale(store: CommittedStore, bucket: BucketId) -> None:
    upload = store.open_upload(bucket, "key")
    store.put_part(bucket, "key", upload, 1)
    complete = store.complete_operation(bucket, "key", upload, (1,))
    store.put_part(bucket, "key", upload, 1)
    with pytest.raises(errors.StaleRevision):
        store.commit(complete)


@pytest.mark.parametrize(
    ("parts", "refusal"),
    [
        ((), errors.InvalidPart),
        ((2, 1), errors.InvalidPartOrder),
        ((1, 1), errors.InvalidPartOrder),
        ((1, 3), errors.InvalidPart),
    ],
)
def test_a_complete_needs_uploaded_parts_in_order(
    store: CommittedStore, bucket: BucketId, parts: tuple[int, ...], refusal: type[Exception]
) -> None:
    upload = store.open_upload(bucket, "key")
    for number in (1, 2):
        store.put_part(bucket, "key", upload, number)
    with pytest.raises(refusal):
        store.complete(bucket, "key", upload, parts)


def test_a_part_of_another_upload_or_key_is_refused(store: CommittedStore, bucket: BucketId) -> None:
    upload = store.open_upload(bucket, "key")
    with pytest.raises(errors.NoSuchUpload):
        store.put_part(bucket, "other", upload, 1)
    with pytest.raises(errors.NoSuchUpload):
        store.put_part(bucket, "key", UploadId(upload.sequence, bytes(16)), 1)


def test_a_part_replaced_frees_its_blob(store: CommittedStore, bucket: BucketId) -> None:
    upload = store.open_upload(bucket, "key")
    old, new = store.put_part(bucket, "key", upload, 1), store.put_part(bucket, "key", upload, 1)
    with store.view() as view:
        assert [row.blob for row in view.garbage()] == [old]
        assert [part.extent.blob for part in view.parts(upload)] == [new]


def test_a_part_may_share_the_bytes_of_an_object(store: CommittedStore, bucket: BucketId) -> None:
    blob = store.put_blob(bucket, "source", 1000)
    upload = store.open_upload(bucket, "key")
    part = PartEntry(number=1, size_bytes=100, md5=bytes(16), extent=Extent(blob, 50, 100), etag=ETAG)
    store.commit(ops.PutPart(id=store.id(), bucket=bucket, key="key", upload=upload, part=part))
    store.remove(bucket, "source")
    with store.view() as view:
        assert view.blob_references(blob) == 1 and list(view.garbage()) == []


def test_store_rule_16_members_of_a_dead_set_go_in_bounded_steps(store: CommittedStore, bucket: BucketId) -> None:
    upload = store.open_upload(bucket, "key")
    blob = store.put_blob(bucket, "shared", 10)
    batch = []
    for number in range(1, 1502):
        part = PartEntry(number=number, size_bytes=10, md5=bytes(16), extent=Extent(blob, 0, 10), etag=ETAG)
        batch.append(ops.PutPart(id=store.id(), bucket=bucket, key="key", upload=upload, part=part))
    store.commit_all(*batch)
    store.complete(bucket, "key", upload, tuple(range(1, 1502)))
    store.copy_set(bucket, "copy", upload, 15010)
    store.remove(bucket, "key")
    with store.view() as view:
        assert list(view.garbage_sets()) == [] and view.blob_references(blob) == 1502
    store.remove(bucket, "copy")
    with store.view() as view:
        assert [row.upload for row in view.garbage_sets()] == [upload]
    assert store.commit(ops.FreeSetMembers(id=store.id(), upload=upload)).remaining == 501
    assert store.commit(ops.FreeSetMembers(id=store.id(), upload=upload)).remaining == 0
    with store.view() as view:
        assert list(view.garbage_sets()) == [] and view.blob_references(blob) == 1
    with pytest.raises(errors.StaleSource):
        store.copy_set(bucket, "late", upload, 15010)
