"""The committer's way of puts and removals as most are. A *plain* version is a null version whose bytes lie in its
record or are a blob, and which nothing keeps: PutSmall and BlobPut are taken here for a key that has no rows yet, or
whose plain latest version they replace; RemoveSmall for a key whose only version is plain. Records, rows and outcomes
come from the kernels. All others go the way of PutVersion and RemoveVersion. Both ways write the same bytes:
tests/stores/test_small_puts.py, test_blob_puts.py, test_small_removals.py.
"""

from __future__ import annotations

from typing import Final

from rs3d.format.logsegment import INDEX_ENTRY
from rs3d.format.rows import BlobRow
from rs3d.kernels.smallput import SmallPuts, first_row, row_key
from rs3d.kernels.smallremoval import plain_version, row_keys
from rs3d.stores.blobput import BlobPut
from rs3d.stores.catalogreferences import unrefer_blob
from rs3d.stores.catalogwriter import BYTES, OBJECTS, VERSIONS
from rs3d.stores.committerplan import BLOBS_PER_SEGMENT, Desk, owner_of
from rs3d.stores.log import LogWriter
from rs3d.stores.smallput import SmallPut
from rs3d.stores.smallremoval import SmallRemoval
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BucketId, Sequence

MOST_BODY_BYTES: Final = 1024
"""Of the record, beside key and content type: names, numbers and digests take some 660, of a removal some 160."""


class _SmallBucket:
    """A bucket and what the run has changed in it."""

    __slots__ = ("is_changed", "keys", "null", "object_bytes", "reports_version")

    def __init__(self, versioning: Versioning) -> None:
        self.null = versioning is not Versioning.ENABLED
        self.reports_version = versioning is not Versioning.UNVERSIONED
        self.is_changed = False
        self.keys = self.object_bytes = 0
        """More than before, or less: each of these keys has one version more, an object, or one less."""


