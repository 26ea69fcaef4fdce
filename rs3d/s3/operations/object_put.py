"""PutObject. Source: S3 API reference, PutObject."""

from __future__ import annotations

from typing import Final

from rs3d.documents.tagging import TagSet
from rs3d.engine.requests import PutRequest
from rs3d.errors import BadDigest
from rs3d.http.messages import NoBody, Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.checksums import checksum_headers
from rs3d.s3.conditions import write_preconditions
from rs3d.s3.encryption import request_headers, requested_encryption
from rs3d.s3.metadata import MERKLE_ROOT, stored_headers, user_metadata
from rs3d.s3.payload import body_checks, body_source, payload_error
from rs3d.types.identifiers import NULL_VERSION
from rs3d.types.objects import Pairs


def tags_of(call: Call) -> Pairs:
    """The tags in x-amz-tagging; giving any needs its own permission.

    Raises:
        InvalidTag, AccessDenied
    """
    text = call.s3.header(b"x-amz-tagging")
    if text is None:
        return ()
    tags = TagSet.from_header(text).pairs
    if tags:
        call.services.authorizer.check(call.identity, "s3:PutObjectTagging", call.existing_bucket(), call.s3.key)
    return tags


async def put_object(call: Call) -> Response:
    """PutObject."""
    bucket = call.existing_bucket()
    head = call.http.head
    encryption = await call.engine.resolve_encryption(bucket, requested_encryption(call))
    request = PutRequest(
        headers=stored_headers(head),
        user_metadata=user_metadata(head),
        tags=tags_of(call),
        encryption=encryption,
        checks=body_checks(call),
        preconditions=write_preconditions(head),
    )
    try:
        result = await call.engine.put_object(bucket.name, call.s3.key, body_source(call), request)
    except BadDigest as error:
        raise payload_error(call, error) from None
    headers = [(b"ETag", b'"' + result.etag.encode("ascii") + b'"')]
    headers.extend(checksum_headers(result.checksums, 0))
    if result.merkle_root:
        headers.append((MERKLE_ROOT, result.merkle_root.hex().encode("ascii")))
    headers.extend(request_headers(encryption))
    # As on S3: while versioning is suspended a put reports no version id.
    if result.reports_version and result.version_text != NULL_VERSION:
        headers.append((b"x-amz-version-id", result.version_text.encode("ascii")))
    return Response(200, headers, NoBody())


HANDLERS: Final[dict[str, OperationHandler]] = {"PutObject": put_object}
