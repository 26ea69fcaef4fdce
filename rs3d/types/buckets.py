"""Buckets: their record, their settings and their exact counters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rs3d.types.identifiers import NO_SEQUENCE, BucketId, Sequence
from rs3d.types.names import BucketName
from rs3d.types.objects import CanonicalId, Pairs


class Versioning(Enum):
    """S3: a bucket is born unversioned; once enabled it can only be suspended."""

    UNVERSIONED = "Unversioned"
    ENABLED = "Enabled"
    SUSPENDED = "Suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket as its newest record says.

    `settings` are rs3d's own (etag, quota_bytes, compression …), validated by engine/plan.py, stored as text;
    `configurations` are S3's
    sub-resources by their query name (tagging, cors, policy, …), stored as the canonical bytes that the document
    renders.
    """

    bucket_id: BucketId
    name: BucketName
    owner: CanonicalId
    created_ns: int
    region: str
    versioning: Versioning = Versioning.UNVERSIONED
    settings: Pairs = ()
    configurations: tuple[tuple[str, bytes], ...] = ()
    revision: int = 0
    changed: Sequence = NO_SEQUENCE

    def setting(self, name: str) -> str | None:
        """The setting `name` as text, or None when the bucket has none of its own."""
        for key, value in self.settings:
            if key == name:
                return value
        return None

    def configuration(self, name: str) -> bytes | None:
        """The sub-resource document `name`, or None when it was never put or was deleted."""
        for key, value in self.configurations:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class BucketCounters:
    """Exact counts, changed in the transaction of the rows they count."""

    objects: int = 0
    """Keys whose latest version is an object."""
    versions: int = 0
    """Version rows, delete markers included."""
    delete_markers: int = 0
    bytes: int = 0
    """Client bytes of all versions."""
    uploads: int = 0
    upload_bytes: int = 0
