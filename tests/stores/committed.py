"""A store's log, catalog and committer core without sockets, for the tests of `rs3d.stores`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rs3d.clock import ManualClock
from rs3d.format.rows import CURRENT, ORIGIN, SET, VERSION, CurrentRow, SetRow, VersionRow
from rs3d.stores.blobput import BlobPut
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogsnapshot import Snapshot
from rs3d.stores.catalogtables import Tables
from rs3d.stores.committeropen import CommitterSettings, OpenedCommitter, open_committer
from rs3d.stores.files import SystemFiles
from rs3d.stores.logreader import LogReader
from rs3d.stores.messages import decode_operation, encode_operation
from rs3d.stores.outcomes import decode_outcome
from rs3d.stores.putmessage import PutMessage
from rs3d.stores.smallput import SmallPut
from rs3d.stores.smallremoval import SmallRemoval
from rs3d.stores.submitted import Submitted
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BlobId, BucketId, Epoch, OperationId, SegmentId, UploadId, VersionId
from rs3d.types.names import BucketName
from rs3d.types.objects import (
    BlobSet,
    CanonicalId,
    Extent,
    Inline,
    MutablePart,
    ObjectMeta,
    PartEntry,
    Placement,
)

STORE_ID = bytes(range(16))
OWNER = CanonicalId("ab" * 32)
OTHER = CanonicalId("cd" * 32)
ETAG = "0123456789abcdef" * 2


def _as_received(operation: ops.Operation) -> ops.Operation | PutMessage | SmallPut | SmallRemoval | BlobPut:
    """What a worker sends is not the same object that the committer gets: nothing may hang on its identity."""
    return decode_operation(memoryview(b"".join(encode_operation(operation, 0)))).operation


class UnsyncedFiles(SystemFiles):
    """Nothing here cuts the power, so the log need not wait for the disk."""

    __slots__ = ()

    def sync_data(self, descriptor: int) -> None:
        """Nothing."""

    def sync(self, descriptor: int) -> None:
        """Nothing."""


class CommittedStore:
    """One worker's epoch, and the shortest ways to commit through the core."""

    def __init__(
        self, root: Path, *, segment_bytes: int = 256 << 10, map_bytes: int = 64 << 20, **opening: Any
    ) -> None:
        self.root = root
        self.settings = CommitterSettings(store_id=STORE_ID, segment_bytes=segment_bytes, map_bytes=map_bytes)
        self.clock: ManualClock = opening.pop("clock", None) or ManualClock()
        self.files = opening.pop("files", None) or UnsyncedFiles()
        self.counter = 0
        self.tokens = 0
        self.blobs = 0
        self.segment: SegmentId | None = None
        self.open()

    def open(self) -> None:
        self.opened: OpenedCommitter = open_committer(str(self.root), self.settings, clock=self.clock, files=self.files)
        self.core = self.opened.core
        self.tables: Tables = self.opened.tables
        self.catalog = LocalCatalog(self.tables, LogReader(str(self.root / "log"), STORE_ID))
        self.epoch = 0
        self.epoch = int(self.commit(ops.OpenEpoch(id=OperationId(Epoch(0), 0), role="test")).sequence)
        self.segment, self.blobs = None, 0

    def close(self) -> None:
        self.catalog.close()
        self.opened.close()

    def reopen(self) -> None:
        self.close()
        self.clock.advance(1)
        self.open()

    @contextmanager
    def view(self) -> Iterator[Snapshot]:
        with self.catalog.snapshot() as view:
            yield view

    # ---- committing

    def id(self) -> OperationId:
        self.counter += 1
        return OperationId(Epoch(self.epoch), self.counter)

    def token(self) -> bytes:
        self.tokens += 1
        return self.tokens.to_bytes(16, "big")

    def commit(self, operation: ops.Operation) -> ops.Outcome:
        return self.commit_all(operation)[0]

    def commit_all(self, *operations: ops.Operation) -> list[ops.Outcome]:
        """One batch; raises the first refusal."""
        self.clock.advance(0.001)
        found = []
        for reply in self.core.execute([Submitted(_as_received(sent), sent.id.epoch) for sent in operations]):
            if reply.error is not None:
                raise reply.error
            assert reply.outcome is not None
            found.append(decode_outcome(reply.outcome))
        return found

    def bucket(self, name: str = "bucket", **fields: Any) -> BucketId:
        made = self.commit(
            ops.CreateBucket(id=self.id(), name=BucketName(name), owner=OWNER, region="us-east-1", **fields)
        )
        assert made.bucket is not None
        return made.bucket

    def versioning(self, bucket: BucketId, state: Versioning) -> None:
        with self.view() as view:
            old = view.bucket_by_id(bucket)
        assert old is not None
        self.commit(
            ops.ChangeBucket(
                id=self.id(),
                bucket=bucket,
                revision=old.revision,
                owner=old.owner,
                versioning=state,
                settings=old.settings,
                configurations=old.configurations,
            )
        )

    def put_operation(
        self, bucket: BucketId, key: str, payload: bytes = b"payload", *, etag: str = ETAG, **fields: Any
    ) -> ops.PutVersion:
        placement: Placement = fields.pop("placement", None) or Inline(len(payload), payload=payload)
        size = fields.pop("size", len(payload))
        return ops.PutVersion(
            id=fields.pop("id", None) or self.id(),
            bucket=bucket,
            key=key,
            token=self.token(),
            meta=fields.pop("meta", None) or ObjectMeta(size_bytes=size, etag=etag, owner=OWNER),
            mutable=fields.pop("mutable", MutablePart()),
            placement=placement,
            **fields,
        )

    def put(self, bucket: BucketId, key: str, payload: bytes = b"payload", **fields: Any) -> ops.Outcome:
        return self.commit(self.put_operation(bucket, key, payload, **fields))

    def new_blob(self) -> BlobId:
        if self.segment is None:
            opened = self.commit(ops.OpenSegment(id=self.id()))
            assert opened.segment is not None
            self.segment = opened.segment
        self.blobs += 1
        return BlobId(self.segment, self.blobs - 1)

    def put_blob(self, bucket: BucketId, key: str, size: int = 100_000, **fields: Any) -> BlobId:
        blob = self.new_blob()
        self.put(
            bucket, key, size=size, placement=Extent(blob, 0, size), new_blobs=(ops.NewBlob(blob, size),), **fields
        )
        return blob

    def remove(self, bucket: BucketId, key: str, version: VersionId | str | None = None, **fields: Any) -> ops.Outcome:
        return self.commit(
            ops.RemoveVersion(
                id=self.id(), bucket=bucket, key=key, token=self.token(), version=version, owner=OWNER, **fields
            )
        )

    def open_upload(self, bucket: BucketId, key: str) -> UploadId:
        opened = self.commit(
            ops.OpenUpload(
                id=self.id(),
                bucket=bucket,
                key=key,
                token=self.token(),
                owner=OWNER,
                initiator=OWNER,
                headers=(("content-type", "text/plain"),),
                user_metadata=(),
                mutable=MutablePart(),
            )
        )
        assert opened.upload is not None
        return opened.upload

    def put_part(self, bucket: BucketId, key: str, upload: UploadId, number: int, size: int = 5 << 20) -> BlobId:
        blob = self.new_blob()
        part = PartEntry(number=number, size_bytes=size, md5=bytes(16), extent=Extent(blob, 0, size), etag=ETAG)
        self.commit(
            ops.PutPart(
                id=self.id(), bucket=bucket, key=key, upload=upload, part=part, new_blobs=(ops.NewBlob(blob, size),)
            )
        )
        return blob

    def complete_operation(
        self, bucket: BucketId, key: str, upload: UploadId, parts: tuple[int, ...], **fields: Any
    ) -> ops.CompleteUpload:
        with self.view() as view:
            found = view.upload(upload)
            size = sum(part.size_bytes for part in view.parts(upload) if part.number in parts)
        return ops.CompleteUpload(
            id=self.id(),
            bucket=bucket,
            key=key,
            upload=upload,
            token=self.token(),
            revision=fields.pop("revision", found.revision if found else 0),
            parts=parts,
            meta=ObjectMeta(size_bytes=size, etag=f"{ETAG}-{len(parts)}", owner=OWNER, part_count=len(parts)),
            mutable=MutablePart(),
            **fields,
        )

    def complete(self, bucket: BucketId, key: str, upload: UploadId, parts: tuple[int, ...]) -> ops.Outcome:
        return self.commit(self.complete_operation(bucket, key, upload, parts))

    def copy_set(self, bucket: BucketId, key: str, upload: UploadId, size: int) -> ops.Outcome:
        meta = ObjectMeta(size_bytes=size, etag=f"{ETAG}-1", owner=OWNER, part_count=1)
        return self.put(bucket, key, placement=BlobSet(upload), meta=meta)

    def keys(self, bucket: BucketId) -> list[str]:
        with self.view() as view:
            return [key.decode() for key, _ in view.list_objects(bucket, b"", b"")]

    def close_epoch(self) -> None:
        """As the committer does when the worker was reaped."""
        self.commit(ops.CloseEpoch(id=OperationId(Epoch(0), 0), epoch=Epoch(self.epoch)))

    def without_catalog(self) -> None:
        """Close, remove the catalog, open again from the log alone."""
        self.close()
        for name in ("data.mdb", "lock.mdb"):
            os.unlink(self.root / "catalog" / name)
        self.clock.advance(1)
        self.open()


