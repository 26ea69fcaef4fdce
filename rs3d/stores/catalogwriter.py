"""The write side of the catalog: one LMDB transaction for one batch, with its hot rows gathered until the end.

Counters, live bytes of log segments, outcomes of operations and the tail are touched by almost every record: they
are kept in memory and written once a batch by `flush`. Used by the committer, recovery, rebuild and compaction;
never by two at once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from rs3d.errors import RecordDamaged
from rs3d.format.chunkrows import DEDUP_TOTALS
from rs3d.format.keys import Branch, inverted, sequence_of, suffixed_path
from rs3d.format.rows import (
    BLOB,
    COUNTERS,
    LOG_ACTIVE,
    LOG_SEALED,
    LOG_SEGMENT,
    ORIGIN,
    SET,
    TAIL,
    VERSION,
    BlobRow,
    LogSegmentRow,
    Origin,
    SetRow,
    Tail,
    VersionRow,
)
from rs3d.kernels.crc import crc32c, is_sound
from rs3d.kernels.hotrows import HotRows
from rs3d.stores.catalogtables import PACK_CRC, Table, Tables
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import BucketId, Sequence

if TYPE_CHECKING:
    import lmdb

    from rs3d.kernels.smallrun import Run
    from rs3d.stores.log import LogWriter

_U64 = struct.Struct(">Q")
_ENTRY = struct.Struct(">QH")
TAIL_KEY = b"tail"
STORE_KEY = b"store"
DEDUP_KEY = b"dedup"
EMPTY_TAIL = Tail(0, 0, 0, 0, 0, 0, 0)
NO_COUNTERS = (0, 0, 0, 0, 0, 0)
OBJECTS, VERSIONS, MARKERS, BYTES, UPLOADS, UPLOAD_BYTES = range(6)

BUCKET_DECODER: Final = msgspec.msgpack.Decoder(Bucket)
_ENCODER = msgspec.msgpack.Encoder()
Row = TypeVar("Row")
_TAIL: Final[Callable[[tuple[object, ...]], Tail]] = partial(tuple.__new__, Tail)
_SEGMENT_ROW: Final[Callable[[tuple[object, ...]], LogSegmentRow]] = partial(tuple.__new__, LogSegmentRow)
"""Without the function that their names are: both are made for every batch."""


class KeyState:
    """What the catalog holds of one key, as far as it was looked at: where its rows are, the newest version, the
    null version."""

    __slots__ = (
        "branches",
        "bucket",
        "key",
        "latest",
        "latest_sequence",
        "null_known",
        "null_row",
        "null_sequence",
        "row_key",
        "text",
    )

    def __init__(self, bucket: BucketId, key: str, text: bytes, row_key: bytes, branches: tuple[Branch, ...]) -> None:
        self.bucket = bucket
        self.key = key
        self.text = text
        self.row_key = row_key
        self.branches = branches
        self.latest: VersionRow | None = None
        self.latest_sequence = 0
        self.null_known = False
        self.null_row: VersionRow | None = None
        self.null_sequence = 0


class _Added:
    """Records applied to one log segment and not yet in its row."""

    __slots__ = ("crc", "end_offset", "first_sequence", "record_bytes", "records", "segment", "sequence")

    def __init__(self, segment: int, first_sequence: int) -> None:
        self.segment, self.first_sequence = segment, first_sequence
        self.records = self.record_bytes = self.end_offset = self.crc = self.sequence = 0


class FoundVersion(NamedTuple):
    sequence: Sequence
    row: VersionRow


class Known:
    """What the one writer knows from its last batches of rows that nearly every batch needs; kept up to date by the
    transactions that are given it, which must be all that change such rows. To be cleared after an abort."""

    __slots__ = ("active", "active_number", "buckets", "counters", "outcomes", "tail")

    def __init__(self) -> None:
        self.tail: Tail | None = None
        self.active_number = 0
        self.active: LogSegmentRow | None = None
        """The row of the segment of the log that the tail lies in, which has that number."""
        self.buckets: dict[int, Bucket] = {}
        self.counters: dict[int, list[int]] = {}
        self.outcomes: dict[int, dict[int, bytes]] = {}
        """These two are taken out by the transaction that may change them, and come back when it has written them."""

    def clear(self) -> None:
        self.tail = self.active = None
        self.buckets.clear()
        self.counters.clear()
        self.outcomes.clear()


class CatalogTransaction:
    """One write transaction. All reads verify the CRC and raise RecordDamaged."""

    def __init__(self, tables: Tables, parent: CatalogTransaction | None = None, known: Known | None = None) -> None:
        """Begin; waits for no other process, since there is one writer.

        Args:
            parent: the transaction that this one is a child of.
            known: from earlier batches; clear it after an abort.
        """
        self.tables = tables
        environment = tables.environment
        self.lmdb: lmdb.Transaction[bytes] = (
            environment.begin(write=True) if parent is None else environment.begin(write=True, parent=parent.lmdb)
        )
        self._counters: dict[int, list[int]] = {}
        self._live: dict[int, int] = {}
        self._outcomes: dict[int, dict[int, bytes]] = {}
        self._dedup: list[int] | None = None
        self._key_state: KeyState | None = None
        self.known = Known() if known is None else known
        self.appended: dict[int, LogSegmentRow] = {}
        self._added: _Added | None = None
        self.changed = False
        """Whether something was changed that no record tells of."""
        self._is_written = False
        self.tail = self.known.tail or self._read_tail()

    # ------------------------------------------------------------------------------------------------ plain rows

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value of `key`, checked, or None."""
        sealed = self.lmdb.get(key, db=table.handle)
        if sealed is None:
            return None
        if not is_sound(sealed, key, table.seed):
            raise table.damaged(key)
        return sealed[:-4]

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Set the value of `key`."""
        self.lmdb.put(key, value + PACK_CRC(crc32c(value, crc32c(key, table.seed))), db=table.handle)

    def delete(self, table: Table, key: bytes) -> bool:
        """Remove `key`; False when it was not there."""
        return bool(self.lmdb.delete(key, db=table.handle))

    def scan(self, table: Table, start: bytes, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows from `start` on while their keys begin with `prefix`. The table may not change while the scan runs."""
        cursor = self.lmdb.cursor(db=table.handle)
        if not cursor.set_range(start):
            return
        for key, sealed in cursor.iternext(keys=True, values=True):
            if not key.startswith(prefix):
                return
            yield key, table.unseal(key, sealed)

    # -------------------------------------------------------------------------------- rows that stem from a record

    def put_origin(self, table: Table, key: bytes, origin: Origin, row: object) -> None:
        """Set `key` to a msgpack row with the record it stems from; the record it stemmed from before dies."""
        old = self.lmdb.get(key, db=table.handle)
        if old is not None:
            self._origin_dies(old)
        self._live[origin.segment] = self._live.get(origin.segment, 0) + origin.total_bytes
        self.put(table, key, ORIGIN.pack(*origin) + _ENCODER.encode(row))

    def get_origin(self, table: Table, key: bytes, decoder: msgspec.msgpack.Decoder[Row]) -> tuple[Origin, Row] | None:
        """The row of `key` and the record it stems from, or None."""
        value = self.get(table, key)
        if value is None:
            return None
        return Origin(*ORIGIN.unpack_from(value)), decoder.decode(memoryview(value)[ORIGIN.size :])

    def delete_origin(self, table: Table, key: bytes) -> bool:
        """Remove a row that stems from a record; the record dies."""
        old = self.lmdb.get(key, db=table.handle)
        if old is None:
            return False
        self._origin_dies(old)
        return self.delete(table, key)

    def _origin_dies(self, sealed: bytes) -> None:
        origin = Origin(*ORIGIN.unpack_from(sealed))
        self.dies(origin.segment, origin.total_bytes)

    # --------------------------------------------------------------------------------------------------- versions

    def key_state(self, bucket: BucketId, key: str) -> KeyState:
        """The newest version of `key`. Remembered until `forget_key_state`."""
        state = self._key_state
        if state is not None and state.key == key and state.bucket == bucket:
            return state
        text = key.encode("utf-8")
        row_key, branches = suffixed_path(bucket, text)
        state = KeyState(bucket, key, text, row_key, branches)
        self.load_latest(state)
        self._key_state = state
        return state

    def load_latest(self, state: KeyState) -> None:
        """Look up the newest version of `state`'s key again."""
        row_key = state.row_key
        cursor = self.lmdb.cursor(db=self.tables.versions.handle)
        state.latest, state.latest_sequence = None, 0
        is_there = cursor.set_range(row_key)
        found = cursor.key() if is_there else b""
        if is_there and found == row_key:  # the head row, which names the null version
            is_there = cursor.next()
            found = cursor.key() if is_there else b""
        if is_there and len(found) == len(row_key) + 8 and found.startswith(row_key):
            row = VersionRow(*VERSION.unpack(self.tables.versions.unseal(found, cursor.value())))
            state.latest, state.latest_sequence = row, sequence_of(found[-8:])
        else:
            self.tables.versions.require_absent(self.lmdb, row_key)

    def forget_key_state(self) -> None:
        self._key_state = None

    def null_version(self, state: KeyState) -> FoundVersion | None:
        """The null version of the key: the newest one, or the one that the head row names."""
        if not state.null_known:
            state.null_row, state.null_sequence = None, 0
            if state.latest is not None:
                if state.latest.is_null:
                    state.null_row, state.null_sequence = state.latest, state.latest_sequence
                else:
                    self._load_null(state)
            state.null_known = True
        return None if state.null_row is None else FoundVersion(Sequence(state.null_sequence), state.null_row)

    def _load_null(self, state: KeyState) -> None:
        head = self.get(self.tables.versions, state.row_key)
        if head is None:
            return
        sequence = Sequence(_U64.unpack(head)[0])
        row = self.version_row(state, sequence)
        if row is None:
            raise RecordDamaged(what=f"key {state.key!r}", reason="its head row names a null version that is not there")
        state.null_row, state.null_sequence = row, sequence

    def version_row(self, state: KeyState, sequence: Sequence) -> VersionRow | None:
        """The row of one version of the key."""
        if sequence == state.latest_sequence:
            return state.latest
        value = self.get(self.tables.versions, state.row_key + inverted(sequence))
        return None if value is None else VersionRow(*VERSION.unpack(value))

    # ------------------------------------------------------------------------------------------------- blobs, sets

    def blob(self, key: bytes) -> BlobRow | None:
        value = self.get(self.tables.blobs, key)
        return None if value is None else BlobRow(*BLOB.unpack(value))

    def put_blob(self, key: bytes, row: BlobRow) -> None:
        self.put(self.tables.blobs, key, BLOB.pack(*row))

    def blob_set(self, key: bytes) -> tuple[SetRow, bytes] | None:
        """A set and the bitmap of its unselected parts."""
        value = self.get(self.tables.blobs, key)
        return None if value is None else (SetRow(*SET.unpack_from(value)), value[SET.size :])

    def put_blob_set(self, key: bytes, row: SetRow, bitmap: bytes) -> None:
        self.put(self.tables.blobs, key, SET.pack(*row) + bitmap)

    # --------------------------------------------------------------------------------------------------- gathered

    def bucket(self, bucket: BucketId) -> Bucket | None:
        """The bucket with that id."""
        found = self.known.buckets.get(bucket)
        if found is None:
            name = self.get(self.tables.bucket_ids, _U64.pack(bucket))
            if name is None:
                return None
            found = self.bucket_named(name.decode("utf-8"))
            if found is not None:
                self.known.buckets[bucket] = found
        return found

    def bucket_named(self, name: str) -> Bucket | None:
        key = name.encode("utf-8")
        row = self.get_origin(self.tables.buckets, key, BUCKET_DECODER)
        if row is None:
            self.tables.buckets.require_absent(self.lmdb, key)
            return None
        return row[1]

    def forget_bucket(self, bucket: BucketId) -> None:
        """To be called when the bucket's row changes."""
        self.known.buckets.pop(bucket, None)

    def counters(self, bucket: int) -> list[int]:
        """The counters of a bucket, to be changed in place; in the order of `COUNTERS`."""
        counters = self._counters.get(bucket)
        if counters is None:
            counters = self.known.counters.pop(bucket, None)
            if counters is None:
                value = self.get(self.tables.counters, _U64.pack(bucket))
                counters = list(NO_COUNTERS if value is None else COUNTERS.unpack(value))
            self._counters[bucket] = counters
        return counters

    def drop_counters(self, bucket: int) -> None:
        self._counters.pop(bucket, None)
        self.known.counters.pop(bucket, None)
        self.delete(self.tables.counters, _U64.pack(bucket))

    def dedup_totals(self) -> list[int]:
        """What deduplication holds, to be changed in place; in the order of `DEDUP_TOTALS`."""
        if self._dedup is None:
            value = self.get(self.tables.state, DEDUP_KEY)
            self._dedup = [0, 0, 0, 0] if value is None else list(DEDUP_TOTALS.unpack(value))
        return self._dedup

    def lives(self, segment: int, total_bytes: int) -> None:
        """A record of `total_bytes` in log segment `segment` is referred to from now on."""
        self._live[segment] = self._live.get(segment, 0) + total_bytes

    def dies(self, segment: int, total_bytes: int) -> None:
        """The reverse of `lives`."""
        self._live[segment] = self._live.get(segment, 0) - total_bytes

    def outcomes(self, epoch: int) -> dict[int, bytes]:
        """Outcomes of the epoch's operations that it may still ask for, by counter; to be changed in place."""
        outcomes = self._outcomes.get(epoch)
        if outcomes is None:
            outcomes = self.known.outcomes.pop(epoch, None)
            if outcomes is None:
                value = self.get(self.tables.operations, _U64.pack(epoch))
                outcomes = {} if value is None else unpack_outcomes(value)
            self._outcomes[epoch] = outcomes
        return outcomes

    def forget_answered(self, epoch: int, below: int) -> None:
        """Drop the outcomes that the epoch's sender needs no more. Its counters come in order, so they lie in front."""
        outcomes = self.outcomes(epoch)
        while outcomes and (oldest := next(iter(outcomes))) < below:
            del outcomes[oldest]

    def drop_outcomes(self, epoch: int) -> None:
        self._outcomes.pop(epoch, None)
        self.known.outcomes.pop(epoch, None)
        self.delete(self.tables.operations, _U64.pack(epoch))

    def log_segment(self, number: int) -> LogSegmentRow | None:
        row = self.appended.get(number)
        if row is not None:
            return row
        if number == self.known.active_number and self.known.active is not None:
            return self.known.active
        value = self.get(self.tables.log_segments, number.to_bytes(4, "big"))
        return None if value is None else LogSegmentRow(*LOG_SEGMENT.unpack(value))

    def put_log_segment(self, number: int, row: LogSegmentRow) -> None:
        """Set the row of a log segment; its live bytes go on being gathered."""
        self.appended[number] = row

    def log_appended(
        self,
        number: int,
        sequence: int,
        end_offset: int,
        crc: int,
        total_bytes: int,
        records: int = 1,
        last_sequence: int = 0,
    ) -> None:
        """A record was appended to `number` and now ends at `end_offset`; or several, `total_bytes` in all, with
        `sequence` that of the first."""
        added = self._added
        if added is None or added.segment != number:
            self._count_added()
            added = self._added = _Added(number, sequence)
        added.records += records
        added.record_bytes += total_bytes
        added.end_offset, added.crc, added.sequence = end_offset, crc, last_sequence or sequence

    def _count_added(self) -> None:
        """Bring the rows of the log's segments and the tail up to the records applied since the last time."""
        added, self._added = self._added, None
        if added is None:
            return
        number, before = added.segment, self.tail.segment
        if before != number and before:
            previous = self.log_segment(before)
            if previous is not None and previous.state == LOG_ACTIVE:
                self.appended[before] = previous._replace(state=LOG_SEALED)
        row = self.log_segment(number)
        if row is None:
            row = LogSegmentRow(LOG_ACTIVE, number, number, 0, 0, 0, 0, 0, 0, 0)
        state, first, last, generation, _, records, first_sequence, _, record_bytes, live_bytes = row
        records += added.records
        # Built whole, as below: `_replace` takes longer than all else here, and this is done for every batch.
        self.appended[number] = _SEGMENT_ROW(
            (
                state,
                first,
                last,
                generation,
                added.end_offset,
                records,
                first_sequence or added.first_sequence,
                added.sequence,
                record_bytes + added.record_bytes,
                live_bytes + self._live.pop(number, 0),
            )
        )
        _, _, _, _, identity_generation, bucket_generation, _ = self.tail
        self.tail = _TAIL(
            (number, added.end_offset, added.crc, added.sequence, identity_generation, bucket_generation, records)
        )

    # ------------------------------------------------------------------------------------------------ begin and end

    def child(self) -> CatalogTransaction:
        """A transaction inside this one; everything gathered so far is written first."""
        self.flush()
        return CatalogTransaction(self.tables, self, self.known)

    def merge(self, child: CatalogTransaction) -> None:
        """Commit a child into this transaction."""
        child.flush()
        child.lmdb.commit()
        self.tail = child.tail
        self._forget()

    def abandon(self, child: CatalogTransaction) -> None:
        """Undo a child."""
        child.lmdb.abort()
        self.known.clear()
        self._forget()

    @property
    def has_gathered(self) -> bool:
        """Whether rows are gathered that `flush` has to write."""
        return bool(self._added or self._counters or self._live or self._outcomes or self.appended or self._dedup)

    def write_hot(self, rows: HotRows, run: Run, log: LogWriter) -> bool:
        """Have the kernel `hotrows` write what small writes add up to, the tail too. False, and nothing was written,
        where other rows are gathered already, or not all of those are known."""
        self._key_state = None
        if self._added or self._counters or self._live or self._outcomes or self.appended or self._dedup:
            return False
        if not rows.write(self.lmdb, self.known, run, log.number, log.end, log.crc):
            return False
        self._is_written = True
        self.tail = self.known.tail or self.tail
        return True

    def flush(self) -> None:
        """Write the gathered rows."""
        if self._is_written and not self.has_gathered:
            return
        self._count_added()
        tables, known = self.tables, self.known
        for bucket, counters in self._counters.items():
            self.put(tables.counters, _U64.pack(bucket), COUNTERS.pack(*counters))
            known.counters[bucket] = counters
        for epoch, outcomes in self._outcomes.items():
            key = _U64.pack(epoch)
            if outcomes:
                self.put(tables.operations, key, pack_outcomes(outcomes))
                known.outcomes[epoch] = outcomes
            else:
                self.delete(tables.operations, key)
        if self._dedup is not None:
            if any(self._dedup):
                self.put(tables.state, DEDUP_KEY, DEDUP_TOTALS.pack(*self._dedup))
            else:
                self.delete(tables.state, DEDUP_KEY)
        for number, delta in self._live.items():
            row = self.log_segment(number)
            if row is not None:
                self.appended[number] = LogSegmentRow(*row[:-1], row.live_bytes + delta)
        tail = self.tail
        for number, row in self.appended.items():
            self.put(tables.log_segments, number.to_bytes(4, "big"), LOG_SEGMENT.pack(*row))
            if number == tail.segment:
                known.active_number, known.active = number, row
        self.put(tables.state, TAIL_KEY, TAIL.pack(*tail))
        known.tail = tail
        self._forget()

    def commit(self) -> None:
        """Flush and make visible; what the log has of it makes it durable, the next checkpoint the catalog itself."""
        if self.has_gathered:
            self.flush()
        self.lmdb.commit()

    def abort(self) -> None:
        self.lmdb.abort()

    def _forget(self) -> None:
        self._counters.clear()
        self._live.clear()
        self._outcomes.clear()
        self._dedup = None
        self.appended.clear()
        self._added = None
        self._key_state = None

    def _read_tail(self) -> Tail:
        value = self.get(self.tables.state, TAIL_KEY)
        return EMPTY_TAIL if value is None else Tail(*TAIL.unpack(value))


def hot_rows(tables: Tables) -> HotRows:
    """What `flush` gathers and writes after most batches, for these tables."""
    gathered = tables.counters, tables.operations, tables.log_segments, tables.state
    return HotRows([(table.handle, table.seed) for table in gathered], TAIL_KEY, _SEGMENT_ROW, _TAIL)


def pack_outcomes(outcomes: dict[int, bytes]) -> bytes:
    """The row of an epoch in table `operations`."""
    if len(outcomes) == 1:
        ((counter, raw),) = outcomes.items()
        return _ENTRY.pack(counter, len(raw)) + raw
    pack = _ENTRY.pack
    return b"".join([pack(counter, len(raw)) + raw for counter, raw in outcomes.items()])


def unpack_outcomes(value: bytes) -> dict[int, bytes]:
    """The reverse of `pack_outcomes`."""
    found = {}
    offset = 0
    while offset < len(value):
        counter, length = _ENTRY.unpack_from(value, offset)
        offset += _ENTRY.size
        found[counter] = value[offset : offset + length]
        offset += length
    return found
