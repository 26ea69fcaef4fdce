"""Writing the log: the committer's append-only end. STORE.md rules 1, 2 and 6; FORMAT.md section "Log segment".

Records are gathered in memory for one batch; `flush` writes them with one call and syncs. A batch never spans
segments. The next segment is made ready by a thread (`LogPreparation`): written zeros, synced, so that appending
changes neither length nor allocation.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from collections.abc import Sequence as Items
from functools import partial
from typing import Final, NamedTuple

from rs3d.format.logsegment import (
    FOOTER_BYTES,
    INDEX_ENTRY,
    MAXIMUM_SEGMENT_BYTES,
    NONCE_BYTES,
    RECORDS_START,
    SegmentFooter,
    SegmentHeader,
    crc_seed,
    encode_footer,
    encode_header,
    encode_index,
    segment_name,
)
from rs3d.format.record import HEAD_BYTES, RECORD_ALIGNMENT, RecordKind, append_record
from rs3d.format.recordbodies import SegmentSealed, encode_body
from rs3d.format.rows import Place
from rs3d.stores.files import SYSTEM_FILES, Files, read_whole, write_whole
from rs3d.stores.logreader import segment_names

DEFAULT_SEGMENT_BYTES: Final = 64 << 20
_ZEROS: Final = bytes(1 << 20)
_SEAL_BODY_BYTES: Final = 32
"""Room kept for the body of the seal."""

_FIXED_BYTES: Final = 2 * HEAD_BYTES + _SEAL_BODY_BYTES + FOOTER_BYTES + 2 * RECORD_ALIGNMENT
"""Of a record and of the seal: everything but body, payload and index."""


class Mark(NamedTuple):
    """A state of the batch to return to."""

    length: int
    crc: int
    records: int


_MARK: Final[Callable[[tuple[object, ...]], Mark]] = partial(tuple.__new__, Mark)
"""Without the function that its name is: it is made for every batch."""


class LogPreparation:
    """Makes the next segment's file ready in a thread of its own; one spare is kept.

    A failure (disk full) is kept and raised by `take`; `retry` tries again.
    """

    def __init__(self, files: Files, directory: int, segment_bytes: int) -> None:
        self._files = files
        self._directory = directory
        self.segment_bytes = segment_bytes
        self._thread: threading.Thread | None = None
        self._ready: tuple[int, int, int] | None = None
        self._failure: OSError | None = None
        self._number = 0

    def begin(self, number: int) -> None:
        """Start to prepare segment `number`."""
        if self._thread is not None:
            self._thread.join()
        self._number = number
        self._thread = threading.Thread(target=self._run, args=(number,), name=f"rs3d-log-{number}", daemon=True)
        self._thread.start()

    @property
    def has_spare(self) -> bool:
        """Whether the next segment is ready now."""
        return self._ready is not None

    @property
    def failure(self) -> OSError | None:
        """Why the last preparation failed; None while none did."""
        return self._failure

    def retry(self) -> None:
        """Try again, in the background, what failed; nothing while it is being tried."""
        if self._failure is not None and (self._thread is None or not self._thread.is_alive()):
            self.begin(self._number)

    def take(self, number: int, minimum_bytes: int) -> tuple[int, int]:
        """Descriptor and capacity of segment `number`. Waits for its preparation; makes it here when there is none.

        Raises:
            OSError: it could not be made.
        """
        self.wait()
        ready, self._ready = self._ready, None
        if ready is not None:
            if ready[0] == number and ready[2] >= minimum_bytes:
                return ready[1], ready[2]
            self._files.close(ready[1])
            self._files.unlink(segment_name(ready[0]), directory=self._directory)
        capacity = min(max(self.segment_bytes, (minimum_bytes + 4095) & -4096), MAXIMUM_SEGMENT_BYTES)
        return self._make(number, capacity), capacity

    def wait(self) -> None:
        """Until no preparation is running."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Wait, and close the spare's descriptor; the file stays for the next opener."""
        self.wait()
        if self._ready is not None:
            self._files.close(self._ready[1])
            self._ready = None

    def _run(self, number: int) -> None:
        try:
            self._ready = (number, self._make(number, self.segment_bytes), self.segment_bytes)
            self._failure = None
        except OSError as error:
            self._failure = error

    def _make(self, number: int, capacity: int) -> int:
        left = self._adopt_left(number, capacity)
        if left is not None:
            return left
        temporary = f"{number:010d}.tmp"
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(temporary, directory=self._directory)
        descriptor = self._files.create(temporary, directory=self._directory)
        try:
            for offset in range(0, capacity, len(_ZEROS)):
                write_whole(self._files, descriptor, memoryview(_ZEROS)[: capacity - offset], offset)
            self._files.sync_data(descriptor)
            name = segment_name(number)
            self._files.rename(temporary, name, source_directory=self._directory, target_directory=self._directory)
            self._files.sync(self._directory)
        except OSError:
            self._files.close(descriptor)
            with contextlib.suppress(OSError):  # it is named .tmp, and every opener removes such files
                self._files.unlink(temporary, directory=self._directory)
            raise
        return descriptor

    def _adopt_left(self, number: int, capacity: int) -> int | None:
        """A file that was prepared and never used, by this or an earlier process. What a torn first batch may have
        left in it was written under another nonce and never validates."""
        name = segment_name(number)
        try:
            descriptor = self._files.open_for_writing(name, directory=self._directory)
        except FileNotFoundError:
            return None
        first = bytearray(RECORDS_START)
        read_whole(self._files, descriptor, memoryview(first), 0)
        if any(first) or self._files.status(descriptor).st_size != capacity:
            self._files.close(descriptor)
            return None
        try:  # whoever named it may have died before the name was durable
            self._files.sync_data(descriptor)
            self._files.sync(self._directory)
        except OSError:
            self._files.close(descriptor)
            raise
        return descriptor


