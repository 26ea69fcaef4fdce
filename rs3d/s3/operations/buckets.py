"""ListBuckets, CreateBucket, HeadBucket, DeleteBucket, GetBucketLocation. Source: S3 API reference, pages of these
names."""

from __future__ import annotations

from typing import Final

from rs3d.documents.buckets import BucketRow, CreateBucketConfiguration, ListAllMyBucketsResult, LocationConstraint
from rs3d.documents.owners import Owner
from rs3d.documents.publicaccess import OwnershipControls
from rs3d.documents.tagging import Tagging
from rs3d.engine.requests import BucketChange, BucketRequest, ListBucketsRequest
from rs3d.errors import BucketAlreadyExists, BucketAlreadyOwnedByYou
from rs3d.http.messages import NoBody, Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.errors import S3Refusal
from rs3d.s3.pages import page_size
from rs3d.s3.payload import read_document
from rs3d.s3.responses import empty_response, xml_response
from rs3d.types.buckets import Bucket
from rs3d.types.names import check_bucket_name

_MAXIMUM_BUCKETS: Final = 10_000


async def list_buckets(call: Call) -> Response:
    """ListBuckets: the user's own; all of them for root; those granted for a key that is restricted to buckets."""
    identity = call.identity
    query = call.s3.query
    maximum = page_size(query, "max-buckets", default=_MAXIMUM_BUCKETS, limit=_MAXIMUM_BUCKETS)
    if maximum == 0:
        raise S3Refusal("InvalidArgument", "max-buckets must be at least 1")
    owner = Owner(identity.user.canonical_id, identity.user.display_name)
    region = query.get("bucket-region", "")
    if identity.grants:
        named = [call.services.find_bucket(grant.bucket) for grant in identity.grants]
        buckets = sorted((b for b in named if b is not None), key=lambda b: b.name)
        token = ""
    else:
        page = call.engine.list_buckets(
            ListBucketsRequest(
                owner=None if identity.is_root else identity.user.canonical_id,
                prefix=query.get("prefix", ""),
                token=query.get("continuation-token", ""),
                maximum=maximum,
            )
        )
        buckets, token = page.buckets, page.next_token
    rows = tuple(
        BucketRow(bucket.name, bucket.created_ns, bucket.region)
        for bucket in buckets
        if not region or bucket.region == region
    )
    return xml_response(ListAllMyBucketsResult(owner, rows, query.get("prefix", ""), token).render())


async def create_bucket(call: Call) -> Response:
    """CreateBucket. Creating a bucket one owns answers BucketAlreadyOwnedByYou, in us-east-1 200 as S3 does there."""
    name = check_bucket_name(call.s3.bucket)
    wanted = CreateBucketConfiguration.parse(await read_document(call, required=False))
    region = call.services.config.region
    constraint = wanted.location_constraint
    if constraint and constraint not in (region, "EU"):
        raise S3Refusal("InvalidLocationConstraint")
    existing = call.bucket
    if existing is not None:
        _answer_existing(call, existing)
        return _created(name)
    request = BucketRequest(owner=call.identity.user.canonical_id, region=region)
    try:
        await call.engine.create_bucket(name, request)
    except BucketAlreadyOwnedByYou:
        if region != "us-east-1":
            raise
        return _created(name)
    configurations: dict[str, bytes | None] = {}
    if wanted.tags.pairs:
        configurations["tagging"] = Tagging(wanted.tags).render()
    if call.http.head.get(b"x-amz-object-ownership") is not None:
        configurations["ownershipControls"] = OwnershipControls().render()
    if configurations:
        await call.engine.change_bucket(name, BucketChange(configurations=configurations))
    return _created(name)


def _answer_existing(call: Call, existing: Bucket) -> None:
    if existing.owner != call.identity.user.canonical_id:
        raise BucketAlreadyExists(bucket=existing.name)
    if call.services.config.region != "us-east-1":
        raise BucketAlreadyOwnedByYou(bucket=existing.name)


def _created(name: str) -> Response:
    return Response(200, [(b"Location", b"/" + name.encode("ascii"))], NoBody())


async def head_bucket(call: Call) -> Response:
    """HeadBucket."""
    bucket = call.existing_bucket()
    return Response(200, [(b"x-amz-bucket-region", bucket.region.encode("ascii"))], NoBody())


async def delete_bucket(call: Call) -> Response:
    """DeleteBucket."""
    await call.engine.delete_bucket(call.existing_bucket().name)
    return empty_response(204)


async def get_bucket_location(call: Call) -> Response:
    """GetBucketLocation."""
    return xml_response(LocationConstraint(call.existing_bucket().region).render())


HANDLERS: Final[dict[str, OperationHandler]] = {
    "ListBuckets": list_buckets,
    "CreateBucket": create_bucket,
    "HeadBucket": head_bucket,
    "DeleteBucket": delete_bucket,
    "GetBucketLocation": get_bucket_location,
}
