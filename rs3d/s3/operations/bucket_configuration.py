"""Versioning, tagging, CORS, policy, public access block and ownership of buckets.

Source: S3 API reference, Get/Put/DeleteBucket… pages.
"""

from __future__ import annotations

from typing import Final

from rs3d.access.errors import MalformedPolicy
from rs3d.access.policy import Policy, parse_policy
from rs3d.documents.buckets import VersioningConfiguration
from rs3d.documents.cors import CORSConfiguration
from rs3d.documents.encryption import ServerSideEncryptionConfiguration
from rs3d.documents.publicaccess import OwnershipControls, PublicAccessBlock
from rs3d.documents.tagging import Tagging
from rs3d.documents.xmlwriter import document
from rs3d.engine.requests import BucketChange
from rs3d.errors import NoSuchIdentity, NotConfigured
from rs3d.http.messages import Bytes, Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.errors import S3Refusal
from rs3d.s3.payload import read_document
from rs3d.s3.responses import empty_response, xml_response
from rs3d.types.objects import CanonicalId

_MAXIMUM_POLICY_BYTES: Final = 20 * 1024
"""S3's limit on a bucket policy."""


async def get_versioning(call: Call) -> Response:
    """GetBucketVersioning."""
    return xml_response(VersioningConfiguration(call.existing_bucket().versioning).render())


async def put_versioning(call: Call) -> Response:
    """PutBucketVersioning."""
    bucket = call.existing_bucket()
    wanted = VersioningConfiguration.parse(await read_document(call))
    await call.engine.set_versioning(bucket.name, wanted.status)
    return empty_response()


def _stored(call: Call, name: str, absent: str) -> bytes:
    bucket = call.existing_bucket()
    document = bucket.configuration(name)
    if document is None:
        raise NotConfigured(bucket=bucket.name, what=absent)
    return document


async def _store(call: Call, name: str, document: bytes | None) -> None:
    await call.engine.change_bucket(call.existing_bucket().name, BucketChange(configurations={name: document}))


async def get_tagging(call: Call) -> Response:
    """GetBucketTagging."""
    return xml_response(_stored(call, "tagging", "NoSuchTagSet"))


async def put_tagging(call: Call) -> Response:
    """PutBucketTagging."""
    tagging = Tagging.parse_for_bucket(await read_document(call))
    await _store(call, "tagging", tagging.render())
    return empty_response(204)


async def delete_tagging(call: Call) -> Response:
    """DeleteBucketTagging."""
    await _store(call, "tagging", None)
    return empty_response(204)


async def get_cors(call: Call) -> Response:
    """GetBucketCors."""
    return xml_response(_stored(call, "cors", "NoSuchCORSConfiguration"))


async def put_cors(call: Call) -> Response:
    """PutBucketCors."""
    cors = CORSConfiguration.parse(await read_document(call))
    await _store(call, "cors", cors.render())
    return empty_response()


async def delete_cors(call: Call) -> Response:
    """DeleteBucketCors."""
    await _store(call, "cors", None)
    return empty_response(204)


async def get_public_access_block(call: Call) -> Response:
    """GetPublicAccessBlock."""
    return xml_response(_stored(call, "publicAccessBlock", "NoSuchPublicAccessBlockConfiguration"))


async def put_public_access_block(call: Call) -> Response:
    """PutPublicAccessBlock. What the flags forbid cannot be done here anyway, so any combination holds."""
    block = PublicAccessBlock.parse(await read_document(call))
    await _store(call, "publicAccessBlock", block.render())
    return empty_response()


async def delete_public_access_block(call: Call) -> Response:
    """DeletePublicAccessBlock."""
    await _store(call, "publicAccessBlock", None)
    return empty_response(204)


async def get_encryption(call: Call) -> Response:
    """GetBucketEncryption."""
    return xml_response(_stored(call, "encryption", "ServerSideEncryptionConfigurationNotFoundError"))