class LogWriter:
    """The one appender. Not thread-safe; blocking."""

    def __init__(
        self, log_path: str, store_id: bytes, *, segment_bytes: int = DEFAULT_SEGMENT_BYTES, files: Files = SYSTEM_FILES
    ) -> None:
        self._files = files
        self.directory = files.open_directory(log_path)
        self.path = log_path
        self.files = files
        self.store_id = store_id
        self.preparation = LogPreparation(files, self.directory, segment_bytes)
        self._descriptor = -1
        self._capacity = 0
        self._header = b""
        self._offsets: list[int] = []
        self._buffer = bytearray()
        self._seed = 0
        self.number = 0
        self.offset = 0
        self.crc = 0
        self._flushed_crc = 0
        self.failed: OSError | None = None

    def start(self, number: int, previous_number: int, previous_end: int, now_ns: int, minimum_bytes: int = 0) -> None:
        """Make segment `number` the active one, behind `previous_number`, which ends at `previous_end`.

        Its header goes out with the first batch. Then the next spare is begun.

        Raises:
            OSError: the file could not be made; the writer stays as it was.
        """
        needed = minimum_bytes + RECORDS_START + FOOTER_BYTES + HEAD_BYTES + _SEAL_BODY_BYTES + INDEX_ENTRY.size * 1024
        descriptor, capacity = self.preparation.take(number, needed)
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
        nonce = os.urandom(NONCE_BYTES)
        self._header = encode_header(
            SegmentHeader(
                store_id=self.store_id,
                number=number,
                first=number,
                last=number,
                generation=0,
                nonce=nonce,
                previous_number=previous_number,
                previous_end=previous_end,
                capacity_bytes=capacity,
                created_ns=now_ns,
            )
        )
        self._descriptor, self._capacity, self._seed = descriptor, capacity, crc_seed(nonce)
        self.number, self.offset, self.crc, self._flushed_crc = number, RECORDS_START, 0, 0
        self._offsets = []
        self.preparation.begin(number + 1)

    def adopt_segment(self, header: SegmentHeader, descriptor: int, offset: int, crc: int, offsets: Items[int]) -> None:
        """Go on behind the records that recovery has just written to a new segment (STORE.md 1)."""
        self._descriptor, self._capacity, self._seed = descriptor, header.capacity_bytes, crc_seed(header.nonce)
        self._header = b""
        self.number, self.offset, self.crc, self._flushed_crc = header.number, offset, crc, crc
        self._offsets = list(offsets)
        self.preparation.begin(header.number + 1)

    def fits(self, body_bytes: int, payload_bytes: int) -> bool:
        """Whether one more record fits into the active segment beside its seal."""
        return body_bytes + payload_bytes + INDEX_ENTRY.size <= self.room_bytes

    @property
    def room_bytes(self) -> int:
        """What the active segment still takes, beside its seal, of bodies, payloads and entries of the index; each
        record that is added lowers it by its own bytes and by one entry."""
        taken = self.offset + len(self._buffer) + INDEX_ENTRY.size * len(self._offsets)
        return self._capacity - taken - _FIXED_BYTES

    @property
    def end(self) -> int:
        """Where the next record will begin."""
        return self.offset + len(self._buffer)

    @property
    def batch_bytes(self) -> int:
        """What waits for `flush`."""
        return len(self._buffer)

    def add(self, kind: RecordKind, sequence: int, body: bytes, payload: bytes | memoryview = b"") -> Place:
        """Append a record to the batch. The caller has asked `fits`. The place is final when the batch is flushed."""
        offset = self.offset + len(self._buffer)
        self.crc = append_record(
            self._buffer,
            seed=self._seed,
            previous_crc=self.crc,
            kind=kind,
            sequence=sequence,
            body=body,
            payload=payload,
        )
        self._offsets.append(offset)
        return Place(self.number, offset, HEAD_BYTES + len(body), len(payload))

    def batch_end(self) -> tuple[bytearray, list[int], int, int, int, int]:
        """For the kernel that appends records by itself: the batch and the offsets of the segment's records, both to be
        appended to; the seed of CRCs, number of the segment, where in it the batch begins, and how many bytes of body
        and payload of one record more it takes. `crc` is to be set when they were added."""
        buffer, offsets, offset = self._buffer, self._offsets, self.offset
        taken = offset + len(buffer) + INDEX_ENTRY.size * (len(offsets) + 1)
        return buffer, offsets, self._seed, self.number, offset, self._capacity - taken - _FIXED_BYTES

    def mark(self) -> Mark:
        return _MARK((len(self._buffer), self.crc, len(self._offsets)))

    def rewind(self, mark: Mark) -> None:
        """Drop what was added since `mark` (a refused operation; STORE.md 6)."""
        del self._buffer[mark.length :]
        del self._offsets[mark.records :]
        self.crc = mark.crc

    @property
    def records(self) -> int:
        """Records in the active segment, those of the batch included."""
        return len(self._offsets)

    def flush(self) -> None:
        """Write and sync the batch.

        Raises:
            OSError: nothing is known of the batch; the writer is spent (`failed` is set) and refuses every later flush.
        """
        if self.failed is not None:
            raise self.failed
        if not self._buffer:
            return
        try:
            if self._header:
                write_whole(self._files, self._descriptor, self._header + self._buffer, 0)
            else:
                write_whole(self._files, self._descriptor, self._buffer, self.offset)
            self._files.sync_data(self._descriptor)
        except OSError as error:
            self.failed = error
            raise
        self._header = b""
        self.offset += len(self._buffer)
        self._flushed_crc = self.crc
        self._buffer = bytearray()

    def rotate(self, now_ns: int, minimum_bytes: int = 0) -> None:
        """Seal the active segment and begin the next. Only between batches.

        Raises:
            OSError: the next segment could not be made (disk full): the active one stays. Or sealing failed:
            `failed` is set.
        """
        old_descriptor, old_number, old_end, old_capacity = self._descriptor, self.number, self.offset, self._capacity
        seal = bytearray()
        index = encode_index(self._offsets)
        append_record(
            seal,
            seed=self._seed,
            previous_crc=self.crc,
            kind=RecordKind.SEGMENT_SEALED,
            sequence=0,
            body=encode_body(SegmentSealed(records=len(self._offsets))),
            payload=index,
        )
        footer = encode_footer(SegmentFooter(old_number, old_end, len(self._offsets), old_end + len(seal)))
        if self._header:  # nothing was ever flushed here, but the chain of headers has to hold
            try:
                write_whole(self._files, old_descriptor, self._header, 0)
                self._files.sync_data(old_descriptor)
            except OSError as error:
                self.failed = error
                raise
        self._descriptor = -1
        try:
            self.start(old_number + 1, old_number, old_end, now_ns, minimum_bytes)
        except OSError:
            self._descriptor = old_descriptor
            raise
        try:
            write_whole(self._files, old_descriptor, seal, old_end)
            write_whole(self._files, old_descriptor, footer, old_capacity - FOOTER_BYTES)
        except OSError as error:
            self.failed = error
            raise
        finally:
            self._files.close(old_descriptor)

    def unlink_segments(self, numbers: tuple[int, ...]) -> None:
        """Remove files that compaction replaced; missing ones count as removed.

        Raises:
            OSError
        """
        for file_name, name in segment_names(self.path).items():
            if name.number in numbers:
                self._files.unlink(file_name, directory=self.directory)
        self._files.sync(self.directory)

    def close(self) -> None:
        """Close the files. The batch must have been flushed or is lost (it was never acknowledged)."""
        self.preparation.close()
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
            self._descriptor = -1
        if self.directory >= 0:
            self._files.close(self.directory)
            self.directory = -1
