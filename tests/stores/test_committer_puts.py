"""What the committer refuses and does about objects and their versions, and who wins of many."""

from __future__ import annotations

from typing import Any

import pytest

from rs3d import errors
from rs3d.stores.submitted import Submitted
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BucketId, Sequence, UploadId, VersionId
from rs3d.types.objects import (
    BlobSet,
    CanonicalId,
    Inline,
    MutablePart,
    ObjectMeta,
)
from tests.stores.committed import ETAG, OWNER, CommittedStore


@pytest.mark.parametrize(
    ("exists", "conditions", "refusal"),
    [
        (False, ops.Preconditions(if_none_match=("*",)), None),
        (True, ops.Preconditions(if_none_match=("*",)), errors.PreconditionFailed),
        (True, ops.Preconditions(if_none_match=(ETAG,)), errors.PreconditionFailed),
        (True, ops.Preconditions(if_none_match=("f" * 32,)), None),
        (True, ops.Preconditions(if_match=(ETAG,)), None),
        (True, ops.Preconditions(if_match=("f" * 32,)), errors.PreconditionFailed),
        (True, ops.Preconditions(if_match=("*",)), None),
        (False, ops.Preconditions(if_match=(ETAG,)), errors.NoSuchKey),
        (False, ops.Preconditions(if_match=("*",)), errors.NoSuchKey),
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_pitfall_d14_conditions_of_a_put(
    store: CommittedStore,
    bucket: BucketId,
    exists: bool,
    conditions: ops.Preconditions,
    refusal: type[Exception] | None,
    hidden: bool,
) -> None:
    """`hidden`: where there is no object, a delete marker is the latest version."""
    if exists or hidden:
        store.versioning(bucket, Versioning.ENABLED)
        store.put(bucket, "key")
    if hidden and not exists:
        store.remove(bucket, "key")
    if refusal is None:
        store.put(bucket, "key", preconditions=conditions)
    else:
        with pytest.raises(refusal):
            store.put(bucket, "key", preconditions=conditions)


def test_pitfall_d13_of_many_equal_replacements_one_wins(store: CommittedStore, bucket: BucketId) -> None:
    store.put(bucket, "key")
    racers = [
        store.put_operation(
            bucket,
            "key",
            f"{number:032x}".encode(),
            etag=f"{number:032x}",
            preconditions=ops.Preconditions(if_match=(ETAG,)),
        )
        for number in range(64)
    ]
    replies = store.core.execute([Submitted(racer, store.epoch) for racer in racers])
    assert [reply.error is None for reply in replies].count(True) == 1


def test_the_first_of_many_creators_wins(store: CommittedStore, bucket: BucketId) -> None:
    fresh = ops.Preconditions(if_none_match=("*",))
    racers = [store.put_operation(bucket, "key", preconditions=fresh) for _ in range(64)]
    replies = store.core.execute([Submitted(racer, store.epoch) for racer in racers])
    assert [reply.error is None for reply in replies] == [True] + [False] * 63


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"etag": "not hex"}, errors.InvalidArgument),
        ({"placement": Inline(5, payload=b"four")}, errors.InvalidArgument),
        ({"mutable": MutablePart(storage_class="CHEAP")}, errors.InvalidArgument),
        ({"meta": ObjectMeta(size_bytes=-1, etag=ETAG, owner=OWNER)}, errors.InvalidArgument),
        ({"meta": ObjectMeta(size_bytes=1, etag=ETAG, owner=CanonicalId(OWNER[:10]))}, errors.InvalidArgument),
        ({"placement": BlobSet(UploadId(Sequence(1), bytes(16)))}, errors.StaleSource),
    ],
)
def test_a_malformed_put_is_refused_and_leaves_nothing(
    store: CommittedStore, bucket: BucketId, fields: dict[str, Any], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        store.put(bucket, "key", **fields)
    store.put(bucket, "another")
    assert store.keys(bucket) == ["another"]


def test_store_rule_18_a_version_id_is_sequence_and_token(store: CommittedStore, bucket: BucketId) -> None:
    store.versioning(bucket, Versioning.ENABLED)
    operation = store.put_operation(bucket, "key")
    made = store.commit(operation)
    assert VersionId.parse(made.version_text) == VersionId(made.sequence, operation.token)
    wrong = VersionId(made.sequence, bytes(16))
    with store.view() as view:
        assert view.version(bucket, "key", wrong) is None
    assert store.remove(bucket, "key", wrong).sequence == 0
    assert store.keys(bucket) == ["key"]


def test_store_rule_04_a_patch_names_the_revision_it_read(store: CommittedStore, bucket: BucketId) -> None:
    store.put(bucket, "key", b"payload")
    with store.view() as view:
        version = view.latest(bucket, "key")
    assert version is not None
    patch: dict[str, Any] = {"bucket": bucket, "key": "key", "version": version.version}
    store.commit(ops.PatchVersion(id=store.id(), mutable=MutablePart(tags=(("a", "b"),)), **patch))
    with pytest.raises(errors.StaleRevision):
        store.commit(ops.PatchVersion(id=store.id(), mutable=MutablePart(), **patch))
    with store.view() as view:
        patched = view.latest(bucket, "key")
        assert patched is not None and patched.mutable == MutablePart(revision=1, tags=(("a", "b"),))
        assert view.inline_payload(patched) == b"payload"
    with pytest.raises(errors.NoSuchVersion):
        missing = VersionId(Sequence(1), bytes(16))
        store.commit(ops.PatchVersion(id=store.id(), bucket=bucket, key="key", version=missing, mutable=MutablePart()))
