"""The keys of buckets: each under its epoch in the bucket's record, sealed under the store's master key.

A bucket gets its first key when something is to be sealed in it. Losing one loses what it wrapped, so they travel
with the record: log, catalog and rebuild keep them like any other part of it.
"""

from __future__ import annotations

import struct
from typing import Final

import trio

from rs3d.crypto.rotatingsealer import sealed_under
from rs3d.engine.configuration import EngineDeps
from rs3d.errors import NoSuchBucket, RecordDamaged, StaleRevision
from rs3d.rio.keys import EncryptionKey
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import BucketId
from rs3d.types.operations import ChangeBucket

KEYS_CONFIGURATION: Final = "rs3d-bucket-keys"
"""Where a bucket's sealed keys lie in its record. Not a sub-resource: no request can name it."""

_PURPOSE: Final = "bucket key"
_ENTRY: Final = struct.Struct(">IH")
_CACHED_KEYS: Final = 1024
_ATTEMPTS: Final = 4
"""Two workers that make a bucket's first key at once: one of them reads again. Other changes of the bucket may
interfere too."""


class BucketKeys:
    """The keys of buckets, opened once a process. For one loop."""

    def __init__(self, deps: EngineDeps) -> None:
        self._deps = deps
        self._opened: dict[tuple[BucketId, int], EncryptionKey] = {}

    async def newest(self, bucket: Bucket) -> tuple[int, EncryptionKey]:
        """Epoch and key that new data keys of the bucket are wrapped by; made, durably, if it has none.

        Raises:
            NoSuchBucket: it was removed meanwhile. StaleRevision: it is being changed all the time.
        """
        if not _entries(bucket):
            bucket = await self._make(bucket.bucket_id, bucket.name, even_if_there_is_one=False)
        epoch = max(_entries(bucket))
        return epoch, self.key(bucket, epoch)

    def key(self, bucket: Bucket, epoch: int) -> EncryptionKey:
        """The bucket's key of `epoch`.

        Raises:
            RecordDamaged: the bucket has none, so what it wrapped cannot be opened. None is ever invented.
        """
        found = self._opened.get((bucket.bucket_id, epoch))
        if found is None:
            sealed = _entries(bucket).get(epoch)
            if sealed is None:
                raise RecordDamaged(what=f"bucket {bucket.name}", reason=f"it has no key of epoch {epoch}")
            found = EncryptionKey(self._deps.sealer.unseal_key(_PURPOSE, _context(bucket.bucket_id, epoch), sealed))
            if len(self._opened) >= _CACHED_KEYS:
                self._opened.clear()
            self._opened[bucket.bucket_id, epoch] = found
        return found

    async def rotate(self, bucket: Bucket) -> int:
        """A new key, durable, which new data keys are wrapped by from now on; returns its epoch. Older ones stay.

        Raises:
            NoSuchBucket: it was removed meanwhile. StaleRevision: it is being changed all the time.
        """
        made = await self._make(bucket.bucket_id, bucket.name, even_if_there_is_one=True)
        return max(_entries(made))

    async def reseal(self, bucket: Bucket) -> None:
        """Seal all keys of the bucket under the current master key. The keys stay the same, and so do their epochs.

        Raises:
            MasterKeyWrong: one needs a master key that is not there. NoSuchBucket. StaleRevision.
        """
        for attempt in range(_ATTEMPTS):
            current = self.read(self._deps, bucket.bucket_id, bucket.name)
            raw = b""
            for epoch in sorted(_entries(current)):
                key = self.key(current, epoch)
                sealed = self._deps.sealer.seal(_PURPOSE, _context(current.bucket_id, epoch), key.reveal())
                raw += _ENTRY.pack(epoch, len(sealed)) + sealed
            if await change_keys(self._deps, current, KEYS_CONFIGURATION, raw, give_up=attempt == _ATTEMPTS - 1):
                return

    @staticmethod
    def sealed_under_others(bucket: Bucket, key_id: bytes) -> bool:
        """Whether a key of the bucket is sealed under another master key than `key_id`."""
        return any(sealed_under(sealed) != key_id for sealed in _entries(bucket).values())

    def newest_epoch(self, bucket: Bucket) -> int:
        """The epoch of the newest key; 0 when the bucket has none."""
        return max(_entries(bucket), default=0)

    async def _make(self, bucket_id: BucketId, name: str, *, even_if_there_is_one: bool) -> Bucket:
        for attempt in range(_ATTEMPTS):
            bucket = self.read(self._deps, bucket_id, name)
            entries = _entries(bucket)
            if entries and not even_if_there_is_one:
                return bucket
            epoch = max(entries, default=0) + 1
            with EncryptionKey.generate().view() as made:
                sealed = self._deps.sealer.seal(_PURPOSE, _context(bucket_id, epoch), made)
            raw = (bucket.configuration(KEYS_CONFIGURATION) or b"") + _ENTRY.pack(epoch, len(sealed)) + sealed
            if await change_keys(self._deps, bucket, KEYS_CONFIGURATION, raw, give_up=attempt == _ATTEMPTS - 1):
                break
        return self.read(self._deps, bucket_id, name)

    @staticmethod
    def read(deps: EngineDeps, bucket_id: BucketId, name: str) -> Bucket:
        """The bucket's newest record. Raises NoSuchBucket."""
        with deps.catalog.snapshot() as view:
            found = view.bucket_by_id(bucket_id)
        if found is None:
            raise NoSuchBucket(bucket=name)
        return found


async def change_keys(
    deps: EngineDeps, bucket: Bucket, configuration: str, raw: bytes, *, give_up: bool = False
) -> bool:
    """Replace one configuration of a bucket's record; False when the record changed meanwhile.

    Raises:
        StaleRevision: with `give_up`, instead of False.
    """
    others = tuple(pair for pair in bucket.configurations if pair[0] != configuration)
    operation = ChangeBucket(
        id=deps.committer.next_id(),
        bucket=bucket.bucket_id,
        revision=bucket.revision,
        owner=bucket.owner,
        versioning=bucket.versioning,
        settings=bucket.settings,
        configurations=(*others, (configuration, raw)),
    )
    try:
        with trio.CancelScope(shield=True):
            await deps.committer.commit(operation)
    except StaleRevision:
        if give_up:
            raise
        return False
    return True


def _entries(bucket: Bucket) -> dict[int, bytes]:
    raw = bucket.configuration(KEYS_CONFIGURATION) or b""
    found: dict[int, bytes] = {}
    offset = 0
    while offset < len(raw):
        epoch, length = _ENTRY.unpack_from(raw, offset)
        offset += _ENTRY.size
        found[epoch] = raw[offset : offset + length]
        offset += length
    return found


def _context(bucket: BucketId, epoch: int) -> bytes:
    return bucket.to_bytes(8, "big") + epoch.to_bytes(4, "big")
