"""A catalog and a committer over dictionaries: the second body of their interfaces, with per-key atomicity and no
durability.

It is the slow, plain statement of what the operations mean; the conformance and model tests hold the real store against
the same expectations. State lives in `MemoryState`; `MemoryCatalog` reads it, `MemoryCommitter` (memory_committer.py)
changes it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from rs3d.format.rows import ROW_NAMES
from rs3d.stores.interfaces import PayloadPlace, WalkedObjects
from rs3d.types.buckets import Bucket, BucketCounters
from rs3d.types.chunks import ChunkPlace, DedupTotals, PackUse, PinBatch
from rs3d.types.identifiers import BlobId, BucketId, LogPosition, Sequence, UploadId, VersionId
from rs3d.types.identities import AccessKey, User
from rs3d.types.objects import (
    BlobSet,
    CanonicalId,
    Inline,
    ListedObject,
    ListedVersion,
    ObjectVersion,
    PackedObjects,
    PartEntry,
    Upload,
    VersionKind,
)
from rs3d.types.operations import Outcome


@dataclass
class OpenUploadState:
    upload: Upload
    parts: dict[int, PartEntry] = field(default_factory=dict)


@dataclass
class BlobSetState:
    references: int
    members: list[PartEntry]


@dataclass
class CompletedState:
    parts: tuple[int, ...]
    etag: str
    outcome: Outcome
    bucket: BucketId
    key: str
    version: VersionId


@dataclass
class ChunkState:
    place: ChunkPlace
    references: int


@dataclass
class MemoryState:
    """Everything there is. Versions of a key are kept newest first."""

    sequence: int = 1_700_000_000_000_000_000
    identity_generation: int = 1
    buckets: dict[BucketId, Bucket] = field(default_factory=dict)
    versions: dict[tuple[BucketId, bytes], list[ObjectVersion]] = field(default_factory=dict)
    payloads: dict[VersionId, bytes] = field(default_factory=dict)
    uploads: dict[UploadId, OpenUploadState] = field(default_factory=dict)
    sets: dict[UploadId, BlobSetState] = field(default_factory=dict)
    dead_sets: dict[UploadId, list[BlobId]] = field(default_factory=dict)
    completed: dict[UploadId, CompletedState] = field(default_factory=dict)
    references: dict[BlobId, int] = field(default_factory=dict)
    garbage: dict[BlobId, int] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    keys: dict[str, AccessKey] = field(default_factory=dict)
    settings: dict[str, bytes] = field(default_factory=dict)
    chunks: dict[bytes, ChunkState] = field(default_factory=dict)
    pins: dict[tuple[BlobId, int], tuple[bytes, ...]] = field(default_factory=dict)
    pack_bytes: dict[BlobId, int] = field(default_factory=dict)
    """Stored bytes of every pack that was ever pinned."""

    def bucket_named(self, name: str) -> Bucket | None:
        return next((bucket for bucket in self.buckets.values() if bucket.name == name), None)

    def keys_of(self, bucket: BucketId, prefix: bytes, start: bytes) -> list[bytes]:
        found = [key for of, key in self.versions if of == bucket and key.startswith(prefix) and key >= start]
        return sorted(found)

    def reachable_blobs(self) -> set[BlobId]:
        """Blobs that rows still refer to, garbage and dead sets included: what may exist on disk."""
        blobs = {blob for blob, count in self.references.items() if count > 0}
        blobs.update(self.garbage)
        for members in self.dead_sets.values():
            blobs.update(members)
        return blobs


class MemorySnapshot:
    """Live state as a view: nothing changes while a test's synchronous code runs."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    @property
    def sequence(self) -> Sequence:
        return Sequence(self._state.sequence)

    @property
    def identity_generation(self) -> int:
        return self._state.identity_generation

    def bucket(self, name: str) -> Bucket | None:
        return self._state.bucket_named(name)

    def stored_bucket(self, name: bytes) -> bytes | None:
        return None  # nothing here has a stored form

    def stored_latest(self, row_key: bytes) -> bytes | None:
        return None

    def latest_with_payload(self, bucket: BucketId, key: str) -> tuple[ObjectVersion, PayloadPlace | None] | None:
        found = self.latest(bucket, key)
        return None if found is None or found.kind is not VersionKind.OBJECT else (found, None)

    def known_payload(self, payload: PayloadPlace) -> bytes | None:
        return None

    def bucket_by_id(self, bucket: BucketId) -> Bucket | None:
        return self._state.buckets.get(bucket)

    def buckets(self, owner: CanonicalId | None = None, after: str = "", prefix: str = "") -> Iterator[Bucket]:
        for bucket in sorted(self._state.buckets.values(), key=lambda found: found.name):
            if bucket.name > after and bucket.name.startswith(prefix) and owner in (None, bucket.owner):
                yield bucket

    def counters(self, bucket: BucketId) -> BucketCounters:
        rows = [rows for (of, _), rows in self._state.versions.items() if of == bucket]
        everything = [row for versions in rows for row in versions]
        uploads = [state for state in self._state.uploads.values() if state.upload.bucket == bucket]
        return BucketCounters(
            objects=sum(1 for versions in rows if versions and versions[0].kind is VersionKind.OBJECT),
            versions=len(everything),
            delete_markers=sum(1 for row in everything if row.kind is VersionKind.DELETE_MARKER),
            bytes=sum(row.meta.size_bytes for row in everything),
            uploads=len(uploads),
            upload_bytes=sum(part.size_bytes for state in uploads for part in state.parts.values()),
        )

    def latest(self, bucket: BucketId, key: str) -> ObjectVersion | None:
        rows = self._state.versions.get((bucket, key.encode()))
        return rows[0] if rows else None

    def version(self, bucket: BucketId, key: str, version: VersionId | str) -> ObjectVersion | None:
        for row in self._state.versions.get((bucket, key.encode()), []):
            if (version == "null" and row.is_null) or row.version == version:
                return row
        return None

    def list_objects(self, bucket: BucketId, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, ListedObject]]:
        for key in self._state.keys_of(bucket, prefix, start):
            row = self._state.versions[bucket, key][0]
            if row.kind is VersionKind.OBJECT:
                yield key, _listed_object(row)

    def walk_objects(
        self, bucket: BucketId, prefix: bytes, start: bytes, delimiter: bytes, maximum: int
    ) -> WalkedObjects:
        return WalkedObjects(PackedObjects(b"", 0, ROW_NAMES), [], False, b"", False, start)

    def list_versions(
        self, bucket: BucketId, prefix: bytes, start: bytes, after_version: VersionId | str | None = None
    ) -> Iterator[tuple[bytes, ListedVersion]]:
        for key in self._state.keys_of(bucket, prefix, start):
            rows = self._state.versions[bucket, key]
            if key == start and after_version is not None:
                rows = _behind(rows, after_version)
            for row in rows:
                yield key, _listed_version(row)

    def upload(self, upload: UploadId) -> Upload | None:
        state = self._state.uploads.get(upload)
        return None if state is None else state.upload

    def list_uploads(
        self, bucket: BucketId, prefix: bytes, start: bytes, after_upload: UploadId | None = None
    ) -> Iterator[tuple[bytes, Upload]]:
        found = [state.upload for state in self._state.uploads.values() if state.upload.bucket == bucket]
        for upload in sorted(found, key=lambda entry: (entry.key.encode(), entry.upload)):
            key = upload.key.encode()
            if not key.startswith(prefix) or key < start:
                continue
            if key == start and after_upload is not None and upload.upload <= after_upload:
                continue
            yield key, upload

    def parts(self, upload: UploadId, after: int = 0) -> Iterator[PartEntry]:
        state = self._state.uploads.get(upload)
        if state is not None:
            yield from (state.parts[number] for number in sorted(state.parts) if number > after)

    def set_parts(self, version: ObjectVersion) -> list[PartEntry]:
        if not isinstance(version.placement, BlobSet):
            return []
        return list(self._state.sets[version.placement.upload].members)

    def inline_payload(self, version: ObjectVersion) -> bytes:
        return self._state.payloads[version.version]

    def blob_references(self, blob: BlobId) -> int:
        return self._state.references.get(blob, 0)

    def blob_is_known(self, blob: BlobId) -> bool:
        return self._state.references.get(blob, 0) > 0 or blob in self._state.garbage

    def chunk(self, chunk_hash: bytes) -> ChunkPlace | None:
        found = self._state.chunks.get(chunk_hash)
        return None if found is None else found.place

    def pin_batches(self, manifest: BlobId) -> list[PinBatch]:
        found = sorted((batch, hashes) for (of, batch), hashes in self._state.pins.items() if of == manifest)
        return [PinBatch(manifest, batch, len(hashes)) for batch, hashes in found]

    def pinned_hashes(self, manifest: BlobId, batch: int) -> tuple[bytes, ...]:
        return self._state.pins.get((manifest, batch), ())

    def packs(self, after: BlobId | None = None) -> Iterator[PackUse]:
        used: dict[BlobId, list[int]] = {}
        for chunk in self._state.chunks.values():
            used.setdefault(chunk.place.pack, []).append(chunk.place.stored_bytes)
        for pack in sorted(used):
            if after is None or pack > after:
                yield PackUse(pack, len(used[pack]), sum(used[pack]), self._state.pack_bytes[pack])

    def dedup_totals(self) -> DedupTotals:
        chunks = self._state.chunks.values()
        return DedupTotals(
            len(chunks),
            sum(chunk.place.client_bytes for chunk in chunks),
            sum(chunk.place.stored_bytes for chunk in chunks),
            sum(chunk.place.client_bytes * chunk.references for chunk in chunks),
        )

    def user(self, name: str) -> User | None:
        return self._state.users.get(name)

    def user_by_canonical_id(self, canonical_id: CanonicalId) -> User | None:
        return next((user for user in self._state.users.values() if user.canonical_id == canonical_id), None)

    def users(self) -> Iterator[User]:
        yield from (self._state.users[name] for name in sorted(self._state.users))

    def access_key(self, access_key: str) -> AccessKey | None:
        return self._state.keys.get(access_key)

    def access_keys(self, user: str | None = None) -> Iterator[AccessKey]:
        for name in sorted(self._state.keys):
            if user in (None, self._state.keys[name].user):
                yield self._state.keys[name]

    def setting(self, name: str) -> bytes | None:
        return self._state.settings.get(name)


