"""Deleting versions, and changing the part of a version that may change: its tags."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence

import trio

from rs3d.engine.get import find_version
from rs3d.engine.requests import BUCKET_OWNER, DeleteItem, DeleteRequest
from rs3d.engine.results import DeletedItem, DeleteResult
from rs3d.engine.runtime import Runtime, find_bucket
from rs3d.errors import DamageError, InvalidArgument, RequestError, RetryLater
from rs3d.stores.smallremoval import OWNER_BYTES, encode_small_removal
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import NULL_VERSION, TOKEN_BYTES, VersionId
from rs3d.types.names import check_object_key
from rs3d.types.objects import CanonicalId, ObjectVersion, Pairs
from rs3d.types.operations import (
    NO_PRECONDITIONS,
    Bypass,
    Outcome,
    PatchVersion,
    RemoveSmall,
    RemoveVersion,
)

BULK_LIMIT = 1000
_BULK_IN_FLIGHT = 32
"""Deletes of one request under way at once: enough to share group commits, half of what a worker may have in flight."""


def _parse_version(version: str | None) -> VersionId | str | None:
    """The version of a delete. Raises InvalidArgument when the text cannot be a version id."""
    if version is None or version == NULL_VERSION:
        return version
    parsed = VersionId.parse(version)
    if parsed is None:
        raise InvalidArgument(name="versionId", value=version, reason="is not a version id")
    return parsed


async def delete_object(runtime: Runtime, bucket: str, key: str, request: DeleteRequest) -> DeleteResult:
    """Delete the latest version (a marker is made where the bucket keeps versions), or one version for good.

    Raises:
        NoSuchBucket, InvalidArgument, PreconditionFailed, NoSuchKey (If-Match on a missing key), ObjectLocked …
    """
    check_object_key(key)
    version = _parse_version(request.version)
    with runtime.catalog.snapshot() as view:
        record = find_bucket(view, bucket)
    return delete_result(await runtime.commit(_removal(runtime, record, key, version, request)))


def _removal(
    runtime: Runtime, bucket: Bucket, key: str, version: VersionId | str | None, request: DeleteRequest
) -> RemoveVersion | RemoveSmall:
    """The operation: short where nothing is said but the key, which is what the committer does at least cost."""
    id, token, owner = runtime.committer.next_id(), secrets.token_bytes(TOKEN_BYTES), request.owner or bucket.owner
    says_more = version is not None or request.preconditions != NO_PRECONDITIONS or request.bypass is not Bypass.NO
    owner_text = owner.encode("utf-8")
    if not says_more and len(owner_text) == OWNER_BYTES:
        return encode_small_removal(id, bucket.bucket_id, key.encode("utf-8"), token, owner_text)
    return RemoveVersion(
        id=id,
        bucket=bucket.bucket_id,
        key=key,
        token=token,
        version=version,
        owner=owner,
        preconditions=request.preconditions,
        bypass=request.bypass,
    )


def delete_result(outcome: Outcome) -> DeleteResult:
    """What the caller is told of a committed delete."""
    return DeleteResult(
        version_text=outcome.version_text if outcome.reports_version else "",
        delete_marker=outcome.delete_marker,
        reports_version=outcome.reports_version,
        sequence=outcome.sequence,
    )


async def delete_objects(
    runtime: Runtime,
    bucket: str,
    items: Sequence[DeleteItem],
    *,
    owner: CanonicalId = BUCKET_OWNER,
    bypass: Bypass = Bypass.NO,
) -> list[DeletedItem]:
    """Delete up to 1,000 keys: one operation a key. Those of one key run in the order given; others share group
    commits.

    Returns:
        One entry an item, in the order given, with its result or its error.

    Raises:
        InvalidArgument: more than 1,000 items. NoSuchBucket.
    """
    if len(items) > BULK_LIMIT:
        raise InvalidArgument(name="Delete", value=str(len(items)), reason=f"at most {BULK_LIMIT} keys in one request")
    with runtime.catalog.snapshot() as view:
        find_bucket(view, bucket)
    results = [DeletedItem(key=item.key, version=item.version) for item in items]
    by_key: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        by_key.setdefault(item.key, []).append(index)
    limit = trio.CapacityLimiter(_BULK_IN_FLIGHT)

    async def delete_one_key(indexes: list[int]) -> None:
        async with limit:
            for index in indexes:
                item = items[index]
                request = DeleteRequest(
                    version=item.version, owner=owner, preconditions=item.preconditions, bypass=bypass
                )
                try:
                    results[index].result = await delete_object(runtime, bucket, item.key, request)
                except (RequestError, RetryLater, DamageError) as error:
                    results[index].error = error

    async with trio.open_nursery() as nursery:
        for indexes in by_key.values():
            nursery.start_soon(delete_one_key, indexes)
    return results


def object_tags(runtime: Runtime, bucket: str, key: str, version: str | None) -> ObjectVersion:
    """The version whose `mutable.tags` GetObjectTagging shows."""
    return runtime.read(lambda view: find_version(view, find_bucket(view, bucket), key, version))


async def set_object_tags(runtime: Runtime, bucket: str, key: str, tags: Pairs, version: str | None) -> ObjectVersion:
    """Replace a version's tags (empty = remove them); returns the version as it was read.

    Raises:
        NoSuchBucket, NoSuchKey, NoSuchVersion, VersionIsDeleteMarker
    """

    async def attempt() -> ObjectVersion:
        found = await runtime.lookups.run(lambda: object_tags(runtime, bucket, key, version))
        await runtime.commit(
            PatchVersion(
                id=runtime.committer.next_id(),
                bucket=found.bucket,
                key=key,
                version=found.version,
                mutable=dataclasses.replace(found.mutable, tags=tags),
            )
        )
        return found

    return await runtime.replanning(attempt)
