"""The committer's side of versions: PutVersion, RemoveVersion, PatchVersion. Everything that decides whether and
where is checked here.

Source: S3 API PutObject, DeleteObject; S3 User Guide "Using versioning", "Conditional requests".
"""

from __future__ import annotations

from typing import Final

from rs3d.clock import NANOSECONDS_PER_SECOND
from rs3d.errors import (
    InvalidArgument,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
    QuotaExceeded,
    StaleRevision,
    StaleSource,
)
from rs3d.format import recordbodies as bodies
from rs3d.format.record import RecordKind
from rs3d.format.rows import KIND_MARKER, VersionRow
from rs3d.stores.catalogwriter import BYTES, OBJECTS, UPLOAD_BYTES, FoundVersion, KeyState
from rs3d.stores.committerlock import check_unlocked
from rs3d.stores.committerplan import Desk, Done, Plan, Record, bucket_of, check_blob_source, check_new_blobs
from rs3d.stores.outcomes import nothing_done
from rs3d.stores.putmessage import PutMessage, put_message
from rs3d.types.buckets import Bucket, Versioning
from rs3d.types.identifiers import NULL_VERSION, TOKEN_BYTES, Sequence, VersionId
from rs3d.types.objects import Inline, MutablePart
from rs3d.types.operations import (
    NO_PRECONDITIONS,
    Bypass,
    PatchVersion,
    Preconditions,
    PutVersion,
    RemoveVersion,
)

MAXIMUM_INLINE_BYTES: Final = 1 << 20


def put_version(desk: Desk, op: PutVersion) -> Plan:
    placement = op.placement
    return put_message_plan(desk, put_message(op, placement.payload if isinstance(placement, Inline) else b""))


def put_message_plan(desk: Desk, op: PutMessage) -> Plan:
    """PutVersion, as it comes from a worker."""
    bucket = bucket_of(desk, op.bucket)
    t = desk.transaction
    state = t.key_state(op.bucket, op.key)
    if op.preconditions is not None:
        check_preconditions(bucket, state, op.preconditions)
    _check_token(op.token)
    null = bucket.versioning is not Versioning.ENABLED
    replaced = check_replaced(desk, bucket, state, null)
    if bucket.settings:
        check_quota(desk, bucket, state, op.meta.size_bytes, replaced)
    referred = None
    if op.new_blobs:
        check_new_blobs(desk, op.new_blobs)
    inline, payload = op.inline, op.payload
    if inline is not None:
        if len(payload) != inline.stored_bytes or len(payload) > MAXIMUM_INLINE_BYTES or op.new_blobs:
            raise InvalidArgument(
                name="payload", value=str(len(payload)), reason="is not the inlined payload announced"
            )
    elif op.extent is not None:
        referred = check_blob_source(desk, op.extent.blob, op.new_blobs)
    else:
        _check_live_set(desk, op.upload)
    body = bodies.VersionPut(
        operation=desk.tag,
        bucket=op.bucket,
        key=op.key,
        token=op.token,
        null=null,
        reports_version=bucket.versioning is not Versioning.UNVERSIONED,
        last_modified_ns=op.meta.last_modified_ns or desk.now_ns,
        meta=op.meta,
        mutable=op.mutable,
        inline=inline,
        extent=op.extent,
        upload=op.upload,
        new_blobs=op.new_blobs,
        referred=referred,
    )
    return Record(RecordKind.VERSION_PUT, body, payload)


def _check_live_set(desk: Desk, upload: bytes) -> None:
    found = desk.transaction.blob_set(upload)
    if found is None or found[0].references < 1:
        raise StaleSource(blob=upload.hex())


def _check_token(token: bytes) -> None:
    if len(token) != TOKEN_BYTES:
        raise InvalidArgument(name="token", value=token.hex(), reason=f"must have {TOKEN_BYTES} bytes")


def check_replaced(desk: Desk, bucket: Bucket, state: KeyState, null: bool) -> FoundVersion | None:
    """The null version that a new null version takes the place of; it must not be locked.

    Raises:
        ObjectLocked
    """
    if not null or state.latest is None:
        return None
    old = desk.transaction.null_version(state)
    if old is not None:
        _check_lock(desk, bucket, state, old.sequence, old.row, Bypass.NO)
    return old


def check_quota(desk: Desk, bucket: Bucket, state: KeyState, size_bytes: int, replaced: FoundVersion | None) -> None:
    """Bucket settings `quota_bytes` (all versions and open uploads) and `quota_objects` (keys with an object).

    Raises:
        QuotaExceeded
    """
    quota_bytes, quota_objects = bucket.setting("quota_bytes"), bucket.setting("quota_objects")
    if quota_bytes is None and quota_objects is None:
        return
    counters = desk.transaction.counters(bucket.bucket_id)
    if quota_bytes is not None:
        freed = replaced.row.size_bytes if replaced is not None else 0
        if counters[BYTES] + counters[UPLOAD_BYTES] - freed + size_bytes > int(quota_bytes):
            raise QuotaExceeded(bucket=bucket.name, quota="quota_bytes", limit=int(quota_bytes))
    if quota_objects is not None:
        is_new = state.latest is None or not state.latest.is_object
        if is_new and counters[OBJECTS] + 1 > int(quota_objects):
            raise QuotaExceeded(bucket=bucket.name, quota="quota_objects", limit=int(quota_objects))


