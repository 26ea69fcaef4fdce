"""The committer's way of PutSmall: a key that has no rows yet gets its record and rows from the kernel; any other goes
the way of PutVersion. Both write the same bytes: tests/stores/test_small_puts.py.
"""

from __future__ import annotations

from typing import Final

from rs3d.kernels.smallput import SmallPuts, row_key
from rs3d.stores.catalogreferences import record_total
from rs3d.stores.catalogwriter import BYTES, OBJECTS, VERSIONS
from rs3d.stores.committerplan import Desk
from rs3d.stores.log import LogWriter
from rs3d.stores.smallput import SmallPut
from rs3d.types.buckets import Versioning

MOST_BODY_BYTES: Final = 1024
"""Of the record, beside key and content type: names, numbers and digests take some 560."""


class _SmallBucket:
    """A bucket and what the run has added to it."""

    __slots__ = ("null", "payload_bytes", "puts", "reports_version")

    def __init__(self, versioning: Versioning) -> None:
        self.null = versioning is not Versioning.ENABLED
        self.reports_version = versioning is not Versioning.UNVERSIONED
        self.puts = self.payload_bytes = 0


class SmallRun:
    """Small puts of one transaction that follow one another, with no other operation between them. What they add up to
    is written by `settle`, which is due before anything else reads the transaction's gathered rows, or commits it."""

    __slots__ = (
        "_answered",
        "_buckets",
        "_desk",
        "_first_sequence",
        "_last_sequence",
        "_log",
        "_puts",
        "_record_bytes",
        "_records",
    )

    def __init__(self, desk: Desk, log: LogWriter, puts: SmallPuts) -> None:
        self._desk = desk
        self._log = log
        self._puts = puts
        self._buckets: dict[int, _SmallBucket | None] = {}
        self._answered: dict[int, int] = {}
        self._records = self._record_bytes = self._first_sequence = self._last_sequence = 0

    def fits(self, put: SmallPut) -> bool:
        """Whether the active segment takes its record."""
        return self._log.fits(len(put.body) + MOST_BODY_BYTES, 0)

    def put(self, put: SmallPut, answered_below: int) -> bytes | None:
        """Append the record and add the rows, as `apply` does of the same record; the caller has asked `fits` and
        whether its sender may commit.

        Returns:
            The outcome's bytes. None where the put has to go the way of PutVersion; nothing was done.

        Raises:
            ValueError: the payload is not the one announced; nothing was done.
            RecordDamaged: a row beside the key's place; nothing was done. lmdb.Error: the transaction holds half of it.
        """
        desk, log = self._desk, self._log
        t, tables = desk.transaction, desk.tables
        bucket = self._buckets[put.bucket] if put.bucket in self._buckets else self._meet(put)
        outcomes = t.outcomes(put.epoch)
        if bucket is None or put.counter in outcomes:
            return None
        rows_from = row_key(put.body)
        if rows_from is None or not t.is_new_key(rows_from):
            return None
        sequence = desk.clock.next(desk.now_ns)
        made = log.add_small(
            self._puts, put, answered_below, sequence, desk.now_ns, bucket.null, bucket.reports_version
        )
        _, head_bytes, payload_bytes, version_key, version, current_key, current, outcome = made
        t.lmdb.put(version_key, version, db=tables.versions.handle)
        t.lmdb.put(current_key, current, db=tables.current.handle)
        outcomes[put.counter] = outcome
        self._answered[put.epoch] = answered_below
        bucket.puts += 1
        bucket.payload_bytes += payload_bytes
        if not self._records:
            self._first_sequence = sequence
        self._last_sequence = sequence
        self._records += 1
        self._record_bytes += record_total(head_bytes, payload_bytes)
        return outcome

    def settle(self) -> None:
        """Count what was added. Once."""
        if not self._records:
            return
        t, log = self._desk.transaction, self._log
        for number, bucket in self._buckets.items():
            if bucket is not None and bucket.puts:
                counters = t.counters(number)
                counters[VERSIONS] += bucket.puts
                counters[OBJECTS] += bucket.puts
                counters[BYTES] += bucket.payload_bytes
        t.log_appended(
            log.number, self._first_sequence, log.end, log.crc, self._record_bytes, self._records, self._last_sequence
        )
        t.lives(log.number, self._record_bytes)
        t.forget_key_state()
        for epoch, answered in self._answered.items():
            t.forget_answered(epoch, answered)

    def _meet(self, put: SmallPut) -> _SmallBucket | None:
        """None where its settings, or that it is gone, are PutVersion's to look at."""
        bucket = self._desk.transaction.bucket(put.bucket)
        found = None if bucket is None or bucket.settings else _SmallBucket(bucket.versioning)
        self._buckets[put.bucket] = found
        return found
