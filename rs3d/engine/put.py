"""PutObject: plan, store the body, commit."""

from __future__ import annotations

import secrets

from rs3d.engine.bodies import StoredBody, store_body
from rs3d.engine.conditions import may_hold
from rs3d.engine.encryption import new_data_key, seal, wanted_encryption
from rs3d.engine.plan import BodyPlan, check_declared_length, check_object_quota, plan_object
from rs3d.engine.rekeying import is_stale, rewrapped_envelope
from rs3d.engine.requests import EncryptionMode, EncryptionRequest, PutRequest
from rs3d.engine.results import PutResult
from rs3d.engine.runtime import Runtime, find_bucket
from rs3d.stores.interfaces import BlobOrigin, CatalogSnapshot
from rs3d.types.body import BodySource
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import TOKEN_BYTES
from rs3d.types.names import check_object_key
from rs3d.types.objects import CanonicalId, MutablePart, ObjectMeta, ObjectVersion, VersionKind
from rs3d.types.operations import NO_PRECONDITIONS, Outcome, PutVersion


async def put_object(runtime: Runtime, bucket: str, key: str, body: BodySource, request: PutRequest) -> PutResult:
    """Store `body` as the latest version of `key`. Durable and visible when it returns.

    Everything that can refuse the request without its body is asked before the first `receive_into`.

    Raises:
        NoSuchBucket, InvalidKey, PreconditionFailed, NoSuchKey, QuotaExceeded, EntityTooLarge, BadDigest,
        IncompleteBody …:
            nothing is stored. OutcomeUnknown, CommitterGone: it may have been.
    """
    check_object_key(key)

    data_key = new_data_key(request.encryption) if request.encryption is not None else None

    def look(view: CatalogSnapshot) -> tuple[Bucket, BodyPlan]:
        nonlocal data_key
        record = find_bucket(view, bucket)
        wanted = wanted_encryption(record, request.encryption)
        if data_key is None and wanted is not None:
            data_key = new_data_key(wanted)
        plan = plan_object(record, request.checks, request.storage_class, runtime.config, data_key)
        # What can be refused now is refused before the body is asked for, so that it need not be sent.
        check_declared_length(plan, body.declared_bytes)
        check_object_quota(view, record, key, body.declared_bytes or 0)
        if request.preconditions is not NO_PRECONDITIONS:
            may_hold(request.preconditions, latest_object(view, record, key))
        return record, plan

    record, plan = await runtime.look_up(look)
    owner = request.owner or record.owner
    origin = BlobOrigin(bucket=bucket, key=key, headers=request.headers, written_ns=runtime.clock.wall_ns())
    token = secrets.token_bytes(TOKEN_BYTES)
    wrapped_key = b""
    encryption = wanted_encryption(record, request.encryption)
    if data_key is not None and encryption is not None:
        # Before the body: a bucket whose key cannot be made or opened takes nothing.
        wrapped_key = await seal(runtime.sealing, record, key, token, data_key, encryption, plan.layers.cipher)
    by_bucket = encryption is not None and encryption.mode is EncryptionMode.STORE
    plan = await runtime.chunk_sharing.complete(plan, record, by_bucket, body.declared_bytes)
    stored = await store_body(runtime, plan, body, origin)
    if wrapped_key and encryption is not None:
        wrapped_key = await _under_newest(runtime, record, key, token, wrapped_key, encryption)
    meta = runtime.signing.signed(record, key, token, object_meta(stored, request, owner))
    operation = PutVersion(
        id=runtime.committer.next_id(),
        bucket=record.bucket_id,
        key=key,
        token=token,
        meta=meta,
        mutable=MutablePart(tags=request.tags, storage_class=request.storage_class, wrapped_key=wrapped_key),
        placement=stored.placement,
        new_blobs=stored.new_blobs,
        preconditions=request.preconditions,
    )
    outcome = await runtime.commit(operation, stored.new_blobs)
    return put_result(outcome, meta)


async def _under_newest(
    runtime: Runtime, bucket: Bucket, key: str, token: bytes, envelope: bytes, encryption: EncryptionRequest
) -> bytes:
    """The envelope, made anew when the bucket's key was rotated while the body came."""
    with runtime.catalog.snapshot() as view:
        current = view.bucket_by_id(bucket.bucket_id)
    if (
        current is None
        or encryption.mode is EncryptionMode.CUSTOMER
        or not is_stale(runtime.sealing, current, envelope)
    ):
        return envelope

    async def again() -> bytes:
        return await rewrapped_envelope(runtime.sealing, current, key, token, envelope)

    return await runtime.fetching_keys(again)


def latest_object(view: CatalogSnapshot, bucket: Bucket, key: str) -> ObjectVersion | None:
    """The key's latest version if it is an object."""
    latest = view.latest(bucket.bucket_id, key)
    return latest if latest is not None and latest.kind is VersionKind.OBJECT else None


def object_meta(stored: StoredBody, request: PutRequest, owner: CanonicalId) -> ObjectMeta:
    """The unchanging part of a version put in one piece."""
    return ObjectMeta(
        size_bytes=stored.size_bytes,
        etag=stored.etag,
        owner=owner,
        headers=request.headers,
        user_metadata=request.user_metadata,
        checksums=stored.checksums,
        merkle_root=stored.merkle_root,
    )


def put_result(outcome: Outcome, meta: ObjectMeta) -> PutResult:
    """What the caller is told of a committed put."""
    return PutResult(
        etag=outcome.etag or meta.etag,
        size_bytes=meta.size_bytes,
        last_modified_ns=outcome.last_modified_ns,
        version_text=outcome.version_text,
        reports_version=outcome.reports_version,
        checksums=meta.checksums,
        part_count=meta.part_count,
        merkle_root=meta.merkle_root,
        sequence=outcome.sequence,
    )