async def put_encryption(call: Call) -> Response:
    """PutBucketEncryption: from now on, objects put without a word are sealed under the store's keys."""
    configuration = ServerSideEncryptionConfiguration.parse(await read_document(call))
    await _store(call, "encryption", configuration.render())
    return empty_response()


async def delete_encryption(call: Call) -> Response:
    """DeleteBucketEncryption."""
    await _store(call, "encryption", None)
    return empty_response(204)


async def get_ownership_controls(call: Call) -> Response:
    """GetBucketOwnershipControls."""
    return xml_response(_stored(call, "ownershipControls", "OwnershipControlsNotFoundError"))


async def put_ownership_controls(call: Call) -> Response:
    """PutBucketOwnershipControls: BucketOwnerEnforced, which is how every bucket works here."""
    controls = OwnershipControls.parse(await read_document(call))
    await _store(call, "ownershipControls", controls.render())
    return empty_response()


async def delete_ownership_controls(call: Call) -> Response:
    """DeleteBucketOwnershipControls."""
    await _store(call, "ownershipControls", None)
    return empty_response(204)


async def get_policy(call: Call) -> Response:
    """GetBucketPolicy: the bytes that were put."""
    policy = _stored(call, "policy", "NoSuchBucketPolicy")
    return Response(200, [(b"Content-Type", b"application/json")], Bytes(policy))


async def put_policy(call: Call) -> Response:
    """PutBucketPolicy. What the evaluation would not understand is refused, never stored."""
    text = await read_document(call, maximum_bytes=1024 * 1024)
    if len(text) > _MAXIMUM_POLICY_BYTES:
        raise S3Refusal(
            "InvalidArgument", "Normalized policy document exceeds the maximum allowed size of 20480 bytes."
        )
    policy = parse_policy(text, bucket=call.existing_bucket().name)
    _check_principals(call, policy)
    await _store(call, "policy", text)
    return empty_response(204)


def _check_principals(call: Call, policy: Policy) -> None:
    """Everybody named must exist: a user created later under that name must not inherit a grant."""
    for name in policy.user_names:
        try:
            call.engine.user(name)
        except NoSuchIdentity:
            raise MalformedPolicy(f"Invalid principal in policy: there is no user {name!r}") from None
    for canonical_id in policy.canonical_ids:
        if call.engine.user_by_canonical_id(CanonicalId(canonical_id)) is None:
            raise MalformedPolicy(f"Invalid principal in policy: there is no user {canonical_id!r}")


async def delete_policy(call: Call) -> Response:
    """DeleteBucketPolicy."""
    await _store(call, "policy", None)
    return empty_response(204)


async def get_policy_status(call: Call) -> Response:
    """GetBucketPolicyStatus: a policy that names everybody is refused, so none makes a bucket public."""
    _stored(call, "policy", "NoSuchBucketPolicy")
    return xml_response(document("PolicyStatus", ["<IsPublic>FALSE</IsPublic>"]))


HANDLERS: Final[dict[str, OperationHandler]] = {
    "GetBucketVersioning": get_versioning,
    "PutBucketVersioning": put_versioning,
    "GetBucketTagging": get_tagging,
    "PutBucketTagging": put_tagging,
    "DeleteBucketTagging": delete_tagging,
    "GetBucketCors": get_cors,
    "PutBucketCors": put_cors,
    "DeleteBucketCors": delete_cors,
    "GetBucketEncryption": get_encryption,
    "PutBucketEncryption": put_encryption,
    "DeleteBucketEncryption": delete_encryption,
    "GetPublicAccessBlock": get_public_access_block,
    "PutPublicAccessBlock": put_public_access_block,
    "DeletePublicAccessBlock": delete_public_access_block,
    "GetBucketOwnershipControls": get_ownership_controls,
    "PutBucketOwnershipControls": put_ownership_controls,
    "DeleteBucketOwnershipControls": delete_ownership_controls,
    "GetBucketPolicy": get_policy,
    "PutBucketPolicy": put_policy,
    "DeleteBucketPolicy": delete_policy,
    "GetBucketPolicyStatus": get_policy_status,
}
