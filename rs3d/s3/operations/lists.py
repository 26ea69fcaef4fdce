"""ListObjects, ListObjectsV2, ListObjectVersions. Source: S3 API reference, pages of these names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rs3d.documents.listings import ListBucketResult, ListBucketResultV2, ListVersionsResult, NameEncoding
from rs3d.engine.requests import ListRequest, ListVersionsRequest
from rs3d.errors import InvalidArgument
from rs3d.http.messages import Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.errors import S3Refusal
from rs3d.s3.owners import owner
from rs3d.s3.pages import page_size
from rs3d.s3.responses import xml_response
from rs3d.types.objects import CanonicalId


def encoding_of(query: dict[str, str]) -> NameEncoding:
    """The encoding of names that a list asks for.

    Raises:
        S3Refusal: something else than `url`.
    """
    text = query.get("encoding-type")
    if text is None:
        return NameEncoding.PLAIN
    if text.lower() != "url":
        raise S3Refusal("InvalidArgument", "Invalid Encoding Method specified in Request")
    return NameEncoding.URL


def display_names(call: Call, owners: Iterable[CanonicalId]) -> dict[str, str]:
    """Canonical id → display name of the owners in a page."""
    return {canonical_id: owner(call.engine, canonical_id).display_name for canonical_id in set(owners)}


async def list_objects(call: Call) -> Response:
    """ListObjects (version 1)."""
    bucket = call.existing_bucket()
    query = call.s3.query
    maximum = page_size(query, "max-keys")
    request = ListRequest(
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        marker=query.get("marker", ""),
        maximum=maximum,
    )
    page = await call.engine.looked_up(lambda: call.engine.list_objects(bucket.name, request))
    document = ListBucketResult(
        bucket=bucket.name,
        contents=page.objects,
        common_prefixes=page.common_prefixes,
        owners=display_names(call, page.owners()),
        max_keys=maximum,
        prefix=request.prefix,
        marker=request.marker,
        next_marker=page.next_marker if request.delimiter else "",
        delimiter=request.delimiter,
        encoding=encoding_of(query),
        is_truncated=page.is_truncated,
    )
    return xml_response(document.render())


async def list_objects_v2(call: Call) -> Response:
    """ListObjectsV2."""
    bucket = call.existing_bucket()
    query = call.s3.query
    if query.get("list-type") != "2":
        raise InvalidArgument("list-type", query.get("list-type", ""), "Invalid List Type specified in Request")
    maximum = page_size(query, "max-keys")
    request = ListRequest(
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        start_after=query.get("start-after", ""),
        token=query.get("continuation-token", ""),
        maximum=maximum,
    )
    page = await call.engine.looked_up(lambda: call.engine.list_objects(bucket.name, request))
    wants_owner = query.get("fetch-owner", "").lower() == "true"
    document = ListBucketResultV2(
        bucket=bucket.name,
        contents=page.objects,
        common_prefixes=page.common_prefixes,
        max_keys=maximum,
        owners=display_names(call, page.owners()) if wants_owner else None,
        prefix=request.prefix,
        delimiter=request.delimiter,
        start_after=request.start_after,
        continuation_token=query.get("continuation-token"),
        next_continuation_token=page.next_token,
        encoding=encoding_of(query),
        is_truncated=page.is_truncated,
    )
    return xml_response(document.render())


async def list_object_versions(call: Call) -> Response:
    """ListObjectVersions."""
    bucket = call.existing_bucket()
    query = call.s3.query
    maximum = page_size(query, "max-keys")
    request = ListVersionsRequest(
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        key_marker=query.get("key-marker", ""),
        version_marker=query.get("version-id-marker", ""),
        maximum=maximum,
    )
    if request.version_marker and not request.key_marker:
        raise S3Refusal("InvalidArgument", "A version-id marker cannot be specified without a key marker.")
    page = await call.engine.looked_up(lambda: call.engine.list_object_versions(bucket.name, request))
    document = ListVersionsResult(
        bucket=bucket.name,
        versions=page.entries,
        common_prefixes=page.common_prefixes,
        owners=display_names(call, (entry.owner for entry in page.entries)),
        max_keys=maximum,
        prefix=request.prefix,
        delimiter=request.delimiter,
        key_marker=request.key_marker,
        version_id_marker=request.version_marker,
        next_key_marker=page.next_key_marker,
        next_version_id_marker=page.next_version_marker,
        encoding=encoding_of(query),
        is_truncated=page.is_truncated,
    )
    return xml_response(document.render())


HANDLERS: Final[dict[str, OperationHandler]] = {
    "ListObjects": list_objects,
    "ListObjectsV2": list_objects_v2,
    "ListObjectVersions": list_object_versions,
}
