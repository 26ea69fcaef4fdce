"""DeleteObject and DeleteObjects. Source: S3 API reference, pages of these names."""

from __future__ import annotations

from typing import Final

from rs3d.clock import NANOSECONDS_PER_SECOND
from rs3d.documents.deletion import (
    MAXIMUM_BYTES,
    Delete,
    DeletedObject,
    DeleteResult,
    DeletionError,
    ObjectIdentifier,
)
from rs3d.engine.requests import DeleteItem, DeleteRequest
from rs3d.engine.results import DeletedItem
from rs3d.errors import AccessDenied
from rs3d.http.messages import NoBody, Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.conditions import delete_preconditions
from rs3d.s3.errors import S3Refusal, describe
from rs3d.s3.payload import read_document
from rs3d.s3.responses import xml_response
from rs3d.types.operations import NO_PRECONDITIONS, Preconditions


async def delete_object(call: Call) -> Response:
    """DeleteObject."""
    bucket = call.existing_bucket()
    request = DeleteRequest(version=call.version, preconditions=delete_preconditions(call.http.head))
    result = await call.engine.delete_object(bucket.name, call.s3.key, request)
    headers: list[tuple[bytes, bytes]] = []
    if result.version_text and (result.reports_version or call.version is not None):
        headers.append((b"x-amz-version-id", result.version_text.encode("ascii")))
    if result.delete_marker:
        headers.append((b"x-amz-delete-marker", b"true"))
    return Response(204, headers, NoBody())


async def delete_objects(call: Call) -> Response:
    """DeleteObjects: each key is authorized and deleted for itself; the answer is 200 whatever became of them.

    As S3 does, the body needs a digest: Content-MD5 or a checksum.
    """
    bucket = call.existing_bucket()
    head = call.http.head
    has_digest = (
        head.get(b"content-md5")
        or head.get(b"x-amz-trailer")
        or any(name.startswith(b"x-amz-checksum-") for name, _ in head.headers)
    )
    if not has_digest:
        raise S3Refusal("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    wanted = Delete.parse(await read_document(call, maximum_bytes=MAXIMUM_BYTES))
    outcomes: list[DeletedObject | DeletionError] = []
    permitted: list[DeleteItem] = []
    for item in wanted.objects:
        action = "s3:DeleteObjectVersion" if item.version_id else "s3:DeleteObject"
        try:
            call.services.authorizer.check(call.identity, action, bucket, item.key)
        except AccessDenied as denied:
            outcomes.append(_failure(item.key, item.version_id, denied))
        else:
            permitted.append(_delete_item(item))
    for done in await call.engine.delete_objects(bucket.name, permitted):
        if done.error is not None:
            outcomes.append(_failure(done.key, done.version or "", done.error))
        elif not wanted.is_quiet:
            outcomes.append(_success(done))
    return xml_response(DeleteResult(outcomes).render())


def _delete_item(item: ObjectIdentifier) -> DeleteItem:
    conditions = NO_PRECONDITIONS
    if item.etag is not None or item.last_modified_ns is not None or item.size_bytes is not None:
        modified = item.last_modified_ns
        conditions = Preconditions(
            if_match=None if item.etag is None else (item.etag,),
            if_match_last_modified_s=None if modified is None else modified // NANOSECONDS_PER_SECOND,
            if_match_size_bytes=item.size_bytes,
        )
    return DeleteItem(key=item.key, version=item.version_id or None, preconditions=conditions)


def _success(done: DeletedItem) -> DeletedObject:
    result = done.result
    made = result is not None and result.delete_marker
    marker = result.version_text if result is not None and made and result.reports_version else ""
    return DeletedObject(done.key, done.version or "", made, marker)


def _failure(key: str, version: str, error: Exception) -> DeletionError:
    rendered = describe(error)
    return DeletionError(key, rendered.code.code, rendered.message, version)


HANDLERS: Final[dict[str, OperationHandler]] = {
    "DeleteObject": delete_object,
    "DeleteObjects": delete_objects,
}