def _behind(rows: list[ObjectVersion], after: VersionId | str) -> list[ObjectVersion]:
    if after == "null":
        position = next((index for index, row in enumerate(rows) if row.is_null), None)
        return rows if position is None else rows[position + 1 :]
    if not isinstance(after, VersionId):
        raise ValueError(f"{after!r} is no version")
    return [row for row in rows if row.version.sequence < after.sequence]


def _checksum_texts(row: ObjectVersion) -> tuple[str, str]:
    if not row.meta.checksums:
        return "", ""
    return row.meta.checksums[0].algorithm, row.meta.checksums[0].type.value


def _listed_object(row: ObjectVersion) -> ListedObject:
    meta = row.meta
    return ListedObject(
        row.key,
        meta.size_bytes,
        meta.last_modified_ns,
        meta.etag,
        row.mutable.storage_class,
        meta.owner,
        *_checksum_texts(row),
    )


def _listed_version(row: ObjectVersion) -> ListedVersion:
    meta = row.meta
    return ListedVersion(
        row.key,
        row.version_text,
        row.kind,
        row.is_latest,
        meta.size_bytes,
        meta.last_modified_ns,
        meta.etag,
        row.mutable.storage_class,
        meta.owner,
        *_checksum_texts(row),
    )


class MemoryCatalog:
    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self._open: set[int] = set()
        self.in_memory = nullcontext()
        """All of it is."""

    @contextmanager
    def snapshot(self) -> Iterator[MemorySnapshot]:
        thread = threading.get_ident()
        if thread in self._open:
            raise RuntimeError("a view is open in this thread already")
        self._open.add(thread)
        try:
            yield MemorySnapshot(self._state)
        finally:
            self._open.discard(thread)

    def rows_are(self, bucket_name: bytes, bucket_row: bytes, row_key: bytes, row: bytes) -> bool:
        return False

    def row_of_bucket(self, name: bytes) -> tuple[bytes | None, int, int]:
        return None, self._state.identity_generation, self._state.sequence

    def close(self) -> None:
        return None


def relabelled(rows: list[ObjectVersion]) -> list[ObjectVersion]:
    """The same rows, newest first, with `is_latest` on the first only."""
    ordered = sorted(rows, key=lambda row: row.version.sequence, reverse=True)
    return [dataclasses.replace(row, is_latest=index == 0) for index, row in enumerate(ordered)]


def without_payload(placement: Inline) -> Inline:
    """An inline placement as it is read back."""
    return dataclasses.replace(placement, payload=b"")


NOWHERE = LogPosition(0, 0)
