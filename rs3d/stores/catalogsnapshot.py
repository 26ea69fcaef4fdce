"""One consistent view of the catalog: `interfaces.CatalogSnapshot` on an LMDB read transaction and the log's
records.

A row or record in memory costs microseconds, a cold page of either an access of the disk. On the loop, records that are
not in memory are an error (`LogReader.in_memory`); what is done about cold rows, `engine/lookups.py` says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final

import lmdb
import msgspec

from rs3d.errors import RecordDamaged, SlowDown
from rs3d.format import recordbodies as bodies
from rs3d.format.keys import CHUNK_BYTES, escape, inverted, plain_path, sequence_of, suffixed_path, unescape
from rs3d.format.record import HEAD_BYTES
from rs3d.format.rows import (
    CHECKSUM_ALGORITHMS,
    CHECKSUM_TYPES,
    COUNTERS,
    CURRENT,
    FLAG_NULL,
    KIND_OBJECT,
    ORIGIN,
    SET,
    STORAGE_CLASSES,
    VERSION,
    Place,
    SetRow,
    VersionRow,
    unpack_part,
    unpack_part_table,
)
from rs3d.kernels.catalogrows import ListedRows
from rs3d.kernels.crc import crc32c
from rs3d.stores.catalogchunkview import ChunkView
from rs3d.stores.catalogtables import PACK_CRC, Tables, unfollowable
from rs3d.stores.catalogtrie import walk
from rs3d.stores.cataloguploads import UPLOAD_DECODER, UploadRow, part_key
from rs3d.stores.interfaces import PayloadPlace, WalkedObjects
from rs3d.stores.logreader import LogReader
from rs3d.types.buckets import Bucket, BucketCounters
from rs3d.types.identifiers import (
    NULL_VERSION,
    BucketId,
    LogPosition,
    Sequence,
    UploadId,
    VersionId,
)
from rs3d.types.objects import (
    BlobSet,
    CanonicalId,
    Inline,
    ListedObject,
    ListedVersion,
    MutablePart,
    ObjectMeta,
    ObjectVersion,
    PartEntry,
    Placement,
    Upload,
    VersionKind,
)

if TYPE_CHECKING:
    from rs3d.stores.catalog import LocalCatalog

_U64 = struct.Struct(">Q")
NOWHERE: Final = Place(0, 0, 0, 0)
BUCKET_DECODER: Final = msgspec.msgpack.Decoder(Bucket)
_PATCH_DECODER: Final = msgspec.msgpack.Decoder(bodies.VersionPatched)


class Snapshot(ChunkView):
    """A view; made by `LocalCatalog.snapshot`, valid inside its `with`."""

    def __init__(self, catalog: LocalCatalog, tables: Tables, log: LogReader) -> None:
        super().__init__(tables, log)
        self._catalog = catalog
        self._place = NOWHERE
        """Where the record of the version looked up last lies."""
        self._begin = tables.environment.begin  # renews one of the environment's spare read transactions
        current, versions = tables.current, tables.versions
        self._buckets = tables.buckets.handle
        self._current, self._current_seed = current.handle, current.seed
        self._versions, self._versions_seed = versions.handle, versions.seed

    def __enter__(self) -> Snapshot:
        try:
            self._lmdb = self._begin()
        except lmdb.ReadersFullError as error:
            raise SlowDown(what="the catalog's reader slots") from error
        self._catalog.begun(self)
        self._fields = None
        self._place = NOWHERE
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises RecordDamaged for an error of liblmdb."""
        self._lmdb.abort()
        self._catalog.give_back(self)
        if isinstance(error, lmdb.Error):
            raise unfollowable(error) from error

    # ---------------------------------------------------------------------------------------------------- buckets

    def bucket(self, name: str) -> Bucket | None:
        key = name.encode("utf-8")
        sealed = self._lmdb.get(key, db=self._tables.buckets.handle)
        if sealed is None:
            self._tables.buckets.require_absent(self._lmdb, key)
            return None
        known = self._catalog.known_buckets.get(name)
        if known is not None and known[0] == sealed:
            return known[1]
        value = self._tables.buckets.unseal(key, sealed)
        bucket = BUCKET_DECODER.decode(memoryview(value)[ORIGIN.size :])
        self._catalog.remember_bucket(name, sealed, bucket)
        return bucket

    def stored_bucket(self, name: bytes) -> bytes | None:
        stored: bytes | None = self._lmdb.get(name, db=self._buckets)
        return stored

    def stored_latest(self, row_key: bytes) -> bytes | None:
        stored: bytes | None = self._lmdb.get(row_key, db=self._current)
        return stored

    def latest_with_payload(self, bucket: BucketId, key: str) -> tuple[ObjectVersion, PayloadPlace | None] | None:
        found = self._latest(bucket, key, keeps=False)  # the caller keeps what it makes of it
        if found is None or found.kind is not VersionKind.OBJECT:
            return None
        if not isinstance(found.placement, Inline):
            return found, None
        return found, PayloadPlace(self._place, self._log.payload_crc(self._place))

    def known_payload(self, payload: PayloadPlace) -> bytes | None:
        return self._log.known_payload(payload.place, payload.crc)

    def bucket_by_id(self, bucket: BucketId) -> Bucket | None:
        name = self._get(self._tables.bucket_ids, _U64.pack(bucket))
        return None if name is None else self.bucket(name.decode("utf-8"))

    def buckets(self, owner: CanonicalId | None = None, after: str = "", prefix: str = "") -> Iterator[Bucket]:
        start = max(after, prefix).encode("utf-8")
        for key, value in self._scan(self._tables.buckets, start, prefix.encode("utf-8")):
            if after and key == after.encode("utf-8"):
                continue
            bucket = BUCKET_DECODER.decode(memoryview(value)[ORIGIN.size :])
            if owner is None or bucket.owner == owner:
                yield bucket

    def counters(self, bucket: BucketId) -> BucketCounters:
        value = self._get(self._tables.counters, _U64.pack(bucket))
        return BucketCounters() if value is None else BucketCounters(*COUNTERS.unpack(value))

    # --------------------------------------------------------------------------------------------------- versions

    def latest(self, bucket: BucketId, key: str) -> ObjectVersion | None:
        return self._latest(bucket, key, keeps=True)

    def _latest(self, bucket: BucketId, key: str, *, keeps: bool) -> ObjectVersion | None:
        """`keeps`: the catalog remembers it."""
        text = key.encode("utf-8")
        row_key = _U64.pack(bucket) + text if len(text) <= CHUNK_BYTES else plain_path(bucket, text).row_key
        sealed = self._lmdb.get(row_key, db=self._current)
        if sealed is None:
            return self._latest_marker(bucket, key, text)
        known = self._catalog.known_versions.get(row_key)
        if known is not None and known[0] == sealed and known[1].key == key:
            self._place = known[2]
            return known[1]
        value = sealed[:-4]
        if PACK_CRC(crc32c(value, crc32c(row_key, self._current_seed))) != sealed[-4:]:
            raise self._tables.current.damaged(row_key)
        row = CURRENT.unpack(value)
        place = self._place = Place(row[3], row[4], row[5], row[6])
        body = self._version_body(self._log.read(place), row[5])
        found = self._object(bucket, key, row[2], body, row[1], place, Place(row[7], row[8], row[9], 0), True)
        if keeps and type(found.placement) is not BlobSet:  # the table of a set may move without its row's knowing
            self._catalog.remember_version(row_key, sealed, found, place)
        return found

    def _latest_marker(self, bucket: BucketId, key: str, text: bytes) -> ObjectVersion | None:
        found = self._newest_row(suffixed_path(bucket, text).row_key)
        if found is None:
            return None
        return self._from_row(bucket, key, found[0], found[1], True)

    def version(self, bucket: BucketId, key: str, version: VersionId | str) -> ObjectVersion | None:
        row_key = suffixed_path(bucket, key.encode("utf-8")).row_key
        newest = self._newest_row(row_key)
        if newest is None:
            return None
        latest = newest[0]
        if isinstance(version, str):
            if version != NULL_VERSION:
                return None
            if newest[1].is_null:
                return self._from_row(bucket, key, latest, newest[1], True)
            head = self._get(self._tables.versions, row_key)
            if head is None:
                return None
            sequence = _U64.unpack(head)[0]
        else:
            sequence = version.sequence
        value = self._get(self._tables.versions, row_key + inverted(Sequence(sequence)))
        if value is None:
            return None
        row = VersionRow(*VERSION.unpack(value))
        if isinstance(version, VersionId) and version.token != row.token:
            return None
        return self._from_row(bucket, key, sequence, row, sequence == latest)

    def _newest_row(self, row_key: bytes) -> tuple[int, VersionRow] | None:
        cursor = self._lmdb.cursor(db=self._versions)
        if not cursor.set_range(row_key) or (cursor.key() == row_key and not cursor.next()):
            self._tables.versions.require_absent(self._lmdb, row_key)
            return None
        found = cursor.key()
        if len(found) != len(row_key) + 8 or not found.startswith(row_key):
            self._tables.versions.require_absent(self._lmdb, row_key)
            return None
        value = self._tables.versions.unseal(found, cursor.value())
        return sequence_of(found[-8:]), VersionRow(*VERSION.unpack(value))

    def _from_row(self, bucket: BucketId, key: str, sequence: int, row: VersionRow, is_latest: bool) -> ObjectVersion:
        place = Place(row.body_segment, row.body_offset, row.body_head_bytes, row.body_payload_bytes)
        if row.kind != KIND_OBJECT:
            return ObjectVersion(
                bucket=bucket,
                key=key,
                version=VersionId(Sequence(sequence), row.token),
                kind=VersionKind.DELETE_MARKER,
                is_null=row.is_null,
                is_latest=is_latest,
                meta=ObjectMeta(
                    size_bytes=0, etag="", owner=CanonicalId(row.owner.hex()), last_modified_ns=row.last_modified_ns
                ),
                mutable=MutablePart(),
                placement=Inline(0),
                body_position=LogPosition(place.segment, place.offset),
            )
        body = self._version_body(self._log.read(place), place.head_bytes)
        state = Place(row.state_segment, row.state_offset, row.state_bytes, 0)
        return self._object(bucket, key, sequence, body, row.last_modified_ns, place, state, is_latest)

    def _version_body(self, raw: bytes, head_bytes: int) -> bodies.VersionPut:
        try:
            return bodies.decode_version(memoryview(raw)[HEAD_BYTES:head_bytes])
        except (msgspec.DecodeError, ValueError) as error:
            raise RecordDamaged(what="the record of a version", reason=str(error)) from error

    def _object(
        self,
        bucket: BucketId,
        key: str,
        sequence: int,
        body: bodies.VersionPut,
        last_modified_ns: int,
        place: Place,
        state: Place,
        is_latest: bool,
    ) -> ObjectVersion:
        if body.key != key or body.bucket != bucket:
            raise RecordDamaged(what=f"the record of {key!r}", reason="it is about another key")
        mutable = body.mutable
        if state.segment:
            raw = self._log.read(state)
            mutable = _PATCH_DECODER.decode(memoryview(raw)[HEAD_BYTES : state.head_bytes]).mutable
        placement: Placement
        if body.inline is not None:
            placement = bodies.inline_of(body.inline)
        elif body.extent is not None:
            placement = body.extent
        else:
            placement = BlobSet(UploadId.from_bytes(body.upload), self._table_position(body.upload))
        meta = body.meta
        if meta.last_modified_ns != last_modified_ns:
            object.__setattr__(meta, "last_modified_ns", last_modified_ns)  # decoded a moment ago, nobody else has it
        return ObjectVersion(
            bucket=bucket,
            key=key,
            version=VersionId(Sequence(sequence), body.token),
            kind=VersionKind.OBJECT,
            is_null=body.null,
            is_latest=is_latest,
            meta=meta,
            mutable=mutable,
            placement=placement,
            body_position=LogPosition(place.segment, place.offset),
        )

    def _table_position(self, upload: bytes) -> LogPosition:
        row = self._set_row(upload)
        return LogPosition(row.segment, row.offset)

    def _set_row(self, upload: bytes) -> SetRow:
        value = self._get(self._tables.blobs, upload)
        if value is None:
            raise RecordDamaged(what=f"blob set {upload.hex()}", reason="a version refers to it and it has no row")
        return SetRow(*SET.unpack_from(value))

    # ------------------------------------------------------------------------------------------------------ lists

    def list_objects(self, bucket: BucketId, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, ListedObject]]:
        table = self._tables.current
        rows = walk(self._lmdb, table, bucket, prefix, start)
        return ListedRows(
            rows, table.seed, ListedObject, STORAGE_CLASSES, CHECKSUM_ALGORITHMS, CHECKSUM_TYPES, table.damaged
        )

    def walk_objects(
        self, bucket: BucketId, prefix: bytes, start: bytes, delimiter: bytes, maximum: int
    ) -> WalkedObjects:
        pages = self._catalog.pages
        return pages.walk_objects(self._lmdb, self._tables.current, bucket, prefix, start, delimiter, maximum)

    def list_versions(
        self, bucket: BucketId, prefix: bytes, start: bytes, after_version: VersionId | str | None = None
    ) -> Iterator[tuple[bytes, ListedVersion]]:
        escaped_prefix = escape(prefix)[:-2]
        if after_version is not None:
            path = suffixed_path(bucket, start)
            after = self._after_row(bucket, start, path.row_key, after_version)
            walked = walk(self._lmdb, self._tables.versions, bucket, escaped_prefix, escape(start), after)
        else:
            walked = walk(self._lmdb, self._tables.versions, bucket, escaped_prefix, escape(start)[:-2])
        last_key = start if after_version is not None and self._has_versions(bucket, start) else None
        for row_key, text, sealed in walked:
            value = self._tables.versions.unseal(row_key, sealed)
            if len(value) != VERSION.size:
                continue  # a head row
            key = unescape(text[:-8])
            yield key, _listed_version(key, VersionRow(*VERSION.unpack(value)), text[-8:], key != last_key)
            last_key = key

    def _has_versions(self, bucket: BucketId, key: bytes) -> bool:
        return self._newest_row(suffixed_path(bucket, key).row_key) is not None

    def _after_row(self, bucket: BucketId, key: bytes, row_key: bytes, version: VersionId | str) -> bytes:
        """The row behind which a list of versions goes on; a version that is gone leaves its place."""
        if isinstance(version, VersionId):
            return row_key + inverted(version.sequence)
        newest = self._newest_row(row_key)
        if newest is not None and newest[1].is_null:
            return row_key + inverted(Sequence(newest[0]))
        head = self._get(self._tables.versions, row_key)
        if head is None:  # there is no null version any more: all of the key's versions count as listed
            return row_key + b"\xff" * 8
        return row_key + inverted(Sequence(_U64.unpack(head)[0]))

    # ---------------------------------------------------------------------------------------------------- uploads

    def upload(self, upload: UploadId) -> Upload | None:
        value = self._get(self._tables.uploads, upload.to_bytes())
        if value is None:
            return None
        return _upload(upload, UPLOAD_DECODER.decode(memoryview(value)[ORIGIN.size :]))

    def list_uploads(
        self, bucket: BucketId, prefix: bytes, start: bytes, after_upload: UploadId | None = None
    ) -> Iterator[tuple[bytes, Upload]]:
        table = self._tables.upload_keys
        escaped_prefix = escape(prefix)[:-2]
        if after_upload is None:
            walked = walk(self._lmdb, table, bucket, escaped_prefix, escape(start)[:-2])
        else:
            after = suffixed_path(bucket, start).row_key + after_upload.to_bytes()
            walked = walk(self._lmdb, table, bucket, escaped_prefix, escape(start), after)
        for row_key, text, sealed in walked:
            table.unseal(row_key, sealed)
            found = self.upload(UploadId.from_bytes(text[-24:]))
            if found is not None:
                yield unescape(text[:-24]), found

    def parts(self, upload: UploadId, after: int = 0) -> Iterator[PartEntry]:
        raw = upload.to_bytes()
        for _, value in self._scan(self._tables.parts, part_key(raw, after + 1), raw):
            yield unpack_part(value, ORIGIN.size)

    def set_parts(self, version: ObjectVersion) -> list[PartEntry]:
        if not isinstance(version.placement, BlobSet):
            raise ValueError("only a multipart object has parts")
        row = self._set_row(version.placement.upload.to_bytes())
        payload = self._log.payload(Place(row.segment, row.offset, row.head_bytes, row.payload_bytes))
        return unpack_part_table(payload)

    def completed(self, upload: UploadId) -> ObjectVersion | None:
        """The version that completing `upload` made, while it exists: for a repeated Complete (PITFALLS D24)."""
        value = self._get(self._tables.blobs, upload.to_bytes())
        if value is None:
            return None
        row = SetRow(*SET.unpack_from(value))
        if not row.references:
            return None
        raw = self._log.read(Place(row.segment, row.offset, row.head_bytes, row.payload_bytes))
        body = self._version_body(raw, row.head_bytes)
        return self.version(BucketId(row.bucket), body.key, VersionId(Sequence(row.version), body.token))

    def inline_payload(self, version: ObjectVersion) -> bytes:
        position = version.body_position
        place = self._place
        if place[0] != position[0] or place[1] != position[1]:
            place = self._log.place_of(position[0], position[1])
        return self._log.payload(place)


