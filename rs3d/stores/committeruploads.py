"""The committer's side of multipart uploads: OpenUpload, PutPart, CompleteUpload, AbortUpload, FreeSetMembers.

Uploads, parts, completes and aborts of one upload race in the committer's queue only: each sees all before it.
Source: S3 API CreateMultipartUpload, UploadPart, CompleteMultipartUpload, AbortMultipartUpload; STORE.md 16.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import Final

from rs3d.errors import (
    InvalidArgument,
    InvalidPart,
    InvalidPartOrder,
    NoSuchUpload,
    StaleRevision,
)
from rs3d.format import recordbodies as bodies
from rs3d.format.keys import inverted
from rs3d.format.record import RecordKind
from rs3d.format.rows import ORIGIN, PART, PART_BYTES, VERSION, SetRow, VersionRow, is_unselected, pack_part
from rs3d.stores.cataloguploads import UPLOAD_DECODER, UploadRow, part_key
from rs3d.stores.committerplan import Desk, Done, Plan, Record, bucket_of, check_blob_source, check_new_blobs
from rs3d.stores.committerversions import check_preconditions, check_quota, check_replaced
from rs3d.stores.outcomes import nothing_done, put_outcome
from rs3d.types.buckets import Bucket, Versioning
from rs3d.types.identifiers import TOKEN_BYTES, Sequence, UploadId
from rs3d.types.operations import (
    NO_PRECONDITIONS,
    AbortUpload,
    CompleteUpload,
    FreeSetMembers,
    OpenUpload,
    PutPart,
)

FREED_PER_STEP: Final = 1000


def open_upload(desk: Desk, op: OpenUpload) -> Plan:
    bucket_of(desk, op.bucket)
    if len(op.token) != TOKEN_BYTES:
        raise InvalidArgument(name="token", value=op.token.hex(), reason=f"must have {TOKEN_BYTES} bytes")
    body = bodies.UploadOpened(
        operation=desk.tag,
        bucket=op.bucket,
        key=op.key,
        token=op.token,
        owner=op.owner,
        initiator=op.initiator,
        initiated_ns=desk.now_ns,
        headers=op.headers,
        user_metadata=op.user_metadata,
        mutable=op.mutable,
        checksum_algorithm=op.checksum_algorithm,
        checksum_type=op.checksum_type,
        settings=op.settings,
    )
    return Record(RecordKind.UPLOAD_OPENED, body)


def put_part(desk: Desk, op: PutPart) -> Plan:
    bucket = bucket_of(desk, op.bucket)
    _open_upload(desk, bucket, op.key, op.upload)
    if bucket.settings:
        state = desk.transaction.key_state(op.bucket, op.key)
        check_quota(desk, bucket, state, op.part.size_bytes, None)
    check_new_blobs(desk, op.new_blobs)
    referred = check_blob_source(desk, op.part.extent.blob, op.new_blobs)
    part = replace(op.part, sequence=desk.sequence, last_modified_ns=op.part.last_modified_ns or desk.now_ns)
    body = bodies.PartPut(
        operation=desk.tag,
        upload=op.upload.to_bytes(),
        part=pack_part(part),
        new_blobs=op.new_blobs,
        referred=referred,
    )
    return Record(RecordKind.PART_PUT, body)


def complete_upload(desk: Desk, op: CompleteUpload) -> Plan:
    bucket = bucket_of(desk, op.bucket)
    upload = op.upload.to_bytes()
    digest = selection_digest(op.parts)
    found = desk.transaction.get_origin(desk.tables.uploads, upload, UPLOAD_DECODER)
    if found is None:
        return _repeated(desk, op, bucket, digest)
    row = _open_upload(desk, bucket, op.key, op.upload)
    state = desk.transaction.key_state(op.bucket, op.key)
    if op.preconditions != NO_PRECONDITIONS:
        check_preconditions(bucket, state, op.preconditions)
    if row.revision != op.revision:
        raise StaleRevision(what=f"upload {op.upload.text()}")
    if len(op.token) != TOKEN_BYTES:
        raise InvalidArgument(name="token", value=op.token.hex(), reason=f"must have {TOKEN_BYTES} bytes")
    table, size_bytes, unselected = _select(desk, op)
    if size_bytes != op.meta.size_bytes or op.meta.part_count != len(op.parts):
        raise InvalidArgument(name="size", value=str(op.meta.size_bytes), reason=f"the parts have {size_bytes} bytes")
    null = bucket.versioning is not Versioning.ENABLED
    replaced = check_replaced(desk, bucket, state, null)
    if bucket.settings:
        check_quota(desk, bucket, state, size_bytes - row.part_bytes, replaced)
    body = bodies.UploadCompleted(
        operation=desk.tag,
        bucket=op.bucket,
        key=op.key,
        token=op.token,
        null=null,
        reports_version=bucket.versioning is not Versioning.UNVERSIONED,
        last_modified_ns=op.meta.last_modified_ns or desk.now_ns,
        meta=op.meta,
        mutable=op.mutable,
        upload=upload,
        parts_digest=digest,
        part_count=len(op.parts),
        unselected=unselected,
    )
    return Record(RecordKind.UPLOAD_COMPLETED, body, table)


def selection_digest(parts: tuple[int, ...]) -> bytes:
    """What tells one selection of parts from another in the set's row."""
    return blake2b(b"".join(number.to_bytes(2, "big") for number in parts), digest_size=16).digest()


