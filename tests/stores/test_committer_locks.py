"""Object lock in the commit: retention, legal hold, and a clock that cannot be trusted."""

from __future__ import annotations

import pytest

from rs3d import errors
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BucketId, VersionId
from rs3d.types.objects import (
    LegalHold,
    MutablePart,
    Retention,
    RetentionMode,
)
from tests.stores.committed import CommittedStore

DAY_NS = 86_400 * 10**9


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
