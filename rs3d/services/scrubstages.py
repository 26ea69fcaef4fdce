"""The work of a scrub, in pieces that take well under a second each: the log segment by segment, blobs by the MiB.

Everything here blocks and runs in a thread. Rows are read in short views; what is gone when its turn comes was deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from rs3d.errors import BlobDamaged, FormatUnknown, RecordDamaged, Rs3dError, StoreDamaged
from rs3d.format.rows import LOG_ACTIVE, LOG_SEALED, LogSegmentRow
from rs3d.services.healthcodes import HealthCode
from rs3d.services.mending import Suspects
from rs3d.services.scrubstate import Findings, Progress
from rs3d.stores.blobexamination import BlobExamination, Buffers
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.layoutmeta import read_store_meta
from rs3d.stores.logchain import LogDirectory, read_directory
from rs3d.stores.logexamination import DamagedRecord, examine_segment
from rs3d.stores.sweep import known_blobs
from rs3d.types.identifiers import BlobId, BucketId, SegmentId

STEP_BYTES: Final = 32 << 20
STEP_S: Final = 0.25
"""A piece of work ends at either; a log segment is one piece however long."""


class ScrubStages:
    """The stages `log` and `blobs`."""

    def __init__(
        self,
        root: str,
        store_id: bytes,
        catalog: LocalCatalog,
        blobs: LocalBlobStore,
        suspects: Suspects,
        findings: Findings,
        damaged_key_files: Callable[[], list[tuple[str, str]]] = list,
    ) -> None:
        """Args:
        damaged_key_files: reads the files of keys that this store needs; names those that are damaged, and why.
        """
        self._damaged_key_files = damaged_key_files
        self._root = root
        self._store_id = store_id
        self._catalog = catalog
        self._blobs = blobs
        self._suspects = suspects
        self._findings = findings
        self._buffers = Buffers()
        self._segment: SegmentId | None = None
        """Whose blobs `_queue` holds."""
        self._queue: list[tuple[BlobId, int]] = []
        self._under_way: BlobExamination | None = None

    def measure(self, progress: Progress) -> None:
        """Count what there is to read."""
        blobs = total = 0
        with self._catalog.snapshot() as view:
            segments = [row.segment for row in view.blob_segments()]
            total += sum(row.end_offset for _, row in view.log_segments() if row.state in (LOG_ACTIVE, LOG_SEALED))
        for segment in segments:
            with self._catalog.snapshot() as view:
                for _, row in view.blobs(segment):
                    blobs += 1
                    total += row.stored_bytes
        progress.total_blobs, progress.total_bytes = blobs, total

    def check_store_meta(self) -> None:
        """Whether the store could be opened again."""
        try:
            read_store_meta(self._root)
        except (StoreDamaged, FormatUnknown, RecordDamaged, OSError) as error:
            self._findings.note(HealthCode.STORE_META_DAMAGED, "store.meta", str(error))
        for path, reason in self._damaged_key_files():
            self._findings.note(HealthCode.KEYS_DAMAGED, path, reason)

    # -------------------------------------------------------------------------------------------------------- log

    def examine_next_segment(self, progress: Progress, mendable: set[int]) -> bool:
        """Examine the next segment of the log; False when there is none.

        Args:
            mendable: takes the numbers of sealed segments that a compaction of theirs alone would mend.
        """
        following = self._next_segment(progress.log_after)
        if following is None:
            return False
        number, row = following
        try:
            directory = read_directory(f"{self._root}/log", self._store_id)
            if number not in directory.segments:
                reason = directory.broken.get(number, "its file is missing")
                if self._is_live(number):
                    self._findings.note(HealthCode.LOG_DAMAGED, f"log segment {number}", reason)
            else:
                self._examine_segment(directory, number, row, progress, mendable)
        except (StoreDamaged, OSError) as error:
            if self._is_live(number):
                self._findings.note(HealthCode.LOG_DAMAGED, f"log segment {number}", str(error))
        progress.log_after = row.first
        return True

    def _next_segment(self, after: int) -> tuple[int, LogSegmentRow] | None:
        with self._catalog.snapshot() as view:
            tail = view.tail
            live = [
                (number, row)
                for number, row in view.log_segments()
                if row.state in (LOG_ACTIVE, LOG_SEALED) and row.first > after
            ]
        if not live:
            return None
        number, row = min(live, key=lambda found: found[1].first)
        return number, row._replace(end_offset=tail.offset) if number == tail.segment else row

    def _is_live(self, number: int) -> bool:
        """Whether the segment is still part of the log: compaction may have replaced it meanwhile."""
        with self._catalog.snapshot() as view:
            rows = dict(view.log_segments())
        return number in rows and rows[number].state in (LOG_ACTIVE, LOG_SEALED)

    def _examine_segment(
        self, directory: LogDirectory, number: int, row: LogSegmentRow, progress: Progress, mendable: set[int]
    ) -> None:
        found = examine_segment(directory, directory.segments[number], row.end_offset)
        progress.records += found.records
        progress.done_bytes += found.read_bytes
        if not found.damaged or not self._is_live(number):
            return
        for record in found.damaged:
            code = HealthCode.MENDED if record.mendable else HealthCode.LOG_DAMAGED
            reason = record.reason + ("; its parity restores it" if record.mendable else "")
            self._findings.note(code, self._name_of(number, record), reason)
        if found.damaged_unlisted:
            reason = f"{found.damaged_unlisted} more records are damaged"
            self._findings.note(HealthCode.LOG_DAMAGED, f"log segment {number}", reason)
        if row.state == LOG_SEALED and all(record.mendable for record in found.damaged):
            mendable.add(number)

    def _name_of(self, number: int, record: DamagedRecord) -> str:
        what = f"log segment {number}, record at {record.offset}"
        if record.bucket and record.key:
            with self._catalog.snapshot() as view:
                bucket = view.bucket_by_id(BucketId(record.bucket))
            what += f", {bucket.name if bucket is not None else 'a bucket that is gone'}/{record.key}"
        return what

    # ------------------------------------------------------------------------------------------------------ blobs

    def examine_some_blobs(self, progress: Progress) -> bool:
        """Examine blobs for a while, on from where `progress` says; False when all are done."""
        deadline_s = time.monotonic() + STEP_S
        read_bytes = 0
        while read_bytes < STEP_BYTES and time.monotonic() < deadline_s:
            if not self._queue and not self._fill_queue(progress):
                return False
            if self._queue:
                count = self._examine_some(progress)
                progress.done_bytes += count
                read_bytes += count
        return True

    def forget(self) -> None:
        """Drop what is open: the next call begins where `progress` says."""
        if self._under_way is not None:
            self._under_way.close()
        self._under_way, self._segment, self._queue = None, None, []

    def _fill_queue(self, progress: Progress) -> bool:
        """Take the blobs of the next segment that has any; what was left of the one before is compared with the
        directory first."""
        if self._segment is not None:
            self._compare_directory(self._segment)
            progress.segment, progress.number, progress.offset = int(self._segment) + 1, -1, 0
            progress.current = -1
            self._segment = None
        with self._catalog.snapshot() as view:
            segments = sorted(row.segment for row in view.blob_segments() if row.segment >= progress.segment)
            if not segments:
                return False
            segment = segments[0]
            rows = [(blob, row.stored_bytes) for blob, row in view.blobs(segment)]
        after = progress.number if segment == progress.segment else -1
        if segment != progress.segment:
            progress.segment, progress.number, progress.offset = int(segment), -1, 0
            progress.current = -1
        self._segment = segment
        self._queue = [(blob, stored) for blob, stored in reversed(rows) if blob.number > after]
        return True

    def _examine_some(self, progress: Progress) -> int:
        """One piece of the first blob in the queue. Returns bytes read."""
        blob, stored_bytes = self._queue[-1]
        if progress.current != blob.number:
            progress.current, progress.offset = blob.number, 0
        try:
            if self._under_way is None:
                self._under_way = BlobExamination(self._root, blob, stored_bytes, self._buffers)
            count = self._under_way.check(progress.offset)
            progress.offset += count
            if count:
                return count
        except FileNotFoundError:
            if self._is_wanted(blob):
                progress.damaged_blobs += 1
                self._suspect(blob, "one of its files is missing")
        except BlobDamaged as damage:
            if self._is_wanted(blob):
                progress.damaged_blobs += 1
                self._suspect(blob, damage.reason)
        except Rs3dError:  # no descriptor or memory: the service waits and comes back to this very place
            self._close_under_way()
            raise
        self._close_under_way()
        self._queue.pop()
        progress.blobs += 1
        progress.number = blob.number
        return 0

    def _suspect(self, blob: BlobId, reason: str) -> None:
        """Noted first, so that a kill before it was mended does not forget it."""
        self._findings.note(HealthCode.BLOB_DAMAGED, f"blob {blob.text()}", reason, blob=blob.text())
        self._suspects.add(blob, reason)

    def _close_under_way(self) -> None:
        if self._under_way is not None:
            self._under_way.close()
            self._under_way = None

    def _is_wanted(self, blob: BlobId) -> bool:
        with self._catalog.snapshot() as view:
            return view.blob_row(blob) is not None

    def _compare_directory(self, segment: SegmentId) -> None:
        """Files without a row where the sweep has been: they were not there then, or their row was."""
        found = self._blobs.list_segment(segment)
        with self._catalog.snapshot() as view:  # after the listing, as the sweep does
            state = next((row for row in view.blob_segments() if row.segment == segment), None)
            known = known_blobs(view, segment)
        strays = [blob for blob in found if blob not in known]
        if strays and state is not None and state.closed and state.swept:
            what = f"blobs/{segment:016x}/"
            names = ", ".join(f"{blob.number:08x}" for blob in strays[:10])
            self._findings.note(HealthCode.ORPHANS, what, f"{len(strays)} blobs without a row: {names}")
