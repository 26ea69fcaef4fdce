"""Each operation's refusals and effects, through the committer's core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rs3d import errors
from rs3d.stores.committer import Submitted
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BlobId, BucketId, Epoch, OperationId, SegmentId, Sequence, UploadId, VersionId
from rs3d.types.identities import AccessKey, User
from rs3d.types.names import BucketName
from rs3d.types.objects import (
    BlobSet,
    CanonicalId,
    Extent,
    Inline,
    LegalHold,
    MutablePart,
    ObjectMeta,
    PartEntry,
    Retention,
    RetentionMode,
)
from tests.stores.committed import ETAG, OTHER, OWNER, CommittedStore

DAY_NS = 86_400 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    opened = CommittedStore(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def bucket(store: CommittedStore) -> BucketId:
    return store.bucket()


# ---------------------------------------------------------------------------------------------------------- buckets


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


# ----------------------------------------------------------------------------------------------------- preconditions


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


# --------------------------------------------------------------------------------------------------- blobs and epochs


def test_store_rule_10_a_blob_outside_the_senders_epoch_is_refused(store: CommittedStore, bucket: BucketId) -> None:
    blob = BlobId(SegmentId(12345), 0)
    with pytest.raises(errors.InvalidArgument, match="epoch"):
        store.put(bucket, "key", placement=Extent(blob, 0, 5), size=5, new_blobs=(ops.NewBlob(blob, 5),))
    mine = store.new_blob()
    store.epoch = int(store.commit(ops.OpenEpoch(id=OperationId(Epoch(0), 0), role="other")).sequence)
    with pytest.raises(errors.InvalidArgument, match="epoch"):
        store.put(bucket, "key", placement=Extent(mine, 0, 5), size=5, new_blobs=(ops.NewBlob(mine, 5),))


def test_store_rule_10_a_closed_epoch_commits_nothing_more(store: CommittedStore, bucket: BucketId) -> None:
    operation = store.put_operation(bucket, "key")
    store.close_epoch()
    with pytest.raises(errors.InvalidArgument, match="not open"):
        store.commit(operation)


def test_store_rule_10_only_segments_of_closed_epochs_are_swept(store: CommittedStore) -> None:
    segment = store.new_blob().segment
    with pytest.raises(errors.InvalidArgument):
        store.commit(ops.SegmentSwept(id=store.id(), segment=segment))
    store.close_epoch()
    store.epoch = int(store.commit(ops.OpenEpoch(id=OperationId(Epoch(0), 0), role="steward")).sequence)
    with store.view() as view:
        assert [(row.segment, row.closed, row.swept) for row in view.blob_segments()] == [(segment, True, False)]
    store.commit(ops.SegmentSwept(id=store.id(), segment=segment))
    with store.view() as view:
        assert [row.swept for row in view.blob_segments()] == [True]
        assert [state.role for state in view.epochs()] == ["steward"]


def test_a_blob_is_committed_once(store: CommittedStore, bucket: BucketId) -> None:
    blob = store.put_blob(bucket, "key", 5)
    again: dict[str, Any] = {"placement": Extent(blob, 0, 5), "size": 5, "new_blobs": (ops.NewBlob(blob, 5),)}
    with pytest.raises(errors.InvalidArgument, match="before"):
        store.put(bucket, "other", **again)
    store.remove(bucket, "key")
    with pytest.raises(errors.InvalidArgument, match="before"):
        store.put(bucket, "other", **again)


def test_store_rule_14_zero_is_final(store: CommittedStore, bucket: BucketId) -> None:
    blob = store.put_blob(bucket, "key", 5)
    store.put(bucket, "copy", placement=Extent(blob, 0, 5), size=5)
    store.remove(bucket, "key")
    with store.view() as view:
        assert view.blob_references(blob) == 1 and list(view.garbage()) == []
    store.remove(bucket, "copy")
    with store.view() as view:
        assert [row.blob for row in view.garbage()] == [blob]
    with pytest.raises(errors.StaleSource):
        store.put(bucket, "late", placement=Extent(blob, 0, 5), size=5)
    store.commit(ops.DropGarbage(id=store.id(), blobs=(blob,)))
    with store.view() as view:
        assert list(view.garbage()) == []


def test_a_self_copy_keeps_its_blob(store: CommittedStore, bucket: BucketId) -> None:
    blob = store.put_blob(bucket, "key", 5)
    store.put(bucket, "key", placement=Extent(blob, 0, 5), size=5)
    with store.view() as view:
        assert view.blob_references(blob) == 1 and list(view.garbage()) == []


# --------------------------------------------------------------------------------------------------------- idempotence


def test_store_rule_11_an_operation_asked_again_is_answered_again(store: CommittedStore, bucket: BucketId) -> None:
    store.versioning(bucket, Versioning.ENABLED)
    operation = store.put_operation(bucket, "key")
    first, again = store.commit(operation), store.commit(operation)
    assert first == again
    with store.view() as view:
        assert view.counters(bucket).versions == 1
    store.opened.core.tables.environment.sync(True)
    epoch = store.epoch
    store.catalog.close()
    store.opened.close()
    store.open()  # the committer died; the worker lives on and asks its successor
    store.epoch = epoch
    assert store.commit(operation) == first


def test_store_rule_11_outcomes_are_rebuilt_from_the_log(store: CommittedStore, bucket: BucketId) -> None:
    operation = store.put_operation(bucket, "key")
    first, epoch = store.commit(operation), store.epoch
    store.without_catalog()
    store.epoch = epoch
    assert store.commit(operation) == first


def test_store_rule_11_refusals_are_not_remembered(store: CommittedStore, bucket: BucketId) -> None:
    operation = store.put_operation(bucket, "key", preconditions=ops.Preconditions(if_match=("*",)))
    with pytest.raises(errors.NoSuchKey):
        store.commit(operation)
    store.put(bucket, "key")
    store.commit(operation)


def test_store_rule_11_answered_outcomes_are_forgotten(store: CommittedStore, bucket: BucketId) -> None:
    for _ in range(5):
        operation = store.put_operation(bucket, "key")
        store.core.execute([Submitted(operation, store.epoch, operation.id.counter)])
    with store.tables.environment.begin() as view:
        row = view.get(store.epoch.to_bytes(8, "big"), db=store.tables.operations.handle)
    assert row is not None and len(row) < 150


# ---------------------------------------------------------------------------------------------------------- versions


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


# -------------------------------------------------------------------------------------------------------------- lock


def locked(mode: RetentionMode, until_ns: int, hold: LegalHold = LegalHold.OFF) -> MutablePart:
    return MutablePart(retention=Retention(mode, until_ns), legal_hold=hold)


def test_a_locked_version_is_not_removed_before_its_time(store: CommittedStore, bucket: BucketId) -> None:
    store.versioning(bucket, Versioning.ENABLED)
    until = store.clock.wall_ns() + DAY_NS
    for mode in RetentionMode:
        made = VersionId.parse(store.put(bucket, "key", mutable=locked(mode, until)).version_text)
        with pytest.raises(errors.ObjectLocked):
            store.remove(bucket, "key", made)
        bypass = ops.Bypass.GOVERNANCE
        if mode is RetentionMode.COMPLIANCE:
            with pytest.raises(errors.ObjectLocked):
                store.remove(bucket, "key", made, bypass=bypass)
            store.clock.advance(86_401)
            store.remove(bucket, "key", made)
        else:
            store.remove(bucket, "key", made, bypass=bypass)


def test_a_legal_hold_ends_only_by_a_patch(store: CommittedStore, bucket: BucketId) -> None:
    store.versioning(bucket, Versioning.ENABLED)
    made = store.put(bucket, "key", mutable=MutablePart(legal_hold=LegalHold.ON))
    version = VersionId.parse(made.version_text)
    assert version is not None
    with pytest.raises(errors.ObjectLocked):
        store.remove(bucket, "key", version, bypass=ops.Bypass.GOVERNANCE)
    store.commit(ops.PatchVersion(id=store.id(), bucket=bucket, key="key", version=version, mutable=MutablePart()))
    store.remove(bucket, "key", version)


def test_retention_is_shortened_only_by_bypass_and_never_in_compliance(store: CommittedStore, bucket: BucketId) -> None:
    store.versioning(bucket, Versioning.ENABLED)
    until = store.clock.wall_ns() + DAY_NS
    made = store.put(bucket, "key", mutable=locked(RetentionMode.COMPLIANCE, until))
    version = VersionId.parse(made.version_text)
    assert version is not None

    def patch(mutable: MutablePart, revision: int) -> None:
        wanted = MutablePart(revision=revision, retention=mutable.retention)
        store.commit(
            ops.PatchVersion(
                id=store.id(), bucket=bucket, key="key", version=version, mutable=wanted, bypass=ops.Bypass.GOVERNANCE
            )
        )

    for looser in (locked(RetentionMode.COMPLIANCE, until - 1), locked(RetentionMode.GOVERNANCE, until), MutablePart()):
        with pytest.raises(errors.ObjectLocked):
            patch(looser, 0)
    patch(locked(RetentionMode.COMPLIANCE, until + 1), 0)


def test_store_rule_19_a_clock_that_jumped_opens_no_lock(store: CommittedStore, bucket: BucketId) -> None:
    store.versioning(bucket, Versioning.ENABLED)
    until = store.clock.wall_ns() + DAY_NS
    made = VersionId.parse(store.put(bucket, "key", mutable=locked(RetentionMode.GOVERNANCE, until)).version_text)
    store.clock.step_wall(2 * 86_400)
    with pytest.raises(errors.ObjectLocked):
        store.remove(bucket, "key", made)
    assert store.core.clock.is_suspect
    assert store.put(bucket, "other").sequence < until
    store.core.clock.accept()
    store.remove(bucket, "key", made)


def test_store_rule_19_a_clock_behind_the_log_is_in_doubt_from_the_start(
    store: CommittedStore, bucket: BucketId
) -> None:
    last = store.put(bucket, "key").sequence
    store.clock.step_wall(-3600)
    store.reopen()
    assert store.core.clock.is_suspect
    assert store.put(bucket, "key").sequence > last


# ----------------------------------------------------------------------------------------------------------- uploads


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


# -------------------------------------------------------------------------------------------------------- identities


def user(name: str = "alice", canonical: str = "11" * 32) -> User:
    return User(name=name, canonical_id=CanonicalId(canonical), display_name=name)


def test_users_and_keys(store: CommittedStore) -> None:
    store.commit(ops.PutUser(id=store.id(), user=user()))
    with pytest.raises(errors.IdentityExists):
        store.commit(ops.PutUser(id=store.id(), user=user()))
    with pytest.raises(errors.IdentityExists):
        store.commit(ops.PutUser(id=store.id(), user=user("bob")))
    key = AccessKey(access_key="AKIA", user="alice", sealed_secret=b"sealed")
    store.commit(ops.PutAccessKey(id=store.id(), key=key))
    with store.view() as view:
        before = view.identity_generation
        assert view.access_key("AKIA") == key and list(view.access_keys("alice")) == [key]
        assert view.user_by_canonical_id(user().canonical_id) == user()
    with pytest.raises(errors.IdentityExists):
        store.commit(ops.PutAccessKey(id=store.id(), key=key))
    with pytest.raises(errors.InvalidUserState):
        store.commit(ops.RemoveUser(id=store.id(), name="alice"))
    store.commit(ops.RemoveAccessKey(id=store.id(), access_key="AKIA"))
    with store.view() as view:
        assert view.access_key("AKIA") is None and view.identity_generation != before
    store.commit(ops.RemoveUser(id=store.id(), name="alice"))
    for missing in (
        ops.RemoveUser(id=store.id(), name="alice"),
        ops.RemoveAccessKey(id=store.id(), access_key="AKIA"),
        ops.PutAccessKey(id=store.id(), key=key),
    ):
        with pytest.raises(errors.NoSuchIdentity):
            store.commit(missing)


# ------------------------------------------------------------------------------------------------------------- space


def test_store_rule_22_a_full_map_refuses_what_adds_and_lets_removals_through(tmp_path: Path) -> None:
    store = CommittedStore(tmp_path, map_bytes=2 << 20)
    bucket = store.bucket()
    count = 0
    with pytest.raises(errors.StoreFull):
        while True:
            store.core.space.look_again()
            store.put(bucket, f"{count:05d}" + "k" * 400, b"")
            count += 1
    assert count > 100
    for number in range(count):
        store.remove(bucket, f"{number:05d}" + "k" * 400)
    store.core.space.look_again()
    store.put(bucket, "again")
    store.reopen()
    assert store.keys(bucket) == ["again"]
    store.close()


def test_store_rule_23_a_row_that_strayed_to_another_key_is_damage(store: CommittedStore, bucket: BucketId) -> None:
    store.put(bucket, "a")
    table = store.tables.current
    with store.tables.environment.begin(write=True) as transaction:
        prefix = bucket.to_bytes(8, "big")
        row = transaction.get(prefix + b"a", db=table.handle)
        assert row is not None
        transaction.put(prefix + b"b", row, db=table.handle)
    with store.view() as view:
        assert view.latest(bucket, "a") is not None
        with pytest.raises(errors.RecordDamaged, match="current"):
            view.latest(bucket, "b")
        with pytest.raises(errors.RecordDamaged):
            list(view.list_objects(bucket, b"", b""))
