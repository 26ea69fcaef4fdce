"""Parts: uploading them, and completing an upload. Copying bytes into a part is in `partcopy`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from rs3d.engine.bodies import StoredBody, store_body
from rs3d.engine.checksums import check_equal, check_well_formed, whole_checksum
from rs3d.engine.conditions import may_hold
from rs3d.engine.encryption import check_completing_key, data_key_of_upload, is_sealed_by_bucket, upload_envelope
from rs3d.engine.etags import EtagAlgorithm, multipart_etag
from rs3d.engine.plan import BodyPlan, check_declared_length, check_part_quota, plan_part, upload_etag
from rs3d.engine.put import latest_object, put_result
from rs3d.engine.rekeying import is_stale, rewrapped_envelope
from rs3d.engine.requests import BodyChecks, CompletedPart, CompleteRequest, CustomerKey
from rs3d.engine.results import PartResult, PutResult
from rs3d.engine.runtime import PARTS_ON_LOOP, Runtime, find_bucket
from rs3d.engine.uploads import find_open_upload, find_upload
from rs3d.errors import (
    BadDigest,
    EntityTooLarge,
    EntityTooSmall,
    InvalidArgument,
    InvalidPart,
    InvalidPartOrder,
    NoSuchUpload,
)
from rs3d.format.merkletree import merkle_root
from rs3d.stores.interfaces import BlobOrigin, CatalogSnapshot
from rs3d.types.body import BodySource
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import TOKEN_BYTES, UploadId
from rs3d.types.names import check_object_key
from rs3d.types.objects import Checksum, ChecksumType, Extent, MutablePart, ObjectMeta, PartEntry, Upload
from rs3d.types.operations import NO_PRECONDITIONS, CompleteUpload, PutPart

MAXIMUM_PARTS: Final = 10_000


def check_part_number(number: int) -> None:
    """Raises InvalidArgument unless it is 1 to 10,000."""
    if not 1 <= number <= MAXIMUM_PARTS:
        raise InvalidArgument(name="partNumber", value=str(number), reason=f"must be 1 to {MAXIMUM_PARTS}")


async def upload_part(
    runtime: Runtime,
    bucket: str,
    key: str,
    upload_id: str,
    number: int,
    body: BodySource,
    checks: BodyChecks,
    customer_key: CustomerKey | None = None,
) -> PartResult:
    """Store a part of an open upload, replacing one of the same number.

    Raises:
        NoSuchBucket, NoSuchUpload, InvalidArgument, BadDigest, EntityTooLarge, QuotaExceeded …: nothing is stored.
    """
    check_object_key(key)
    check_part_number(number)

    def look(view: CatalogSnapshot) -> tuple[Bucket, Upload, BodyPlan]:
        record = find_bucket(view, bucket)
        upload = find_upload(view, record, key, upload_id)
        data_key = data_key_of_upload(runtime.sealing, record, upload, customer_key)
        plan = plan_part(record, upload, checks, runtime.config, data_key)
        check_declared_length(plan, body.declared_bytes)
        check_part_quota(view, record, body.declared_bytes or 0)
        return record, upload, plan

    record, upload, plan = await runtime.fetching_keys(lambda: runtime.look_up(look))
    plan = await runtime.chunk_sharing.complete(plan, record, is_sealed_by_bucket(upload), body.declared_bytes)
    stored = await store_body(runtime, plan, body, part_origin(runtime, bucket, upload, number))
    return await commit_part(runtime, record, upload, number, stored)


def part_origin(runtime: Runtime, bucket: str, upload: Upload, number: int) -> BlobOrigin:
    """What the sidecar of a part's blob says of where it belongs."""
    return BlobOrigin(
        bucket=bucket,
        key=upload.key,
        upload=upload.upload.text(),
        part_number=number,
        headers=upload.headers,
        written_ns=runtime.clock.wall_ns(),
    )


def part_operation(runtime: Runtime, bucket: Bucket, upload: Upload, number: int, stored: StoredBody) -> PutPart:
    """Makes a stored body, or a run of another blob's bytes, a part."""
    if not isinstance(stored.placement, Extent):
        raise InvalidArgument(name="part", value=str(number), reason="parts are blobs")
    checksum = stored.checksums[0] if stored.checksums and upload.checksum_algorithm else None
    entry = PartEntry(
        number=number,
        size_bytes=stored.size_bytes,
        md5=stored.md5,
        extent=stored.placement,
        etag=stored.etag,
        checksum=checksum,
        merkle_root=stored.merkle_root,
    )
    return PutPart(
        id=runtime.committer.next_id(),
        bucket=bucket.bucket_id,
        key=upload.key,
        upload=upload.upload,
        part=entry,
        new_blobs=stored.new_blobs,
    )