def _select(desk: Desk, op: CompleteUpload) -> tuple[bytes, int, tuple[int, ...]]:
    """The part table of the selection, its bytes, and the parts left out."""
    upload = op.upload.to_bytes()
    if not op.parts:
        raise InvalidPart(part_number=0, reason="at least one part is needed")
    chosen = set()
    previous = 0
    for number in op.parts:
        if not previous < number <= 10_000:
            raise InvalidPartOrder(part_number=number)
        chosen.add(number)
        previous = number
    rows, left_out, size_bytes = [], [], 0
    for key, value in desk.transaction.scan(desk.tables.parts, upload, upload):
        number = int.from_bytes(key[-2:], "big")
        if number not in chosen:
            left_out.append(number)
            continue
        rows.append(value[ORIGIN.size :])
        size_bytes += PART.unpack_from(value, ORIGIN.size)[1]
        chosen.discard(number)
    if chosen:
        raise InvalidPart(part_number=min(chosen), reason="was not uploaded")
    table = b"".join(rows)
    if len(table) != PART_BYTES * len(op.parts):
        raise InvalidPart(part_number=0, reason="a part's row has a wrong length")
    return table, size_bytes, tuple(left_out)


def _repeated(desk: Desk, op: CompleteUpload, bucket: Bucket, digest: bytes) -> Plan:
    """A Complete of an upload that was completed: the same answer for the same parts while the version exists
    (PITFALLS D24)."""
    gone = NoSuchUpload(bucket=bucket.name, key=op.key, upload_id=op.upload.text())
    found = desk.transaction.blob_set(op.upload.to_bytes())
    if found is None or found[0].references < 1 or found[0].bucket != op.bucket:
        raise gone
    made: SetRow = found[0]
    state = desk.transaction.key_state(op.bucket, op.key)
    value = desk.transaction.get(desk.tables.versions, state.row_key + inverted(Sequence(made.version)))
    if value is None or made.parts_digest != digest:
        raise gone
    row = VersionRow(*VERSION.unpack(value))
    if row.placement_id != op.upload.to_bytes() or (op.meta.etag and row.etag != op.meta.etag):
        raise gone
    reports = bucket.versioning is not Versioning.UNVERSIONED
    return Done(put_outcome(made.version, row.token, row.is_null, reports, row.last_modified_ns, row.etag))


def abort_upload(desk: Desk, op: AbortUpload) -> Plan:
    bucket = bucket_of(desk, op.bucket)
    _open_upload(desk, bucket, op.key, op.upload)
    return Record(RecordKind.UPLOAD_ABORTED, bodies.UploadAborted(operation=desk.tag, upload=op.upload.to_bytes()))


def _open_upload(desk: Desk, bucket: Bucket, key: str, upload: UploadId) -> UploadRow:
    found = desk.transaction.get_origin(desk.tables.uploads, upload.to_bytes(), UPLOAD_DECODER)
    if found is None or found[1].opened.bucket != bucket.bucket_id or found[1].opened.key != key:
        raise NoSuchUpload(bucket=bucket.name, key=key, upload_id=upload.text())
    return found[1]


def free_set_members(desk: Desk, op: FreeSetMembers) -> Plan:
    """One step: of a dead set or aborted upload all members, of a living one those that Complete left out."""
    upload = op.upload.to_bytes()
    if desk.transaction.get(desk.tables.garbage, upload) is None:
        return Done(nothing_done())
    found = desk.transaction.blob_set(upload)
    bitmap = found[1] if found is not None and found[0].references else None
    numbers: list[int] = []
    remaining = 0
    for key, _ in desk.transaction.scan(desk.tables.parts, part_key(upload, 0), upload):
        number = int.from_bytes(key[-2:], "big")
        if bitmap is not None and not is_unselected(bitmap, number):
            continue
        if len(numbers) < FREED_PER_STEP:
            numbers.append(number)
        else:
            remaining += 1
    body = bodies.SetMembersFreed(operation=desk.tag, upload=upload, numbers=tuple(numbers), remaining=remaining)
    return Record(RecordKind.SET_MEMBERS_FREED, body)