def rows_without_positions(tables: Tables) -> dict[str, dict[bytes, bytes]]:
    """All tables' rows but garbage, log segments and tail, with the positions in the log (which a rebuild may
    change) set to zero."""
    skipped = {tables.garbage.name, tables.log_segments.name, tables.state.name}
    with_origin = {
        tables.buckets.name, tables.uploads.name, tables.parts.name, tables.epochs.name, tables.blob_segments.name,
        tables.identities.name, tables.settings.name, tables.cursors.name, tables.pins.name,
    }  # fmt: skip
    found: dict[str, dict[bytes, bytes]] = {}
    with tables.environment.begin() as view:
        for table in tables.all:
            if table.name in skipped:
                continue
            rows = found[table.name] = {}
            for key, sealed in view.cursor(db=table.handle):
                value = table.unseal(key, sealed)
                if table.name == tables.current.name and len(value) == CURRENT.size:
                    row = CurrentRow._make(CURRENT.unpack(value))
                    value = CURRENT.pack(
                        *row._replace(body_segment=0, body_offset=0, body_head_bytes=0, state_segment=0, state_offset=0)
                    )
                elif table.name == tables.versions.name and len(value) == VERSION.size:
                    version = VersionRow._make(VERSION.unpack(value))
                    value = VERSION.pack(
                        *version._replace(
                            body_segment=0, body_offset=0, body_head_bytes=0, state_segment=0, state_offset=0
                        )
                    )
                elif table.name == tables.blobs.name and len(key) == 24:
                    blob_set = SetRow._make(SET.unpack_from(value))
                    value = SET.pack(*blob_set._replace(segment=0, offset=0, head_bytes=0)) + value[SET.size :]
                elif table.name in with_origin and len(value) >= ORIGIN.size:
                    value = value[:8] + bytes(12) + value[20:]
                rows[key] = value
    return found


def live_bytes(tables: Tables) -> int:
    """The sum over all log segments of what the catalog refers to."""
    from rs3d.format.rows import LOG_SEGMENT, LogSegmentRow

    with tables.environment.begin() as view:
        return sum(
            LogSegmentRow._make(LOG_SEGMENT.unpack(tables.log_segments.unseal(key, sealed))).live_bytes
            for key, sealed in view.cursor(db=tables.log_segments.handle)
        )