class SmallRun:
    """Such puts and removals of one transaction that follow one another, with no other operation between them. What
    they add up to is written by `settle`, which is due before anything else reads the transaction's gathered rows, or
    commits it."""

    __slots__ = (
        "_answered",
        "_buckets",
        "_current",
        "_cursor",
        "_desk",
        "_epoch",
        "_first_sequence",
        "_last_sequence",
        "_live_bytes",
        "_log",
        "_outcomes",
        "_put_row",
        "_puts",
        "_record_bytes",
        "_records",
        "_versions",
        "_versions_seed",
        "may_add",
        "room_bytes",
    )

    def __init__(self, desk: Desk, log: LogWriter, puts: SmallPuts, *, may_add: bool) -> None:
        """`may_add`: whether the disk has room for puts."""
        self._desk = desk
        self._log = log
        self._puts = puts
        transaction, tables = desk.transaction, desk.tables
        self._put_row = transaction.lmdb.put
        self._cursor = transaction.lmdb.cursor(tables.versions.handle)
        self._versions, self._current = tables.versions.handle, tables.current.handle
        self._versions_seed = tables.versions.seed
        self._epoch = 0
        """Whose outcomes were asked for last; 0 is nobody's."""
        self._outcomes: dict[int, bytes] = {}
        self._buckets: dict[int, _SmallBucket | None] = {}
        self._answered: dict[int, int] = {}
        self._records = self._record_bytes = self._live_bytes = self._first_sequence = self._last_sequence = 0
        self.may_add = may_add
        self.room_bytes = log.room_bytes - INDEX_ENTRY.size - MOST_BODY_BYTES
        """The largest message whose record the active segment takes for certain."""

    def put(self, put: SmallPut | BlobPut, answered_below: int) -> bytes | None:
        """Append the record and set the rows, as `apply` does of the same record; the caller has looked at
        `may_add` and `room_bytes`, and whether its sender may commit.

        Returns:
            The outcome's bytes. None where the put has to go the way of PutVersion; nothing was done.

        Raises:
            ValueError: the payload is not the one announced; nothing was done.
            RecordDamaged: a row beside the key's place, or a blob's; nothing was done. lmdb.Error: the transaction
                holds half of it.
        """
        desk, log = self._desk, self._log
        t = desk.transaction
        number = put.bucket
        bucket = self._buckets[number] if number in self._buckets else self._meet(number)
        outcomes = self._outcomes if put.epoch == self._epoch else self._outcomes_of(put.epoch)
        if bucket is None or put.counter in outcomes:
            return None
        rows_from = row_key(put.body)
        if rows_from is None:
            return None
        found, replaced, released, blob = first_row(self._cursor, rows_from, self._versions_seed), None, None, b""
        if found is False:
            found = t.first_row(rows_from)
        if found is not None:
            replaced = plain_version(self._versions_seed, rows_from, *found)
            if replaced is None or not bucket.null:
                return None
            released = t.blob(replaced[5]) if replaced[5] else None
        if type(put) is BlobPut:
            blob, owner_segment, blob_number, stored_bytes, disk_bytes = put.new_blob()
            if not self._is_new(put.epoch, blob, owner_segment, blob_number):
                return None
        now_ns, clock = desk.now_ns, desk.clock
        # As `HybridClock.next`.
        sequence = clock.last = Sequence(now_ns if now_ns > clock.last else clock.last + 1)
        made = log.add_small(self._puts, put, answered_below, sequence, now_ns, bucket.null, bucket.reports_version)
        _, head_bytes, payload_bytes, size_bytes, version_key, version, current_key, current, outcome = made
        if found is not None and replaced is not None:
            t.lmdb.delete(found[0], b"", self._versions)
            _, _, replaced_bytes, dead_segment, dead_bytes, released_blob = replaced
            t.dies(dead_segment, dead_bytes)
            if released is not None:
                unrefer_blob(t, released_blob, released, sequence)
            bucket.object_bytes -= replaced_bytes
        else:
            bucket.keys += 1
        # The binding takes twice as long to sort out names as places, which are: dupdata, overwrite, append, db.
        self._put_row(version_key, version, True, True, False, self._versions)
        self._put_row(current_key, current, True, True, False, self._current)
        if blob:
            t.put_blob(blob, BlobRow(1, stored_bytes, disk_bytes))
        outcomes[put.counter] = outcome
        self._answered[put.epoch] = answered_below
        bucket.is_changed = True
        bucket.object_bytes += size_bytes
        record_bytes = (head_bytes + payload_bytes + 7) & -8  # as `record_total`
        if not self._records:
            self._first_sequence = sequence
        self._last_sequence = sequence
        self._records += 1
        self._record_bytes += record_bytes
        self._live_bytes += record_bytes
        self.room_bytes -= record_bytes + INDEX_ENTRY.size
        return outcome

    def remove(self, removal: SmallRemoval, answered_below: int) -> bytes | None:
        """`put` for a removal: None where it has to go the way of RemoveVersion. Here it is permitted only where
        nothing could forbid it: no lock and no hold is set.

        Raises:
            RecordDamaged: a row beside the key's, or the blob's; nothing was done. lmdb.Error: the transaction holds
                half of it.
        """
        desk = self._desk
        t = desk.transaction
        number = removal.bucket
        bucket = self._buckets[number] if number in self._buckets else self._meet(number)
        outcomes = self._outcomes if removal.epoch == self._epoch else self._outcomes_of(removal.epoch)
        if bucket is None or bucket.reports_version or removal.counter in outcomes:
            return None
        keys = row_keys(removal.body)
        if keys is None:
            return None
        rows_from, current_key = keys
        found = t.only_row(rows_from)
        if found is None:
            return None
        plain = plain_version(self._versions_seed, rows_from, *found)
        if plain is None:
            return None
        version, token, size_bytes, segment, dead_bytes, blob = plain
        released = t.blob(blob) if blob else None
        now_ns, clock = desk.now_ns, desk.clock
        # As `HybridClock.next`.
        sequence = clock.last = Sequence(now_ns if now_ns > clock.last else clock.last + 1)
        record_bytes, outcome = self._log.add_small_removal(removal, answered_below, sequence, version, token)
        t.lmdb.delete(found[0], b"", self._versions)
        t.lmdb.delete(current_key, b"", self._current)
        t.dies(segment, dead_bytes)
        if released is not None:
            unrefer_blob(t, blob, released, sequence)
        outcomes[removal.counter] = outcome
        self._answered[removal.epoch] = answered_below
        bucket.is_changed = True
        bucket.keys -= 1
        bucket.object_bytes -= size_bytes
        if not self._records:
            self._first_sequence = sequence
        self._last_sequence = sequence
        self._records += 1
        self._record_bytes += record_bytes
        self.room_bytes -= record_bytes + INDEX_ENTRY.size
        return outcome

    def settle(self) -> None:
        """Count what was changed. Once."""
        if not self._records:
            return
        t, log = self._desk.transaction, self._log
        for number, bucket in self._buckets.items():
            if bucket is not None and bucket.is_changed:
                counters = t.counters(number)
                counters[VERSIONS] += bucket.keys
                counters[OBJECTS] += bucket.keys
                counters[BYTES] += bucket.object_bytes
        t.log_appended(
            log.number, self._first_sequence, log.end, log.crc, self._record_bytes, self._records, self._last_sequence
        )
        if self._live_bytes:
            t.lives(log.number, self._live_bytes)
        t.forget_key_state()
        for epoch, answered in self._answered.items():
            t.forget_answered(epoch, answered)

    def _outcomes_of(self, epoch: int) -> dict[int, bytes]:
        self._epoch, self._outcomes = epoch, self._desk.transaction.outcomes(epoch)
        return self._outcomes

    def _is_new(self, epoch: int, blob: bytes, segment: int, number: int) -> bool:
        """Whether the blob is the sender's, and was never committed: see `committerplan.check_new_blobs`."""
        desk = self._desk
        if owner_of(desk, segment) != epoch or number >= BLOBS_PER_SEGMENT:
            return False
        t, tables = desk.transaction, desk.tables
        return t.get(tables.blobs, blob) is None and t.get(tables.garbage, blob) is None

    def _meet(self, number: BucketId) -> _SmallBucket | None:
        """None where its settings, or that it is gone, are for PutVersion or RemoveVersion to look at."""
        bucket = self._desk.transaction.bucket(number)
        found = None if bucket is None or bucket.settings else _SmallBucket(bucket.versioning)
        self._buckets[number] = found
        return found