async def commit_part(runtime: Runtime, bucket: Bucket, upload: Upload, number: int, stored: StoredBody) -> PartResult:
    """Make a stored body, or a run of another blob's bytes, a part."""
    operation = part_operation(runtime, bucket, upload, number, stored)
    outcome = await runtime.commit(operation, stored.new_blobs)
    return PartResult(
        etag=stored.etag,
        size_bytes=stored.size_bytes,
        last_modified_ns=outcome.last_modified_ns,
        checksums=stored.checksums,
        envelope=upload_envelope(upload),
    )


# -------------------------------------------------------------------------------------------------------- complete


async def complete_multipart_upload(
    runtime: Runtime, bucket: str, key: str, upload_id: str, request: CompleteRequest
) -> PutResult:
    """Turn the parts named into an object. Metadata only: no byte is read or moved.

    A repetition after success answers the same again, as long as the version it made exists.

    Raises:
        NoSuchBucket, NoSuchUpload, InvalidPartOrder, InvalidPart, EntityTooSmall, BadDigest, InvalidArgument,
        PreconditionFailed, NoSuchKey (If-Match on a missing key), StaleRevision (parts keep changing),
        PartKeyMissing, PartKeyWrong, CustomerKeyNotApplicable
    """
    check_object_key(key)
    _check_order(request.parts)
    check_well_formed(request.checksums)

    def look(view: CatalogSnapshot) -> tuple[Bucket, Upload | None, ObjectMeta | None]:
        record = find_bucket(view, bucket)
        upload = find_open_upload(view, record, key, upload_id)
        if upload is None:
            return record, None, None
        check_completing_key(runtime.sealing, record, upload, request.customer_key)
        if request.preconditions is not NO_PRECONDITIONS:
            may_hold(request.preconditions, latest_object(view, record, key))
        return record, upload, _completed_meta(runtime, view, record, upload, request)

    async def attempt() -> PutResult:
        if len(request.parts) > PARTS_ON_LOOP:
            record, upload, meta = await runtime.threads.run(lambda: runtime.read(look))
        else:
            record, upload, meta = await runtime.look_up(look)
        if upload is None or meta is None:
            return await _repeat(runtime, record, key, upload_id, request)
        envelope = upload_envelope(upload)
        if is_stale(runtime.sealing, record, envelope):
            # The bucket's key was rotated since the upload began: no version is made under an older one.
            envelope = await rewrapped_envelope(runtime.sealing, record, key, upload.upload.token, envelope)
        token = secrets.token_bytes(TOKEN_BYTES)
        meta = runtime.signing.signed(record, key, token, meta)
        outcome = await runtime.commit(
            CompleteUpload(
                id=runtime.committer.next_id(),
                bucket=record.bucket_id,
                key=key,
                upload=upload.upload,
                token=token,
                revision=upload.revision,
                parts=tuple(part.number for part in request.parts),
                meta=meta,
                mutable=MutablePart(
                    tags=upload.tags,
                    retention=upload.retention,
                    legal_hold=upload.legal_hold,
                    storage_class=upload.storage_class,
                    wrapped_key=envelope,
                ),
                preconditions=request.preconditions,
            )
        )
        result = put_result(outcome, meta)
        result.envelope = envelope
        return result

    return await runtime.replanning(attempt)


def _check_order(parts: Sequence[CompletedPart]) -> None:
    if not parts:
        raise InvalidArgument(name="CompleteMultipartUpload", value="", reason="names no part")
    previous = 0
    for part in parts:
        check_part_number(part.number)
        if part.number <= previous:
            raise InvalidPartOrder(part_number=part.number)
        previous = part.number


