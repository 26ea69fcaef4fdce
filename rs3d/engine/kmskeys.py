"""Keys of key providers, as the engine uses them: which key a request means, data keys wrapped and unwrapped.

With a *bucket key* (S3: BucketKeyEnabled) a provider's key wraps a key of the bucket once, and that wraps data keys:
the provider is asked once, not for each object. Such keys lie in the bucket's record beside the store's own ones,
wrapped by the provider, each under its epoch, provider and key.

Without one, each data key is wrapped by the provider's key itself. So that these, too, can be wrapped anew after the
provider's key was rotated, the bucket counts rounds, and an envelope says in which it was made.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from rs3d.crypto.kmsenvelopes import KmsEnvelope, KmsMode, bucket_key_binding, data_binding
from rs3d.crypto.providers.directory import KeyDirectory, KeyElsewhere, KeyName
from rs3d.engine.bucketkeys import BucketKeys, change_keys
from rs3d.engine.configuration import EngineDeps
from rs3d.engine.requests import EncryptionMode, EncryptionRequest
from rs3d.engine.threads import Threads
from rs3d.errors import NotImplementedHere, RecordDamaged
from rs3d.rio.encryption import Cipher
from rs3d.rio.keys import EncryptionKey
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import BucketId

KMS_KEYS_CONFIGURATION: Final = "rs3d-kms-bucket-keys"
"""Where a bucket's keys that providers wrapped lie in its record. Not a sub-resource: no request can name it."""

ROUND_CONFIGURATION: Final = "rs3d-kms-round"
"""Where the bucket's round lies, once a provider's key wrapped a data key in it: u32 BE."""

_ROUND: Final = struct.Struct(">I")

MODES: Final = {EncryptionMode.KMS: KmsMode.KMS, EncryptionMode.DSSE: KmsMode.DSSE}


@dataclass(frozen=True, slots=True)
class SealingKeys:
    """All keys that wrap data keys: the store's own, and those of providers."""

    store: BucketKeys
    kms: KmsKeys


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    epoch: int
    provider: str
    key_id: str
    wrapped: bytes


