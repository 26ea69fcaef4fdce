"""The committer's way of puts and removals as most are. A *plain* version is a null version whose bytes lie in its
record or are a blob, and which nothing keeps: PutSmall and BlobPut are taken here for a key that has no rows yet, or
whose plain latest version they replace; RemoveSmall for a key whose only version is plain. The kernel `smallrun` does
the work; here is what it asks for now and then. All others go the way of PutVersion and RemoveVersion. Both ways write
the same bytes: tests/stores/test_small_puts.py, test_blob_puts.py, test_small_removals.py.
"""

from __future__ import annotations

from collections.abc import Callable

from rs3d.format.rows import BlobRow
from rs3d.kernels.hotrows import HotRows
from rs3d.kernels.smallrun import Run, SmallBucket, SmallTables
from rs3d.stores.catalogreferences import unrefer_blob
from rs3d.stores.catalogwriter import BYTES, OBJECTS, VERSIONS
from rs3d.stores.committerplan import BLOBS_PER_SEGMENT, Desk, owner_of
from rs3d.stores.log import LogWriter
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BucketId, Sequence


class SmallRun(Run):
    """Such puts and removals of one transaction that follow one another, with no other operation between them. What
    they add up to is written by `settle`, which is due before anything else reads the transaction's gathered rows, or
    commits it."""

    __slots__ = ("_desk", "_log", "_rows")

    def __init__(
        self,
        tables: SmallTables,
        rows: HotRows,
        desk: Desk,
        log: LogWriter,
        reply: Callable[[tuple[object, ...]], object],
        *,
        may_add: bool,
    ) -> None:
        """`may_add`: whether the disk has room for puts."""
        super().__init__(tables, desk.transaction.lmdb, log, desk.clock, desk.now_ns, reply, may_add)
        self._desk = desk
        self._rows = rows
        self._log = log

    def settle(self) -> None:
        """Count what was changed. Once."""
        if not self.records:
            return
        t, log = self._desk.transaction, self._log
        if t.write_hot(self._rows, self, log):
            for segment, dead_bytes in self.dead.items():
                t.dies(segment, dead_bytes)
            return
        for number, bucket in self.buckets.items():
            if bucket is not None and bucket.is_changed:
                counters = t.counters(number)
                counters[VERSIONS] += bucket.keys
                counters[OBJECTS] += bucket.keys
                counters[BYTES] += bucket.object_bytes
        t.log_appended(
            log.number, self.first_sequence, log.end, log.crc, self.record_bytes, self.records, self.last_sequence
        )
        if self.live_bytes:
            t.lives(log.number, self.live_bytes)
        for segment, dead_bytes in self.dead.items():
            t.dies(segment, dead_bytes)
        for epoch, answered in self.answered.items():
            t.forget_answered(epoch, answered)

    def meet(self, number: BucketId) -> SmallBucket | None:
        """A bucket; None where its settings, or that it is gone, are for PutVersion or RemoveVersion to look at."""
        bucket = self._desk.transaction.bucket(number)
        if bucket is None or bucket.settings:
            return None
        return SmallBucket(bucket.versioning is not Versioning.ENABLED, bucket.versioning is not Versioning.UNVERSIONED)

    def remembered(self, epoch: int) -> dict[int, bytes]:
        """Outcomes of an epoch, to be changed in place."""
        t = self._desk.transaction
        return t.known.outcomes.get(epoch) or t.outcomes(epoch)

    def is_new(self, epoch: int, blob: bytes, segment: int, number: int) -> bool:
        """Whether the blob is the sender's, and was never committed: see `committerplan.check_new_blobs`."""
        desk = self._desk
        if owner_of(desk, segment) != epoch or number >= BLOBS_PER_SEGMENT:
            return False
        t, tables = desk.transaction, desk.tables
        return t.get(tables.blobs, blob) is None and t.get(tables.garbage, blob) is None

    def blob(self, key: bytes) -> BlobRow | None:
        """The row of a blob that a version refers to.

        Raises:
            RecordDamaged
        """
        return self._desk.transaction.blob(key)

    def unrefer(self, key: bytes, row: BlobRow, sequence: Sequence) -> None:
        """One reference less to a blob with that row."""
        unrefer_blob(self._desk.transaction, key, row, sequence)

    def put_blob(self, key: bytes, stored_bytes: int, disk_bytes: int) -> None:
        """A blob with its first reference."""
        self._desk.transaction.put_blob(key, BlobRow(1, stored_bytes, disk_bytes))
