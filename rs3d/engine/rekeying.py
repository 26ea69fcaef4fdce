"""Rotation of a bucket's keys: a new key for what comes, and envelopes of what is there made anew under it.

Data is never touched: a data key is unwrapped with the key of its epoch and wrapped with the newest, and the envelope
replaced by a patch of the version. Pages of a few hundred versions, each of which may be done twice without harm.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Final

import trio

from rs3d.crypto.envelopes import Envelope, EnvelopeMode
from rs3d.crypto.kmsenvelopes import KmsEnvelope, is_kms
from rs3d.crypto.providers.directory import KeyName
from rs3d.engine.encryption import open_envelope, seal, token_of
from rs3d.engine.kmskeys import MODES, SealingKeys, round_of
from rs3d.engine.requests import EncryptionMode, EncryptionRequest, KmsRequest
from rs3d.engine.runtime import Runtime, find_bucket
from rs3d.errors import DamageError, KeyProviderUnavailable, NoSuchVersion, RequestError, RetryLater, StaleRevision
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import BucketId, VersionId
from rs3d.types.objects import ObjectVersion
from rs3d.types.operations import PatchVersion

PAGE_VERSIONS: Final = 256
_AT_ONCE: Final = 32
"""Patches that wait for one group commit."""
_MODES: Final = {mode: request for request, mode in MODES.items()}


@dataclass(frozen=True, slots=True)
class NewBucketKeys:
    """What a rotation made: the epoch of the store's key of the bucket, and new keys under how many of providers."""

    epoch: int
    provider_keys: int


@dataclass(frozen=True, slots=True)
class RewrapPlace:
    """Behind which version a pass goes on."""

    key: str
    version: str
    """Version id as text, of null versions too."""


@dataclass(slots=True)
class RewrapPage:
    """What one page of a pass did."""

    seen: int = 0
    rewrapped: int = 0
    refused: int = 0
    """Versions whose envelope is of an older epoch still, as its key cannot be used or it is damaged."""
    reason: str = ""
    """Of the last one refused."""
    behind: RewrapPlace | None = None
    """None = the end of the bucket."""


async def rotate_bucket_keys(runtime: Runtime, name: str) -> NewBucketKeys:
    """A new key of the bucket, and one under each provider's key that has one here, for all that is put from now on.
    What a provider's key wrapped itself is out of date from now on, too: that key may have been rotated.

    Raises:
        NoSuchBucket, StaleRevision; for a provider's: KeyNotFound, KeyDisabled, KeyAccessDenied, KeyProviderUnavailable
    """
    with runtime.catalog.snapshot() as view:
        bucket = find_bucket(view, name)
    provider_keys = await runtime.sealing.kms.rotate(bucket)
    await runtime.sealing.kms.begin_round(bucket)
    return NewBucketKeys(await runtime.bucket_keys.rotate(bucket), provider_keys)


async def rewrap_page(runtime: Runtime, bucket_id: BucketId, behind: RewrapPlace | None) -> RewrapPage | None:
    """Make the envelopes of one page of versions anew where they are of an older epoch; None: there is no such bucket.

    Raises:
        RetryLater: the store takes no writes now, say; the page may be done again.
    """

    def look(view: CatalogSnapshot) -> tuple[Bucket | None, list[ObjectVersion]]:
        bucket = view.bucket_by_id(bucket_id)
        return bucket, [] if bucket is None else _page(view, bucket, behind)

    bucket, versions = runtime.read(look)
    if bucket is None:
        return None
    page = RewrapPage(seen=len(versions))
    if len(versions) == PAGE_VERSIONS:
        page.behind = RewrapPlace(versions[-1].key, versions[-1].version.text())
    limit = trio.CapacityLimiter(_AT_ONCE)
    failures: list[RetryLater] = []
    async with trio.open_nursery() as nursery:
        for version in versions:
            if is_stale(runtime.sealing, bucket, version.mutable.wrapped_key):
                nursery.start_soon(_one, runtime, bucket, version, page, limit, failures)
    if failures:
        raise failures[0]
    return page