class KmsKeys:
    """Keys of providers for one engine's loop; unwrapping is free of waiting, or says what has to be fetched."""

    def __init__(self, deps: EngineDeps, threads: Threads) -> None:
        self._deps = deps
        self._threads = threads

    @property
    def _directory(self) -> KeyDirectory:
        if self._deps.key_directory is None:
            raise NotImplementedHere(what="SSE-KMS without a key provider")
        return self._deps.key_directory

    async def resolve(self, request: EncryptionRequest) -> EncryptionRequest:
        """The request with its key found and found usable; any other request, and one resolved before, as it is.

        Raises:
            KeyNotFound, KeyDisabled, KeyAccessDenied, KeyProviderUnavailable, InvalidArgument
        """
        kms = request.kms
        if kms is None or kms.resolved is not None:
            return request
        name = self._directory.find(kms.key_id)
        if self._directory.is_remote(name):
            found = await self._threads.run(lambda: self._directory.describe(name))
        else:
            found = self._directory.describe(name)
        shown = kms.key_id or found.canonical_id
        return replace(request, kms=replace(kms, resolved=KeyName(name.provider, found.key_id), shown=shown))

    async def seal(
        self,
        bucket: Bucket,
        key: str,
        token: bytes,
        data_key: EncryptionKey,
        request: EncryptionRequest,
        cipher: Cipher,
    ) -> KmsEnvelope:
        """The envelope of `data_key`, without the outer key of DSSE.

        Raises: as `resolve`; StaleRevision, NoSuchBucket: a bucket key could not be made.
        """
        kms = (await self.resolve(request)).kms
        if kms is None or kms.resolved is None:
            raise ValueError("not a request for a provider's key")
        mode = MODES[request.mode]
        epoch, bucket_key = await self._newest(bucket, kms.resolved) if kms.uses_bucket_key else (0, None)
        bound = data_binding(mode, bucket.bucket_id, key, token, epoch, kms.context)
        wrap_round = 0
        if bucket_key is not None:
            wrapped = bucket_key.wrap(data_key, bound)
        else:
            wrap_round = round_of(bucket) or await self.begin_round(bucket, only_first=True)
            wrapped = await self._wrap(kms.resolved, data_key, bound)
        return KmsEnvelope(
            mode=mode,
            cipher=cipher,
            provider=kms.resolved.provider,
            key_id=kms.resolved.key_id,
            shown=kms.shown,
            wrapped=wrapped,
            context=kms.context,
            bucket_epoch=epoch,
            round=wrap_round,
        )

    def open(self, bucket: Bucket, key: str, token: bytes, envelope: KmsEnvelope) -> EncryptionKey:
        """The (inner) data key. Never waits.

        Raises:
            KeyElsewhere: it has to be fetched first.
            RecordDamaged, StreamDamaged: it does not open.
            KeyNotFound, KeyDisabled, KeyAccessDenied, KeyProviderUnavailable
        """
        name = KeyName(envelope.provider, envelope.key_id)
        epoch = envelope.bucket_epoch
        bound = data_binding(envelope.mode, bucket.bucket_id, key, token, epoch, envelope.context)
        if not epoch:
            return self._directory.unwrap(name, envelope.wrapped, bound)
        found = next((entry for entry in _entries(bucket) if entry.epoch == epoch), None)
        if found is None:
            raise RecordDamaged(what=f"bucket {bucket.name}", reason=f"it has no provider's key of epoch {epoch}")
        return self._opened(bucket.bucket_id, found).unwrap(envelope.wrapped, bound)

    async def rotate(self, bucket: Bucket) -> int:
        """A new bucket key of its own for each provider's key that has one here; returns how many."""
        names = sorted({(entry.provider, entry.key_id) for entry in _entries(bucket)})
        for provider, key_id in names:
            await self._make(bucket, KeyName(provider, key_id))
        return len(names)

    async def begin_round(self, bucket: Bucket, *, only_first: bool = False) -> int:
        """A new round, durable: what the provider's keys wrapped themselves before is to be wrapped anew. Returns it.

        Args:
            only_first: no new one where there is one.

        Raises:
            NoSuchBucket: it was removed meanwhile.
        """
        while True:
            current = BucketKeys.read(self._deps, bucket.bucket_id, bucket.name)
            begun = round_of(current)
            if only_first and begun:
                return begun
            if await change_keys(self._deps, current, ROUND_CONFIGURATION, _ROUND.pack(begun + 1)):
                return begun + 1

    def newest_epochs(self, bucket: Bucket) -> dict[KeyName, int]:
        """The epoch that wraps new data keys under each provider's key."""
        found: dict[KeyName, int] = {}
        for entry in _entries(bucket):
            name = KeyName(entry.provider, entry.key_id)
            found[name] = max(entry.epoch, found.get(name, 0))
        return found

    async def _wrap(self, name: KeyName, key: EncryptionKey, bound: bytes) -> bytes:
        if self._directory.is_remote(name):
            return await self._threads.run(lambda: self._directory.wrap(name, key, bound))
        return self._directory.wrap(name, key, bound)

    async def _newest(self, bucket: Bucket, name: KeyName) -> tuple[int, EncryptionKey]:
        own = [entry for entry in _entries(bucket) if (entry.provider, entry.key_id) == (name.provider, name.key_id)]
        newest = max(own, key=lambda entry: entry.epoch) if own else await self._make(bucket, name)
        try:
            return newest.epoch, self._opened(bucket.bucket_id, newest)
        except KeyElsewhere:
            # Asked once for as long as the cache keeps it: that is what a bucket key is for.
            bound = bucket_key_binding(bucket.bucket_id, newest.epoch)
            return newest.epoch, await self._threads.run(lambda: self._directory.fetch(name, newest.wrapped, bound))

    def _opened(self, bucket_id: BucketId, entry: _Entry) -> EncryptionKey:
        name = KeyName(entry.provider, entry.key_id)
        return self._directory.unwrap(name, entry.wrapped, bucket_key_binding(bucket_id, entry.epoch))

    async def _make(self, bucket: Bucket, name: KeyName) -> _Entry:
        """A bucket key under the provider's key, durable. Whoever is slower in making one gets a later epoch."""
        made = EncryptionKey.generate()
        # The epoch is bound, so the provider is asked again when another process takes it first.
        wrapped: dict[int, bytes] = {}
        while True:
            current = BucketKeys.read(self._deps, bucket.bucket_id, bucket.name)
            entries = _entries(current)
            epoch = 1 + max((entry.epoch for entry in entries), default=0)
            if epoch not in wrapped:
                wrapped[epoch] = await self._wrap(name, made, bucket_key_binding(bucket.bucket_id, epoch))
            entry = _Entry(epoch, name.provider, name.key_id, wrapped[epoch])
            raw = msgspec.msgpack.encode([*entries, entry])
            if await change_keys(self._deps, current, KMS_KEYS_CONFIGURATION, raw):
                return entry


def round_of(bucket: Bucket) -> int:
    """The bucket's round; 0 where no provider's key has wrapped a data key itself.

    Raises:
        RecordDamaged
    """
    raw = bucket.configuration(ROUND_CONFIGURATION)
    if raw is None:
        return 0
    if len(raw) != _ROUND.size:
        raise RecordDamaged(what=f"round of bucket {bucket.name}", reason=f"it has {len(raw)} bytes")
    return int(_ROUND.unpack(raw)[0])


def _entries(bucket: Bucket) -> list[_Entry]:
    raw = bucket.configuration(KMS_KEYS_CONFIGURATION)
    if raw is None:
        return []
    try:
        return msgspec.msgpack.decode(raw, type=list[_Entry])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordDamaged(what=f"provider's keys of bucket {bucket.name}", reason=str(error)) from None
