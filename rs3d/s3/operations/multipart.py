"""Multipart uploads: create, upload parts, copy parts, complete, abort. Source: S3 API reference, pages of these
names."""

from __future__ import annotations

from typing import Final

from rs3d.documents.objects import CopyPartResult
from rs3d.documents.uploads import (
    MAXIMUM_COMPLETE_BYTES,
    CompleteMultipartUpload,
    CompleteMultipartUploadResult,
    InitiateMultipartUploadResult,
)
from rs3d.documents.uploads import CompletedPart as NamedPart
from rs3d.engine.encryption import upload_envelope
from rs3d.engine.requests import CompletedPart, CompleteRequest, PartCopyRequest, UploadRequest
from rs3d.errors import BadDigest, InvalidArgument, Rs3dError
from rs3d.http.messages import NoBody, Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.checksums import (
    DIGEST_BYTES,
    algorithm_of,
    checksum_headers,
    checksum_texts,
    checksum_type,
    decode_value,
)
from rs3d.s3.conditions import write_preconditions
from rs3d.s3.encryption import customer_key, envelope_headers, request_headers, requested_encryption
from rs3d.s3.errors import S3Refusal
from rs3d.s3.keptalive import kept_alive
from rs3d.s3.metadata import stored_headers, user_metadata
from rs3d.s3.operations.object_copy import authorized_source
from rs3d.s3.operations.object_put import tags_of
from rs3d.s3.payload import ChecksumOf, body_checks, body_source, payload_error, read_document
from rs3d.s3.responses import empty_response, xml_response
from rs3d.types.identifiers import NULL_VERSION
from rs3d.types.objects import Checksum, ChecksumType


def _checksum_type(call: Call) -> ChecksumType | None:
    text = call.s3.header(b"x-amz-checksum-type")
    if text is None:
        return None
    try:
        return ChecksumType(text.upper())
    except ValueError:
        raise S3Refusal("InvalidRequest", "Value for x-amz-checksum-type header is invalid.") from None


async def create_multipart_upload(call: Call) -> Response:
    """CreateMultipartUpload."""
    bucket = call.existing_bucket()
    head = call.http.head
    algorithm = algorithm_of(call.s3.header(b"x-amz-checksum-algorithm"))
    kind = _checksum_type(call)
    if kind is not None and not algorithm:
        raise S3Refusal(
            "InvalidRequest",
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
        )
    encryption = await call.engine.resolve_encryption(bucket, requested_encryption(call))
    request = UploadRequest(
        initiator=call.identity.user.canonical_id,
        headers=stored_headers(head),
        user_metadata=user_metadata(head),
        tags=tags_of(call),
        encryption=encryption,
        checksum_algorithm=algorithm,
        checksum_type=kind,
    )
    upload_id = await call.engine.create_multipart_upload(bucket.name, call.s3.key, request)
    response = xml_response(InitiateMultipartUploadResult(bucket.name, call.s3.key, upload_id).render())
    response.headers.extend(request_headers(encryption))
    if algorithm:
        upload = call.engine.upload(bucket.name, call.s3.key, upload_id)
        response.headers.append((b"x-amz-checksum-algorithm", upload.checksum_algorithm.encode("ascii")))
        response.headers.append((b"x-amz-checksum-type", upload.checksum_type.encode("ascii")))
    return response


def _part_number(call: Call) -> int:
    text = call.s3.query.get("partNumber", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= 10_000):
        raise InvalidArgument("partNumber", text, "Part number must be an integer between 1 and 10000, inclusive")
    return int(text)


async def upload_part(call: Call) -> Response:
    """UploadPart."""
    bucket = call.existing_bucket()
    number = _part_number(call)
    customer = customer_key(call)
    try:
        result = await call.engine.upload_part(
            bucket.name,
            call.s3.key,
            call.s3.query["uploadId"],
            number,
            body_source(call),
            body_checks(call),
            customer_key=customer,
        )
    except BadDigest as error:
        raise payload_error(call, error) from None
    headers = [(b"ETag", b'"' + result.etag.encode("ascii") + b'"')]
    headers.extend(pair for pair in checksum_headers(result.checksums, 0) if pair[0] != b"x-amz-checksum-type")
    headers.extend(envelope_headers(result.envelope))
    return Response(200, headers, NoBody())


async def upload_part_copy(call: Call) -> Response:
    """UploadPartCopy."""
    bucket = call.existing_bucket()
    number = _part_number(call)
    source = authorized_source(call)
    request = PartCopyRequest(
        source=source,
        source_range=call.s3.header(b"x-amz-copy-source-range"),
        customer_key=customer_key(call),
    )
    return await kept_alive(
        call,
        lambda: _copy_part(call, bucket.name, number, request),
        headers_so_far=lambda: _upload_headers(call, bucket.name),
    )