def _page(view: CatalogSnapshot, bucket: Bucket, behind: RewrapPlace | None) -> list[ObjectVersion]:
    start = b"" if behind is None else behind.key.encode("utf-8")
    after = None if behind is None else VersionId.parse(behind.version)
    listed = view.list_versions(bucket.bucket_id, b"", start, after)
    found = []
    for _, row in itertools.islice(listed, PAGE_VERSIONS):
        parsed = VersionId.parse(row.version_text)
        version = view.version(bucket.bucket_id, row.key, parsed or row.version_text)
        if version is not None:
            found.append(version)
    return found


def is_stale(keys: SealingKeys, bucket: Bucket, raw: bytes) -> bool:
    """Whether an envelope is wrapped by an older key of the bucket than the newest, its own or a provider's, or by a
    provider's key itself in an earlier round."""
    if not raw:
        return False
    if not is_kms(raw):
        envelope = Envelope.decode(raw)
        return envelope.mode is EnvelopeMode.STORE and envelope.epoch < keys.store.newest_epoch(bucket)
    kms = KmsEnvelope.decode(raw)
    newest = keys.kms.newest_epochs(bucket).get(KeyName(kms.provider, kms.key_id), 0)
    if kms.bucket_epoch < newest if kms.bucket_epoch else kms.round < round_of(bucket):
        return True
    return 0 < kms.outer_epoch < keys.store.newest_epoch(bucket)


async def _one(
    runtime: Runtime,
    bucket: Bucket,
    version: ObjectVersion,
    page: RewrapPage,
    limit: trio.CapacityLimiter,
    failures: list[RetryLater],
) -> None:
    async with limit:
        try:
            if await _rewrap(runtime, bucket, version):
                page.rewrapped += 1
        except (RequestError, DamageError, KeyProviderUnavailable, StaleRevision) as error:
            # One version is not in the way of the others: the pass goes on, and its end says how many are left.
            page.refused += 1
            page.reason = str(error)
        except RetryLater as error:
            failures.append(error)


async def _rewrap(runtime: Runtime, bucket: Bucket, version: ObjectVersion) -> bool:
    async def attempt() -> bool:
        def look(view: CatalogSnapshot) -> ObjectVersion | None:
            return view.version(bucket.bucket_id, version.key, version.version)

        current = runtime.read(look)
        if current is None or not is_stale(runtime.sealing, bucket, current.mutable.wrapped_key):
            return False  # removed, or somebody was faster
        envelope = await rewrapped(runtime.sealing, bucket, current)
        operation = PatchVersion(
            id=runtime.committer.next_id(),
            bucket=bucket.bucket_id,
            key=current.key,
            version=current.version,
            mutable=replace(current.mutable, wrapped_key=envelope),
        )
        try:
            await runtime.commit(operation)
        except NoSuchVersion:
            return False
        return True

    return await runtime.replanning(attempt)


async def rewrapped(keys: SealingKeys, bucket: Bucket, version: ObjectVersion) -> bytes:
    """The version's envelope under the newest keys of the bucket; what it says of itself stays.

    Raises: as `encryption.open_envelope` and `encryption.seal`.
    """
    return await rewrapped_envelope(keys, bucket, version.key, token_of(version), version.mutable.wrapped_key)


async def rewrapped_envelope(keys: SealingKeys, bucket: Bucket, key: str, token: bytes, raw: bytes) -> bytes:
    """The same for an envelope by itself."""
    data_key = open_envelope(keys, bucket, key, token, raw, None)
    if data_key is None:
        return b""
    if not is_kms(raw):
        request = EncryptionRequest(EncryptionMode.STORE)
        return await seal(keys, bucket, key, token, data_key, request, Envelope.decode(raw).cipher)
    kms = KmsEnvelope.decode(raw)
    wanted = KmsRequest(
        key_id=kms.shown,
        context=kms.context,
        uses_bucket_key=bool(kms.bucket_epoch),
        resolved=KeyName(kms.provider, kms.key_id),
        shown=kms.shown,
    )
    request = EncryptionRequest(_MODES[kms.mode], kms=wanted)
    return await seal(keys, bucket, key, token, data_key, request, kms.cipher)
