"""ACLs: there is one truth, the owner's FULL_CONTROL. Reading answers it, writing it changes nothing, anything else
is refused.

Source: S3 User Guide, "Controlling ownership of objects" (Bucket owner enforced); S3 API reference, Get/Put…Acl.
"""

from __future__ import annotations

from typing import Final

from rs3d.documents.acl import AccessControlPolicy
from rs3d.http.messages import Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.errors import S3Refusal
from rs3d.s3.operations.object_get import require_object
from rs3d.s3.owners import owner
from rs3d.s3.payload import read_document
from rs3d.s3.responses import empty_response, xml_response
from rs3d.types.objects import CanonicalId


def _policy(call: Call, canonical_id: CanonicalId) -> Response:
    return xml_response(AccessControlPolicy.of_owner(owner(call.engine, canonical_id)).render())


async def get_bucket_acl(call: Call) -> Response:
    """GetBucketAcl."""
    return _policy(call, call.existing_bucket().owner)


async def get_object_acl(call: Call) -> Response:
    """GetObjectAcl: the bucket's owner owns its objects."""
    bucket = call.existing_bucket()
    await require_object(call)
    return _policy(call, bucket.owner)


async def _put(call: Call) -> Response:
    bucket = call.existing_bucket()
    body = await read_document(call, required=False)
    if body:
        if call.http.head.get(b"x-amz-acl") is not None:
            raise S3Refusal(
                "InvalidRequest", "Specifying both Canned ACLs and a Header Grants or a body is not allowed"
            )
        if not AccessControlPolicy.parse(body).says_only_owner(bucket.owner):
            raise S3Refusal("AccessControlListNotSupported")
    elif call.http.head.get(b"x-amz-acl") is None:
        raise S3Refusal("MissingSecurityHeader", "Your request was missing a required header: x-amz-acl")
    return empty_response()


async def put_object_acl(call: Call) -> Response:
    """PutObjectAcl."""
    await require_object(call)
    return await _put(call)


HANDLERS: Final[dict[str, OperationHandler]] = {
    "GetBucketAcl": get_bucket_acl,
    "GetObjectAcl": get_object_acl,
    "PutBucketAcl": _put,
    "PutObjectAcl": put_object_acl,
}