def _completed_meta(
    runtime: Runtime, view: CatalogSnapshot, bucket: Bucket, upload: Upload, request: CompleteRequest
) -> ObjectMeta:
    """Hold the client's list against the parts that are there; what the object will be."""
    present = {entry.number: entry for entry in view.parts(upload.upload)}
    selected = [_matching_part(present.get(part.number), part) for part in request.parts]
    for entry in selected[:-1]:
        if entry.size_bytes < runtime.config.minimum_part_bytes:
            raise EntityTooSmall(
                part_number=entry.number,
                size_bytes=entry.size_bytes,
                minimum_bytes=runtime.config.minimum_part_bytes,
                etag=entry.etag,
            )
    size = sum(entry.size_bytes for entry in selected)
    if size > runtime.config.maximum_object_bytes:
        raise EntityTooLarge(size_bytes=size, maximum_bytes=runtime.config.maximum_object_bytes)
    if request.size_bytes is not None and request.size_bytes != size:
        raise InvalidArgument(
            name="x-amz-mp-object-size", value=str(request.size_bytes), reason=f"the parts have {size} bytes"
        )
    algorithm = upload_etag(upload, bucket)
    roots = [entry.merkle_root for entry in selected]
    return ObjectMeta(
        size_bytes=size,
        etag=multipart_etag(algorithm, (bytes.fromhex(entry.etag) for entry in selected)),
        owner=upload.owner,
        headers=upload.headers,
        user_metadata=upload.user_metadata,
        checksums=_completed_checksums(upload, selected, request),
        part_count=len(selected),
        merkle_root=merkle_root(b"".join(roots), size) if all(roots) else b"",
    )


def _matching_part(entry: PartEntry | None, part: CompletedPart) -> PartEntry:
    if entry is None:
        raise InvalidPart(part_number=part.number, reason="was not uploaded")
    if part.etag and part.etag != entry.etag:
        raise InvalidPart(part_number=part.number, reason=f"has the ETag {entry.etag}, not {part.etag}")
    declared = part.checksum
    if declared is not None:
        if entry.checksum is None or declared.algorithm != entry.checksum.algorithm:
            raise InvalidPart(part_number=part.number, reason=f"has no checksum {declared.algorithm}")
        if declared.value != entry.checksum.value:
            raise InvalidPart(part_number=part.number, reason=f"has another {declared.algorithm}")
    return entry


def _completed_checksums(upload: Upload, selected: list[PartEntry], request: CompleteRequest) -> tuple[Checksum, ...]:
    if request.checksum_type is not None and request.checksum_type.value != (upload.checksum_type or "COMPOSITE"):
        raise InvalidArgument(
            name="x-amz-checksum-type",
            value=request.checksum_type.value,
            reason=f"the upload was begun with {upload.checksum_type or 'no checksum'}",
        )
    kept: tuple[Checksum, ...] = ()
    if upload.checksum_algorithm:
        digests = [(entry.checksum.value, entry.size_bytes) for entry in selected if entry.checksum is not None]
        if len(digests) != len(selected):
            missing = next(entry for entry in selected if entry.checksum is None)
            raise InvalidPart(part_number=missing.number, reason=f"has no checksum {upload.checksum_algorithm}")
        kept = (whole_checksum(upload.checksum_algorithm, ChecksumType(upload.checksum_type), digests),)
    for declared in request.checksums:
        computed = next((checksum for checksum in kept if checksum.algorithm == declared.algorithm), None)
        if computed is None:
            raise BadDigest(algorithm=declared.algorithm, declared="given", computed="none was asked for at the start")
        check_equal(declared.algorithm, declared.value, computed.value)
    return kept


async def _repeat(runtime: Runtime, bucket: Bucket, key: str, upload_id: str, request: CompleteRequest) -> PutResult:
    """The upload is gone: perhaps it was completed by the same request before (PITFALLS D24). The committer knows."""
    parsed = UploadId.parse(upload_id)
    digests = [_raw_etag(part.etag) for part in request.parts]
    if parsed is None or any(digest is None for digest in digests):
        raise NoSuchUpload(bucket=bucket.name, key=key, upload_id=upload_id)
    known = [digest for digest in digests if digest is not None]
    algorithm = EtagAlgorithm.SHA256 if len(known[0]) == 32 else EtagAlgorithm.MD5
    meta = ObjectMeta(size_bytes=0, etag=multipart_etag(algorithm, known), owner=bucket.owner, part_count=len(known))
    outcome = await runtime.commit(
        CompleteUpload(
            id=runtime.committer.next_id(),
            bucket=bucket.bucket_id,
            key=key,
            upload=parsed,
            token=secrets.token_bytes(TOKEN_BYTES),
            revision=0,
            parts=tuple(part.number for part in request.parts),
            meta=meta,
            mutable=MutablePart(),
            preconditions=NO_PRECONDITIONS,
        )
    )
    made = await runtime.look_up(lambda view: latest_object(view, bucket, key))
    envelope = b""
    if made is not None and made.version_text == outcome.version_text:
        meta, envelope = made.meta, made.mutable.wrapped_key
    result = put_result(outcome, meta)
    result.envelope = envelope
    return result


def _raw_etag(etag: str) -> bytes | None:
    try:
        raw = bytes.fromhex(etag)
    except ValueError:
        return None
    return raw if len(raw) in (16, 32) else None
