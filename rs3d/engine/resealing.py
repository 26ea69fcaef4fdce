"""Secrets of the store that are sealed under an older master key are sealed anew: access keys and keys of buckets.

Each is one operation, and each may be done twice without harm. Data, and the envelopes of data keys, are not touched.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

from rs3d.crypto.rotatingsealer import sealed_under
from rs3d.engine.bucketkeys import BucketKeys
from rs3d.engine.identities import Identities
from rs3d.engine.runtime import Runtime
from rs3d.errors import NoSuchBucket, NoSuchIdentity
from rs3d.types.buckets import Bucket

_PAGE: Final = 1000


@dataclass(slots=True)
class Resealed:
    """How many secrets were sealed anew."""

    access_keys: int = 0
    buckets: int = 0
    signing_keys: int = 0


def count_stale_secrets(runtime: Runtime, key_id: bytes) -> int:
    """How many access keys and buckets hold a secret that is not sealed under the master key `key_id`.

    A page of each at a time; blocks for as long as that takes (some µs each).
    """
    with runtime.catalog.snapshot() as view:
        keys = sum(1 for key in view.access_keys() if sealed_under(key.sealed_secret) != key_id)
    return keys + runtime.signing.stale_count(key_id) + sum(1 for _ in _stale_buckets(runtime, key_id))


async def reseal_secrets(runtime: Runtime, identities: Identities, key_id: bytes) -> Resealed:
    """Seal them under the current master key, whose id is `key_id`.

    Raises:
        MasterKeyWrong: one needs a key that is not there any more; the others are done.
        RetryLater: the store takes no writes now.
    """
    done = Resealed()
    with runtime.catalog.snapshot() as view:
        stale = [key.access_key for key in view.access_keys() if sealed_under(key.sealed_secret) != key_id]
    for access_key in stale:
        try:
            done.access_keys += await identities.reseal_key(access_key)
        except NoSuchIdentity:
            continue  # removed meanwhile
    for bucket in list(_stale_buckets(runtime, key_id)):
        try:
            await runtime.bucket_keys.reseal(bucket)
        except NoSuchBucket:
            continue
        done.buckets += 1
    done.signing_keys = await runtime.signing.reseal(key_id)
    return done


def _stale_buckets(runtime: Runtime, key_id: bytes) -> list[Bucket]:
    found: list[Bucket] = []
    after = ""
    while True:
        with runtime.catalog.snapshot() as view:
            page = list(itertools.islice(view.buckets(None, after), _PAGE))
        found += [bucket for bucket in page if BucketKeys.sealed_under_others(bucket, key_id)]
        if len(page) < _PAGE:
            return found
        after = page[-1].name
