"""What services, administration and authentication read of the catalog: the part of a view that opens no log record."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from rs3d.format.rows import (
    BLOB,
    LOG_DEAD,
    LOG_SEGMENT,
    ORIGIN,
    TAIL,
    BlobRow,
    LogSegmentRow,
    Tail,
)
from rs3d.kernels.crc import crc32c
from rs3d.stores.catalogstate import (
    ACCESS_KEY_DECODER,
    CURSOR_DECODER,
    EPOCH_DECODER,
    SEGMENT_DECODER,
    SETTING_DECODER,
    USER_DECODER,
    access_key_key,
    canonical_key,
    owned_key_key,
    user_key,
)
from rs3d.stores.catalogtables import PACK_CRC, Table, Tables
from rs3d.stores.catalogwriter import EMPTY_TAIL, TAIL_KEY
from rs3d.types.identifiers import BlobId, Epoch, SegmentId, Sequence, UploadId
from rs3d.types.identities import AccessKey, User
from rs3d.types.objects import CanonicalId

if TYPE_CHECKING:
    import lmdb

_U64 = struct.Struct(">Q")


class GarbageBlob(NamedTuple):
    """A blob that nothing refers to since `death`."""

    blob: BlobId
    death: Sequence


class GarbageSet(NamedTuple):
    """A set (or aborted upload) some of whose members wait to be freed (operation FreeSetMembers)."""

    upload: UploadId
    death: Sequence


class EpochState(NamedTuple):
    epoch: Epoch
    role: str
    closed: bool


class SegmentState(NamedTuple):
    """A directory of blobs. It may be swept when `closed`, and needs it while not `swept`."""

    segment: SegmentId
    epoch: Epoch
    closed: bool
    swept: bool


class CatalogView:
    """A read transaction with its checked rows; `Snapshot` adds what needs the log."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lmdb: lmdb.Transaction[bytes]
        self._fields: tuple[int, ...] | None = None
        self._known_tail: tuple[bytes, tuple[int, ...]] = (b"", EMPTY_TAIL)

    def _get(self, table: Table, key: bytes) -> bytes | None:
        sealed = self._lmdb.get(key, db=table.handle)
        if sealed is None:
            table.require_absent(self._lmdb, key)
            return None
        value: bytes = sealed[:-4]
        if PACK_CRC(crc32c(value, crc32c(key, table.seed))) != sealed[-4:]:
            raise table.damaged(key)
        return value

    def _scan(self, table: Table, start: bytes, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        cursor = self._lmdb.cursor(db=table.handle)
        if not table.begin_at(cursor, start):
            return
        for key, sealed in cursor.iternext(keys=True, values=True):
            if not key.startswith(prefix):
                if key < start:
                    raise table.out_of_order(key)
                table.unseal(key, sealed)
                return
            yield key, table.unseal(key, sealed)

    @property
    def transaction(self) -> lmdb.Transaction[bytes]:
        """For checks that walk the tables as they lie; valid as long as the view."""
        return self._lmdb

    @property
    def tail(self) -> Tail:
        """The log's end in this view, and the generations."""
        return Tail._make(self._tail_fields())

    def _tail_fields(self) -> tuple[int, ...]:
        """The fields of Tail: every request asks for one or two of them, and making a Tail takes longer than reading
        it."""
        fields = self._fields
        if fields is None:
            sealed = self._lmdb.get(TAIL_KEY, db=self._tables.state.handle)
            if sealed is None:
                fields = EMPTY_TAIL
            elif sealed == self._known_tail[0]:  # views are used again, mostly before anything was written
                fields = self._known_tail[1]
            else:
                fields = TAIL.unpack(self._tables.state.unseal(TAIL_KEY, sealed))
                self._known_tail = (sealed, fields)
            self._fields = fields
        return fields

    @property
    def sequence(self) -> Sequence:
        return Sequence(self._tail_fields()[3])

    @property
    def identity_generation(self) -> int:
        return self._tail_fields()[4]

    @property
    def bucket_generation(self) -> int:
        """Changes whenever any bucket's record changes."""
        return self._tail_fields()[5]

    # ---------------------------------------------------------------------------------------- blobs and services

    def blob_references(self, blob: BlobId) -> int:
        value = self._get(self._tables.blobs, blob.to_bytes())
        return 0 if value is None else BlobRow(*BLOB.unpack(value)).references

    def blob_row(self, blob: BlobId) -> BlobRow | None:
        """The row of a blob that something refers to."""
        value = self._get(self._tables.blobs, blob.to_bytes())
        return None if value is None else BlobRow(*BLOB.unpack(value))

    def blobs(self, segment: SegmentId | None = None) -> Iterator[tuple[BlobId, BlobRow]]:
        """Every blob that is referred to, in the order of ids (of one segment only)."""
        prefix = b"" if segment is None else _U64.pack(segment)
        for key, value in self._scan(self._tables.blobs, prefix, prefix):
            if len(key) == 12:
                yield BlobId.from_bytes(key), BlobRow(*BLOB.unpack(value))

    def garbage(self, after: BlobId | None = None) -> Iterator[GarbageBlob]:
        """Blobs that nothing refers to, in the order of ids."""
        start = b"" if after is None else after.to_bytes() + b"\x00"
        for key, value in self._scan(self._tables.garbage, start):
            if len(key) == 12:
                yield GarbageBlob(BlobId.from_bytes(key), Sequence(_U64.unpack(value)[0]))

    def garbage_sets(self) -> Iterator[GarbageSet]:
        """Sets with members to free."""
        for key, value in self._scan(self._tables.garbage, b""):
            if len(key) == 24:
                yield GarbageSet(UploadId.from_bytes(key), Sequence(_U64.unpack(value)[0]))

    def epochs(self) -> Iterator[EpochState]:
        """Epochs that are open or have segments not swept since they closed."""
        for key, value in self._scan(self._tables.epochs, b""):
            row = EPOCH_DECODER.decode(memoryview(value)[ORIGIN.size :])
            yield EpochState(Epoch(_U64.unpack(key)[0]), row.role, row.closed)

    def blob_segments(self) -> Iterator[SegmentState]:
        """Every directory of blobs."""
        open_epochs = {state.epoch for state in self.epochs() if not state.closed}
        for key, value in self._scan(self._tables.blob_segments, b""):
            row = SEGMENT_DECODER.decode(memoryview(value)[ORIGIN.size :])
            epoch = Epoch(row.epoch)
            yield SegmentState(SegmentId(_U64.unpack(key)[0]), epoch, epoch not in open_epochs, row.swept)

    def log_segments(self) -> Iterator[tuple[int, LogSegmentRow]]:
        """Every segment of the log that has records, or had when it was replaced."""
        for key, value in self._scan(self._tables.log_segments, b""):
            yield int.from_bytes(key, "big"), LogSegmentRow(*LOG_SEGMENT.unpack(value))

    def replaced_log_segments(self) -> Iterator[tuple[int, Sequence]]:
        """Log segments that compaction replaced, none of whose records is referred to any more, with their death: they
        may be dropped (operation DropLogSegments) when no reader's horizon is below it (STORE.md 15)."""
        for number, row in self.log_segments():
            if row.state == LOG_DEAD:
                yield number, Sequence(row.last_sequence)

    def cursor(self, consumer: str) -> Sequence | None:
        """Up to which sequence a consumer of the feed has come."""
        value = self._get(self._tables.cursors, consumer.encode("utf-8"))
        return None if value is None else Sequence(CURSOR_DECODER.decode(memoryview(value)[ORIGIN.size :]).sequence)

    def setting(self, name: str) -> bytes | None:
        value = self._get(self._tables.settings, name.encode("utf-8"))
        return None if value is None else SETTING_DECODER.decode(memoryview(value)[ORIGIN.size :]).value

    # ------------------------------------------------------------------------------------------------- identities

    def user(self, name: str) -> User | None:
        value = self._get(self._tables.identities, user_key(name))
        return None if value is None else USER_DECODER.decode(memoryview(value)[ORIGIN.size :])

    def user_by_canonical_id(self, canonical_id: CanonicalId) -> User | None:
        name = self._get(self._tables.identities, canonical_key(canonical_id))
        return None if name is None else self.user(name.decode("utf-8"))

    def users(self) -> Iterator[User]:
        for _, value in self._scan(self._tables.identities, b"u", b"u"):
            yield USER_DECODER.decode(memoryview(value)[ORIGIN.size :])

    def access_key(self, access_key: str) -> AccessKey | None:
        value = self._get(self._tables.identities, access_key_key(access_key))
        return None if value is None else ACCESS_KEY_DECODER.decode(memoryview(value)[ORIGIN.size :])

    def access_keys(self, user: str | None = None) -> Iterator[AccessKey]:
        if user is None:
            for _, value in self._scan(self._tables.identities, b"k", b"k"):
                yield ACCESS_KEY_DECODER.decode(memoryview(value)[ORIGIN.size :])
            return
        prefix = owned_key_key(user)
        for key, _ in self._scan(self._tables.identities, prefix, prefix):
            found = self.access_key(key[len(prefix) :].decode("utf-8"))
            if found is not None:
                yield found