def _listed_version(key: bytes, row: VersionRow, suffix: bytes, is_latest: bool) -> ListedVersion:
    return ListedVersion(
        key.decode("utf-8"),
        NULL_VERSION if row.flags & FLAG_NULL else VersionId(sequence_of(suffix), row.token).text(),
        VersionKind.OBJECT if row.kind == KIND_OBJECT else VersionKind.DELETE_MARKER,
        is_latest,
        row.size_bytes,
        row.last_modified_ns,
        row.etag,
        STORAGE_CLASSES[row.storage_class],
        CanonicalId(row.owner.hex()),
        CHECKSUM_ALGORITHMS[row.checksum_algorithm],
        CHECKSUM_TYPES[row.checksum_type],
    )


def _upload(upload: UploadId, row: UploadRow) -> Upload:
    opened = row.opened
    return Upload(
        bucket=BucketId(opened.bucket),
        key=opened.key,
        upload=upload,
        owner=CanonicalId(opened.owner),
        initiator=CanonicalId(opened.initiator),
        initiated_ns=opened.initiated_ns,
        headers=opened.headers,
        user_metadata=opened.user_metadata,
        tags=opened.mutable.tags,
        storage_class=opened.mutable.storage_class,
        checksum_algorithm=opened.checksum_algorithm,
        checksum_type=opened.checksum_type,
        retention=opened.mutable.retention,
        legal_hold=opened.mutable.legal_hold,
        settings=opened.settings,
        revision=row.revision,
    )
