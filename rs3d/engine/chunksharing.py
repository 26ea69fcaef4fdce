"""Which bodies share chunks: those that are not sealed, in the whole store; those sealed under a bucket's own keys, in
the bucket. A body under a key of the customer's or of a key service shares with nobody, and is stored as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rs3d.engine.bucketkeys import BucketKeys
from rs3d.engine.plan import BodyPlan
from rs3d.rio.chunks import ChunkSecrets
from rs3d.rio.keys import Purpose
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import BucketId

_KEPT: Final = 1024


class ChunkSharing:
    """The secrets of buckets' chunks, derived once a process. For one loop.

    They follow from the newest key of the bucket, and a manifest carries them with it: a new bucket key begins anew,
    and takes nothing away.
    """

    def __init__(self, keys: BucketKeys) -> None:
        self._keys = keys
        self._derived: dict[tuple[BucketId, int], ChunkSecrets] = {}

    async def complete(
        self, plan: BodyPlan, bucket: Bucket, is_sealed_by_bucket: bool, declared_bytes: int | None
    ) -> BodyPlan:
        """`plan` with the secrets that its body shares chunks by, where it has to have them and may.

        Args:
            is_sealed_by_bucket: the body is sealed, and under nobody's keys but the bucket's own.

        Raises: as `BucketKeys.newest`.
        """
        dedup = plan.layers.dedup
        if dedup is None or not is_sealed_by_bucket:
            return plan
        if declared_bytes is not None and declared_bytes < dedup.minimum_bytes:
            return plan
        secrets = await self._secrets(bucket)
        return replace(plan, layers=replace(plan.layers, dedup=replace(dedup, secrets=secrets)))

    async def _secrets(self, bucket: Bucket) -> ChunkSecrets:
        epoch, key = await self._keys.newest(bucket)
        found = self._derived.get((bucket.bucket_id, epoch))
        if found is None:
            found = ChunkSecrets(key.derive(Purpose.CHUNKS, bucket.bucket_id.to_bytes(8, "big")))
            if len(self._derived) >= _KEPT:
                self._derived.clear()
            self._derived[bucket.bucket_id, epoch] = found
        return found
