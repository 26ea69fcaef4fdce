"""GetObjectTagging, PutObjectTagging, DeleteObjectTagging. Source: S3 API reference, pages of these names."""

from __future__ import annotations

from typing import Final

from rs3d.documents.tagging import Tagging, TagSet
from rs3d.http.messages import Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.payload import read_document
from rs3d.s3.responses import empty_response, xml_response
from rs3d.types.buckets import Bucket, Versioning
from rs3d.types.objects import ObjectVersion, Pairs


async def get_object_tagging(call: Call) -> Response:
    """GetObjectTagging."""
    bucket = call.existing_bucket()
    version = await call.engine.looked_up(
        lambda: call.engine.object_tags(bucket.name, call.s3.key, version=call.version)
    )
    response = xml_response(Tagging(TagSet(version.mutable.tags)).render())
    return _with_version(bucket, version, response)


async def _set(call: Call, tags: Pairs, status: int) -> Response:
    bucket = call.existing_bucket()
    version = await call.engine.set_object_tags(bucket.name, call.s3.key, tags, version=call.version)
    return _with_version(bucket, version, empty_response(status))


async def put_object_tagging(call: Call) -> Response:
    """PutObjectTagging."""
    return await _set(call, Tagging.parse_for_object(await read_document(call)).tags.pairs, 200)


async def delete_object_tagging(call: Call) -> Response:
    """DeleteObjectTagging."""
    return await _set(call, (), 204)


def _with_version(bucket: Bucket, version: ObjectVersion, response: Response) -> Response:
    if bucket.versioning is not Versioning.UNVERSIONED:
        response.headers.append((b"x-amz-version-id", version.version_text.encode("ascii")))
    return response


HANDLERS: Final[dict[str, OperationHandler]] = {
    "GetObjectTagging": get_object_tagging,
    "PutObjectTagging": put_object_tagging,
    "DeleteObjectTagging": delete_object_tagging,
}
