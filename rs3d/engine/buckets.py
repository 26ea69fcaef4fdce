"""Buckets: making, changing, listing, removing."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Mapping
from typing import TypeVar

from rs3d.engine.encryption import default_encryption
from rs3d.engine.plan import effective_settings
from rs3d.engine.requests import BucketChange, BucketRequest, ListBucketsRequest
from rs3d.engine.results import BucketPage, BucketStatus
from rs3d.engine.runtime import Runtime, find_bucket
from rs3d.engine.settings import check_settings
from rs3d.engine.signing import SETTING as SIGN
from rs3d.errors import InvalidArgument, InvalidBucketState, NoSuchBucket, NoSuchUpload
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.buckets import Bucket, Versioning
from rs3d.types.identities import UserRole
from rs3d.types.names import check_bucket_name
from rs3d.types.objects import CanonicalId
from rs3d.types.operations import AbortUpload, ChangeBucket, CreateBucket, RemoveBucket

LIBRARY_OWNER = CanonicalId("6c7a1f40e5ad1f2e0a35d2ee2c7f1d06b3a1b0c0e6f8a7c5d4934e2d10c9b8a7")
"""Owns what is made in a store that has no users yet."""

V = TypeVar("V")


async def create_bucket(runtime: Runtime, name: str, request: BucketRequest) -> Bucket:
    """Make a bucket.

    Raises:
        InvalidBucketName, BucketAlreadyOwnedByYou, BucketAlreadyExists, TooManyBuckets, InvalidArgument (a setting)
    """
    checked = check_bucket_name(name)
    settings = check_settings(request.settings)
    if any(name == SIGN for name, _ in settings):
        await runtime.signing.ensure_keys()
    owner = request.owner
    if not owner:
        with runtime.catalog.snapshot() as view:
            owner = default_owner(view)
    await runtime.commit(
        CreateBucket(
            id=runtime.committer.next_id(),
            name=checked,
            owner=owner,
            region=request.region or runtime.config.region,
            settings=settings,
            maximum_buckets=runtime.config.maximum_buckets,
        )
    )
    return bucket(runtime, name)


def default_owner(view: CatalogSnapshot) -> CanonicalId:
    """Who owns what nobody in particular makes: the root user, if the store has one."""
    for user in view.users():
        if user.role is UserRole.ROOT:
            return user.canonical_id
    return LIBRARY_OWNER


def bucket(runtime: Runtime, name: str) -> Bucket:
    """The bucket's record. Raises NoSuchBucket."""
    with runtime.catalog.snapshot() as view:
        return find_bucket(view, name)


def bucket_status(runtime: Runtime, name: str) -> BucketStatus:
    """The bucket's record and counters, of one moment. Raises NoSuchBucket."""
    with runtime.catalog.snapshot() as view:
        found = find_bucket(view, name)
        counters = view.counters(found.bucket_id)
    effective = (*effective_settings(found, runtime.config), ("encryption", default_encryption(found)))
    return BucketStatus(bucket=found, counters=counters, effective=tuple(sorted(effective)))


def list_buckets(runtime: Runtime, request: ListBucketsRequest) -> BucketPage:
    """A page of buckets in order of their names.

    Raises:
        InvalidArgument: `maximum` below 1, or a token that no page gave.
    """
    if request.maximum < 1:
        raise InvalidArgument(name="max-buckets", value=str(request.maximum), reason="must be at least 1")
    after = _decode_token(request.token) if request.token else ""
    found: list[Bucket] = []
    with runtime.catalog.snapshot() as view:
        for entry in view.buckets(request.owner, after, request.prefix):
            if len(found) == request.maximum:
                return BucketPage(buckets=found, next_token=_encode_token(found[-1].name))
            found.append(entry)
    return BucketPage(buckets=found)


def _encode_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode("ascii")).decode("ascii").rstrip("=")


def _decode_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        raise InvalidArgument(name="continuation-token", value=token, reason="was not given by a page") from None


async def change_bucket(runtime: Runtime, name: str, change: BucketChange) -> Bucket:
    """Change a bucket's owner, versioning, settings or configurations; what is None stays.

    Raises:
        NoSuchBucket, InvalidArgument (a setting), InvalidBucketState (versioning cannot be undone, only suspended)
    """

    async def attempt() -> None:
        current = bucket(runtime, name)
        settings = check_settings(_merged(current.settings, change.settings))
        if any(name == SIGN for name, _ in settings):
            await runtime.signing.ensure_keys()
        versioning = current.versioning if change.versioning is None else change.versioning
        if versioning is Versioning.UNVERSIONED and current.versioning is not Versioning.UNVERSIONED:
            raise InvalidBucketState(bucket=name, reason="versioning can be suspended, not undone")
        await runtime.commit(
            ChangeBucket(
                id=runtime.committer.next_id(),
                bucket=current.bucket_id,
                revision=current.revision,
                owner=change.owner or current.owner,
                versioning=versioning,
                settings=settings,
                configurations=_merged(current.configurations, change.configurations),
            )
        )

    await runtime.replanning(attempt)
    return bucket(runtime, name)


def _merged(current: tuple[tuple[str, V], ...], changes: Mapping[str, V | None] | None) -> tuple[tuple[str, V], ...]:
    if not changes:
        return current
    merged = dict(current)
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return tuple(sorted(merged.items(), key=lambda item: item[0]))


async def delete_bucket(runtime: Runtime, name: str) -> None:
    """Remove a bucket that holds no object version. Uploads still open in it are given up first, as S3 does.

    Raises:
        NoSuchBucket, BucketNotEmpty
    """
    current = bucket(runtime, name)
    await _abort_uploads(runtime, current)
    try:
        await runtime.commit(RemoveBucket(id=runtime.committer.next_id(), bucket=current.bucket_id))
    except NoSuchBucket:
        # The committer knows it by its id alone.
        raise NoSuchBucket(bucket=name) from None


async def _abort_uploads(runtime: Runtime, current: Bucket) -> None:
    """Abort the open uploads of a bucket without versions, one after the other: each is an operation of its own."""
    while True:
        with runtime.catalog.snapshot() as view:
            if view.counters(current.bucket_id).versions:
                return  # it cannot be removed: nothing of it is given up
            opened = next(view.list_uploads(current.bucket_id, b"", b""), None)
        if opened is None:
            return
        upload = opened[1]
        abort = AbortUpload(
            id=runtime.committer.next_id(), bucket=current.bucket_id, key=upload.key, upload=upload.upload
        )
        with contextlib.suppress(NoSuchUpload):  # completed or aborted meanwhile
            await runtime.commit(abort)