def check_preconditions(bucket: Bucket, state: KeyState, wanted: Preconditions) -> None:
    """Conditions on the key's latest object, inside the transaction that changes it.

    Raises:
        NoSuchKey: If-Match and there is no object.
        PreconditionFailed
    """
    latest = state.latest if state.latest is not None and state.latest.is_object else None
    if wanted.if_match is not None:
        if latest is None:
            raise NoSuchKey(bucket=bucket.name, key=state.key)
        if "*" not in wanted.if_match and latest.etag not in wanted.if_match:
            raise PreconditionFailed(condition="If-Match")
    if (
        wanted.if_none_match is not None
        and latest is not None
        and ("*" in wanted.if_none_match or latest.etag in wanted.if_none_match)
    ):
        raise PreconditionFailed(condition="If-None-Match")


def remove_version(desk: Desk, op: RemoveVersion) -> Plan:
    bucket = bucket_of(desk, op.bucket)
    state = desk.transaction.key_state(op.bucket, op.key)
    _check_token(op.token)
    if op.version is not None:
        return _remove_named(desk, op, bucket, state, op.version)
    if op.preconditions != NO_PRECONDITIONS:
        if state.latest is None:
            return Done(nothing_done())
        _check_removal_conditions(state.latest, op.preconditions)
    if bucket.versioning is Versioning.UNVERSIONED:
        null = desk.transaction.null_version(state)
        if null is None:
            return Done(nothing_done())
        _check_lock(desk, bucket, state, null.sequence, null.row, op.bypass)
        return _removal(desk, op, bucket, null)
    null_marker = bucket.versioning is Versioning.SUSPENDED
    check_replaced(desk, bucket, state, null_marker)
    body = bodies.MarkerPut(
        operation=desk.tag,
        bucket=op.bucket,
        key=op.key,
        token=op.token,
        null=null_marker,
        owner=op.owner,
        last_modified_ns=desk.now_ns,
    )
    return Record(RecordKind.MARKER_PUT, body)


def _remove_named(desk: Desk, op: RemoveVersion, bucket: Bucket, state: KeyState, version: VersionId | str) -> Plan:
    reports = bucket.versioning is not Versioning.UNVERSIONED
    if isinstance(version, str):
        if version != NULL_VERSION:
            raise InvalidArgument(name="versionId", value=version, reason="is no version id")
        found = desk.transaction.null_version(state)
        text = NULL_VERSION
    else:
        row = desk.transaction.version_row(state, version.sequence)
        found = None if row is None or row.token != version.token else FoundVersion(version.sequence, row)
        text = version.text()
    if found is None:
        return Done(nothing_done(text, reports_version=reports))
    if op.preconditions != NO_PRECONDITIONS:
        _check_removal_conditions(found.row, op.preconditions)
    _check_lock(desk, bucket, state, found.sequence, found.row, op.bypass)
    return _removal(desk, op, bucket, found)


def _check_removal_conditions(row: VersionRow, wanted: Preconditions) -> None:
    """Conditions of a delete hold for the version that it removes, or that its marker hides. What does not exist is
    deleted already, whatever the conditions: the caller asks only where there is a row.

    Raises:
        PreconditionFailed
    """
    names_etags = wanted.if_match is not None and "*" not in wanted.if_match
    if names_etags and (not row.is_object or row.etag not in (wanted.if_match or ())):
        raise PreconditionFailed(condition="If-Match")
    seconds = wanted.if_match_last_modified_s
    if seconds is not None and (not row.is_object or row.last_modified_ns // NANOSECONDS_PER_SECOND != seconds):
        raise PreconditionFailed(condition="x-amz-if-match-last-modified-time")
    size = wanted.if_match_size_bytes
    if size is not None and (not row.is_object or row.size_bytes != size):
        raise PreconditionFailed(condition="x-amz-if-match-size")


def _removal(desk: Desk, op: RemoveVersion, bucket: Bucket, found: FoundVersion) -> Record:
    body = bodies.VersionRemoved(
        operation=desk.tag,
        bucket=op.bucket,
        key=op.key,
        version=found.sequence,
        token=found.row.token,
        null=found.row.is_null,
        reports_version=bucket.versioning is not Versioning.UNVERSIONED,
        marker=found.row.kind == KIND_MARKER,
    )
    return Record(RecordKind.VERSION_REMOVED, body)


def patch_version(desk: Desk, op: PatchVersion) -> Plan:
    bucket = bucket_of(desk, op.bucket)
    state = desk.transaction.key_state(op.bucket, op.key)
    row = desk.transaction.version_row(state, op.version.sequence)
    if row is None or row.token != op.version.token or not row.is_object:
        raise NoSuchVersion(bucket=bucket.name, key=op.key, version_id=op.version.text())
    if row.revision != op.mutable.revision:
        raise StaleRevision(what=f"version {op.version.text()} of {op.key!r}")
    _check_lock(desk, bucket, state, op.version.sequence, row, op.bypass, op.mutable)
    mutable = MutablePart(
        revision=op.mutable.revision + 1,
        tags=op.mutable.tags,
        retention=op.mutable.retention,
        legal_hold=op.mutable.legal_hold,
        storage_class=op.mutable.storage_class,
        wrapped_key=op.mutable.wrapped_key,
    )
    body = bodies.VersionPatched(
        operation=desk.tag,
        bucket=op.bucket,
        key=op.key,
        version=op.version.sequence,
        token=row.token,
        null=row.is_null,
        mutable=mutable,
    )
    return Record(RecordKind.VERSION_PATCHED, body)


def _check_lock(
    desk: Desk,
    bucket: Bucket,
    state: KeyState,
    sequence: Sequence,
    row: VersionRow,
    bypass: Bypass,
    replacement: MutablePart | None = None,
) -> None:
    check_unlocked(
        state,
        sequence,
        row,
        bucket_name=bucket.name,
        now_ns=desk.clock.earlier_ns(desk.now_ns),
        clock_is_suspect=desk.clock.is_suspect,
        bypass=bypass,
        replacement=replacement,
    )