async def _copy_part(call: Call, bucket: str, number: int, request: PartCopyRequest) -> Response:
    result = await call.engine.upload_part_copy(bucket, call.s3.key, call.s3.query["uploadId"], number, request)
    document = CopyPartResult(result.etag, result.last_modified_ns, checksum_texts(result.checksums))
    response = xml_response(document.render())
    response.headers.extend(envelope_headers(result.envelope))
    if result.source is not None and result.source.reports_version:
        version = result.source.version.version_text.encode("ascii")
        response.headers.append((b"x-amz-copy-source-version-id", version))
    return response


def _upload_headers(call: Call, bucket: str) -> list[tuple[bytes, bytes]]:
    """How the parts of the upload that the request names are sealed; nothing when that cannot be told any more: what
    hinders it, such as the upload's end, is the operation's to say."""
    try:
        return envelope_headers(upload_envelope(call.engine.upload(bucket, call.s3.key, call.s3.query["uploadId"])))
    except Rs3dError:
        return []


def _named_checksum(part: NamedPart) -> Checksum | None:
    if not part.checksums:
        return None
    if len(part.checksums) > 1:
        raise S3Refusal("InvalidRequest", "A part may name one checksum only.")
    algorithm, text = part.checksums[0]
    return Checksum(algorithm, decode_value(algorithm, text))


def _declared_whole(call: Call) -> tuple[Checksum, ...]:
    """Checksums of the whole object in the head of a Complete; a composite one has `-N` behind its base64."""
    found = []
    for name, value in call.http.head.headers:
        if not name.startswith(b"x-amz-checksum-"):
            continue
        algorithm = name[len(b"x-amz-checksum-") :].decode("ascii").upper()
        if algorithm not in DIGEST_BYTES:
            continue
        text = value.decode("latin-1")
        base, dash, count = text.partition("-")
        if dash and not count.isdigit():
            raise S3Refusal("InvalidRequest", f"Value for {name.decode('ascii')} header is invalid.")
        kind = ChecksumType.COMPOSITE if dash else ChecksumType.FULL_OBJECT
        found.append(Checksum(algorithm, decode_value(algorithm, base), kind))
    return tuple(found)


async def complete_multipart_upload(call: Call) -> Response:
    """CompleteMultipartUpload: metadata only, so the answer comes at once, unless the disk is slow."""
    bucket = call.existing_bucket()
    size = call.s3.header(b"x-amz-mp-object-size")
    if size is not None and not (size.isascii() and size.isdigit() and len(size) < 20):
        raise S3Refusal("InvalidRequest", "Value for x-amz-mp-object-size header is invalid.")
    # The checksum headers of this request are the object's, not the document's.
    body = await read_document(
        call, maximum_bytes=MAXIMUM_COMPLETE_BYTES, checksum_of=ChecksumOf.OBJECT, required=False
    )
    named = CompleteMultipartUpload.parse(body)  # no body is as malformed as one without a part
    request = CompleteRequest(
        parts=tuple(
            CompletedPart(number=part.number, etag=part.etag, checksum=_named_checksum(part)) for part in named.parts
        ),
        checksums=_declared_whole(call),
        checksum_type=_checksum_type(call),
        size_bytes=None if size is None else int(size),
        preconditions=write_preconditions(call.http.head),
        customer_key=customer_key(call),
    )
    return await kept_alive(
        call,
        lambda: _complete(call, bucket.name, request),
        headers_so_far=lambda: _upload_headers(call, bucket.name),
    )


async def _complete(call: Call, bucket: str, request: CompleteRequest) -> Response:
    result = await call.engine.complete_multipart_upload(bucket, call.s3.key, call.s3.query["uploadId"], request)
    host = call.s3.header(b"host") or ""
    document = CompleteMultipartUploadResult(
        location=f"{call.http.scheme.value}://{host}/{bucket}/{call.s3.key}",
        bucket=bucket,
        key=call.s3.key,
        etag=result.etag,
        checksums=checksum_texts(result.checksums, result.part_count),
        checksum_type=checksum_type(result.checksums),
    )
    response = xml_response(document.render())
    response.headers.extend(envelope_headers(result.envelope))
    if result.reports_version and result.version_text != NULL_VERSION:
        response.headers.append((b"x-amz-version-id", result.version_text.encode("ascii")))
    return response


async def abort_multipart_upload(call: Call) -> Response:
    """AbortMultipartUpload."""
    await call.engine.abort_multipart_upload(call.existing_bucket().name, call.s3.key, call.s3.query["uploadId"])
    return empty_response(204)


HANDLERS: Final[dict[str, OperationHandler]] = {
    "CreateMultipartUpload": create_multipart_upload,
    "UploadPart": upload_part,
    "UploadPartCopy": upload_part_copy,
    "CompleteMultipartUpload": complete_multipart_upload,
    "AbortMultipartUpload": abort_multipart_upload,
}
