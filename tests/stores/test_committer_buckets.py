"""What the committer refuses and does about buckets: names, owners, revisions, quotas."""

from __future__ import annotations

import pytest

from rs3d import errors
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BucketId
from rs3d.types.names import BucketName
from tests.stores.committed import OTHER, OWNER, CommittedStore


def test_a_bucket_exists_once(store: CommittedStore, bucket: BucketId) -> None:
    with pytest.raises(errors.BucketAlreadyOwnedByYou):
        store.bucket()
    with pytest.raises(errors.BucketAlreadyExists):
        store.commit(ops.CreateBucket(id=store.id(), name=BucketName("bucket"), owner=OTHER, region="r"))


def test_an_owner_has_so_many_buckets(store: CommittedStore, bucket: BucketId) -> None:
    with pytest.raises(errors.TooManyBuckets):
        store.bucket("second", maximum_buckets=1)


def test_a_bucket_with_versions_or_uploads_stays(store: CommittedStore, bucket: BucketId) -> None:
    upload = store.open_upload(bucket, "k" * 1000)
    with pytest.raises(errors.BucketNotEmpty):
        store.commit(ops.RemoveBucket(id=store.id(), bucket=bucket))
    store.commit(ops.AbortUpload(id=store.id(), bucket=bucket, key="k" * 1000, upload=upload))
    store.put(bucket, "k" * 1000)
    with pytest.raises(errors.BucketNotEmpty):
        store.commit(ops.RemoveBucket(id=store.id(), bucket=bucket))
    store.remove(bucket, "k" * 1000)
    store.commit(ops.RemoveBucket(id=store.id(), bucket=bucket))
    with pytest.raises(errors.NoSuchBucket):
        store.put(bucket, "key")


def test_a_bucket_made_anew_is_another(store: CommittedStore, bucket: BucketId) -> None:
    store.commit(ops.RemoveBucket(id=store.id(), bucket=bucket))
    assert store.bucket() != bucket
    with pytest.raises(errors.NoSuchBucket):
        store.put(bucket, "of a plan from before")


def test_a_bucket_changes_only_from_the_revision_that_was_read(store: CommittedStore, bucket: BucketId) -> None:
    store.versioning(bucket, Versioning.ENABLED)
    change = ops.ChangeBucket(
        id=store.id(),
        bucket=bucket,
        revision=0,
        owner=OWNER,
        versioning=Versioning.ENABLED,
        settings=(),
        configurations=(),
    )
    with pytest.raises(errors.StaleRevision):
        store.commit(change)


def test_versioning_is_never_switched_off_again(store: CommittedStore, bucket: BucketId) -> None:
    store.versioning(bucket, Versioning.ENABLED)
    with pytest.raises(errors.InvalidBucketState):
        store.versioning(bucket, Versioning.UNVERSIONED)


@pytest.mark.parametrize("quota", ["quota_bytes", "quota_objects"])
def test_a_quota_is_enforced_in_the_commit(store: CommittedStore, quota: str) -> None:
    limit = {"quota_bytes": "10", "quota_objects": "1"}[quota]
    bucket = store.bucket("limited", settings=((quota, limit),))
    store.put(bucket, "a", bytes(8))
    with pytest.raises(errors.QuotaExceeded):
        store.put(bucket, "b", bytes(3))
    store.put(bucket, "a", bytes(10))  # takes the place of the first
    store.remove(bucket, "a")
    store.put(bucket, "b", bytes(3))
