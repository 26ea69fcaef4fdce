"""CopyObject. Source: S3 API reference, CopyObject."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rs3d.documents.objects import CopyObjectResult
from rs3d.engine.requests import CopyRequest, CopySource, Directive
from rs3d.errors import AccessDenied
from rs3d.http.messages import Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.checksums import algorithm_of, checksum_texts, checksum_type
from rs3d.s3.conditions import write_preconditions
from rs3d.s3.copysource import parse_copy_source
from rs3d.s3.encryption import COPY_SOURCE, customer_key, request_headers, requested_encryption
from rs3d.s3.errors import S3Refusal
from rs3d.s3.keptalive import kept_alive
from rs3d.s3.metadata import stored_headers, user_metadata
from rs3d.s3.operations.object_put import tags_of
from rs3d.s3.responses import xml_response
from rs3d.types.identifiers import NULL_VERSION


def authorized_source(call: Call) -> CopySource:
    """The source of a copy, once the caller is known to be allowed to read it (PITFALLS S5).

    Raises:
        S3Refusal, AccessDenied, NoSuchBucket
    """
    source = parse_copy_source(call.s3.copy_source or "", call.http.head)
    bucket = call.engine.bucket(source.bucket)
    expected = call.s3.header(b"x-amz-source-expected-bucket-owner")
    if expected is not None and expected != bucket.owner:
        raise AccessDenied(
            action="s3:GetObject", resource=bucket.name, reason="x-amz-source-expected-bucket-owner differs"
        )
    action = "s3:GetObject" if source.version is None else "s3:GetObjectVersion"
    call.services.authorizer.check(call.identity, action, bucket, source.key)
    return replace(source, customer_key=customer_key(call, COPY_SOURCE))


def _directive(call: Call, name: bytes) -> Directive:
    text = call.s3.header(name)
    if text is None:
        return Directive.COPY
    try:
        return Directive(text)
    except ValueError:
        raise S3Refusal("InvalidArgument", f"Unknown {name.decode('ascii')}.") from None


async def copy_object(call: Call) -> Response:
    """CopyObject: metadata only, the bytes are shared, unless they are to be sealed in another way."""
    bucket = call.existing_bucket()
    head = call.http.head
    source = authorized_source(call)
    metadata = _directive(call, b"x-amz-metadata-directive")
    tagging = _directive(call, b"x-amz-tagging-directive")
    replaces = metadata is Directive.REPLACE
    to_itself = source.bucket == bucket.name and source.key == call.s3.key and source.version is None
    changes = (
        b"x-amz-storage-class",
        b"x-amz-server-side-encryption",
        b"x-amz-server-side-encryption-customer-algorithm",
    )
    unchanged = all(head.get(name) is None for name in changes)
    if to_itself and not replaces and tagging is Directive.COPY and unchanged:
        raise S3Refusal(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes.",
        )
    encryption = requested_encryption(call)
    request = CopyRequest(
        source=source,
        metadata_directive=metadata,
        headers=stored_headers(head) if replaces else (),
        user_metadata=user_metadata(head) if replaces else (),
        tagging_directive=tagging,
        tags=tags_of(call) if tagging is Directive.REPLACE else (),
        encryption=encryption,
        checksum_algorithm=algorithm_of(call.s3.header(b"x-amz-checksum-algorithm")),
        preconditions=write_preconditions(head),
    )
    return await kept_alive(
        call, lambda: _copy(call, bucket.name, request), headers_so_far=lambda: request_headers(encryption)
    )


async def _copy(call: Call, bucket: str, request: CopyRequest) -> Response:
    result = await call.engine.copy_object(bucket, call.s3.key, request)
    document = CopyObjectResult(
        etag=result.etag,
        last_modified_ns=result.last_modified_ns,
        checksums=checksum_texts(result.checksums, result.source.version.meta.part_count),
        checksum_type=checksum_type(result.checksums),
    )
    response = xml_response(document.render())
    response.headers.extend(request_headers(result.encryption))
    if result.reports_version and result.version_text != NULL_VERSION:
        response.headers.append((b"x-amz-version-id", result.version_text.encode("ascii")))
    if result.source.reports_version:
        source_version = result.source.version.version_text.encode("ascii")
        response.headers.append((b"x-amz-copy-source-version-id", source_version))
    return response


HANDLERS: Final[dict[str, OperationHandler]] = {"CopyObject": copy_object}
