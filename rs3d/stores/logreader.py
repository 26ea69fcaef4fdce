"""Reading the log: one record by position, or all from a position on. FORMAT.md sections "Log segment" and "Log
record".

A `LogReader` may be shared by threads; it keeps descriptors of segments open, so a replaced segment stays readable
while it is referred to. A read blocks where its pages are not in memory. The loop's thread reads inside `in_memory`:
there what is not in memory is an error, and whoever meets it asks again in a thread. Where the file system cannot tell
(it does not know RWF_NOWAIT), reads wait there too.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock, get_ident
from types import TracebackType
from typing import Final, NamedTuple

from rs3d.errors import RecordDamaged
from rs3d.format.logsegment import HEADER_BYTES, SegmentHeader, SegmentName, crc_seed, decode_header, parse_name
from rs3d.format.record import CHECKED_FROM, HEAD, HEAD_BYTES, RECORD_MAGIC, RecordHead, decode_head, is_valid
from rs3d.format.rows import Place
from rs3d.kernels.crc import crc32c
from rs3d.kernels.directio import pread_resident
from rs3d.stores.interfaces import TooLongForLoop
from rs3d.stores.payloadmending import mend_payload

DESCRIPTORS_LIMIT: Final = 256
"""Segments kept open; 256 × 64 MiB is more log than most stores ever have."""

SCAN_WINDOW_BYTES: Final = 4 << 20
RETIREMENT_S: Final = 60.0
"""Far longer than any single read."""

PAYLOAD_WITH_BODY_BYTES: Final = 16 << 10
"""Payloads up to this are read along with the body: a GET of a small object is one system call."""

_UNPACK_HEAD = HEAD.unpack_from
_NOTHING: Final[tuple[Place | None, bytes]] = (None, b"")


class ScannedRecord(NamedTuple):
    """A valid record met by a scan. `body` and `payload` are copies; the payload's own CRC has held as well."""

    head: RecordHead
    offset: int
    body: bytes
    payload: bytes


@dataclass(slots=True)
class ScanEnd:
    """Where a scan stopped: behind the last valid record."""

    offset: int
    crc: int
    records: int
    reason: str = ""


class _Segment(NamedTuple):
    descriptor: int
    seed: int


class InMemory:
    """Inside its `with`, reads of this thread raise TooLongForLoop instead of waiting for the disk. For one thread, the
    loop's, and not across an await. A class, because a generator made into one costs 2 µs."""

    __slots__ = ("thread",)

    def __init__(self) -> None:
        self.thread = 0
        """Which is inside; 0 when none is."""

    def __enter__(self) -> None:
        self.thread = get_ident()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thread = 0


class LogReader:
    """Positional reads from the segments below `log_path`."""

    def __init__(self, log_path: str, store_id: bytes) -> None:
        self._path = log_path
        self._store_id = store_id
        self._segments: dict[int, _Segment] = {}
        self._remembered = _NOTHING
        self._retired: list[tuple[float, int]] = []
        self._opening = Lock()
        self.in_memory = InMemory()
        self._can_tell = True
        """Whether the file system knows RWF_NOWAIT, as far as was seen."""
        self.on_mended: Callable[[Place], None] | None = None
        """Told of each payload that was damaged and handed out as its parity restored it; from any thread."""

    def read(self, place: Place) -> bytes:
        """Head and body of the record at `place`, checked; with its payload when that is small.

        Raises:
            RecordDamaged: the segment is missing, or the record fails its checks.
            TooLongForLoop: see `in_memory`; so do all that read.
        """
        segment = self._segments.get(place[0])
        if segment is None:
            segment = self._open(place[0])
        head_bytes = place[2]
        wanted = head_bytes + place[3] if place[3] <= PAYLOAD_WITH_BODY_BYTES else head_bytes
        try:
            raw = self._fetch(segment[0], wanted, place[1])
        except OSError as error:
            raise self._damaged(place, str(error)) from error
        if len(raw) != wanted or head_bytes < HEAD_BYTES:
            raise self._damaged(place, "the segment ends before it")
        magic, crc, _, _, _, _, body_bytes, payload_bytes, _, _ = _UNPACK_HEAD(raw)
        if magic != RECORD_MAGIC or HEAD_BYTES + body_bytes != head_bytes or payload_bytes != place[3]:
            raise self._damaged(place, "no such record begins here")
        if crc32c(raw[CHECKED_FROM:head_bytes], segment[1]) != crc:
            raise self._damaged(place, "its CRC does not hold")
        self._remembered = (place, raw)
        return raw

    def payload(self, place: Place) -> bytes:
        """The payload of the record at `place`, checked; restored where it is damaged and has parity.

        Raises:
            RecordDamaged
        """
        remembered, raw = self._remembered
        if remembered != place:
            raw = self.read(place)
        segment, offset, head_bytes, payload_bytes = place
        if len(raw) > head_bytes or not payload_bytes:
            payload = raw[head_bytes:]
        else:
            payload = self._pread(segment, payload_bytes, offset + head_bytes)
        # `read` has checked the head.
        if len(payload) != payload_bytes or crc32c(payload) != _UNPACK_HEAD(raw)[8]:
            mended = mend_payload(raw[:head_bytes], payload)
            if mended is None:
                raise self._damaged(place, "the CRC of its payload does not hold")
            if self.on_mended is not None:
                self.on_mended(place)
            return mended
        return payload

    def payload_crc(self, place: Place) -> int:
        """The CRC32C that the payload of the record at `place` has to have.

        Raises:
            RecordDamaged
        """
        remembered, raw = self._remembered
        crc: int = _UNPACK_HEAD(raw if remembered is place else self.read(place))[8]
        return crc

    def known_payload(self, place: Place, crc: int) -> bytes | None:
        """The payload of a record whose head was read before, checked against the head's CRC; None when its segment is
        not open any more, or the check fails: `payload` has the words for that.

        Raises:
            TooLongForLoop
        """
        segment = self._segments.get(place[0])
        if segment is None:
            return None
        remembered, raw = self._remembered
        if remembered is place and len(raw) > place[2]:  # read a moment ago; the next time it is read again
            self._remembered = _NOTHING
            payload = raw[place[2] :]
        else:
            payload = self._fetch(segment[0], place[3], place[1] + place[2])
        return payload if len(payload) == place[3] and crc32c(payload) == crc else None

    def place_of(self, segment: int, offset: int) -> Place:
        """The place of the record that begins at `offset`, from its head.

        Raises:
            RecordDamaged: no head is there.
        """
        remembered = self._remembered[0]
        if remembered is not None and remembered[0] == segment and remembered[1] == offset:
            return remembered
        head = decode_head(self._pread(segment, HEAD_BYTES, offset))
        if head is None:
            raise self._damaged(Place(segment, offset, 0, 0), "no record begins here")
        return Place(segment, offset, HEAD_BYTES + head.body_bytes, head.payload_bytes)

    def close(self) -> None:
        """Close all descriptors; the reader opens them again when it is used again."""
        segments, self._segments = self._segments, {}
        for segment in segments.values():
            os.close(segment.descriptor)
        retired, self._retired = self._retired, []
        for _, descriptor in retired:
            os.close(descriptor)
        self._remembered = _NOTHING

    def release_unlinked(self) -> None:
        """Let go of segments that compaction replaced and that were unlinked: their blocks are freed only then."""
        now_s = time.monotonic()
        for number, segment in list(self._segments.items()):
            if os.fstat(segment.descriptor).st_nlink == 0:
                self._retire(number, now_s)
        while self._retired and now_s - self._retired[0][0] > RETIREMENT_S:
            os.close(self._retired.pop(0)[1])

    def _retire(self, number: int, now_s: float) -> None:
        """Use a descriptor no more; it is closed later, when no read of another thread can be in the middle of it."""
        segment = self._segments.pop(number, None)
        if segment is not None:
            self._retired.append((now_s, segment.descriptor))

    def _pread(self, number: int, length: int, offset: int) -> bytes:
        segment = self._segments.get(number)
        if segment is None:
            segment = self._open(number)
        try:
            return self._fetch(segment.descriptor, length, offset)
        except OSError as error:
            raise self._damaged(Place(number, offset, 0, 0), str(error)) from error

    def _fetch(self, descriptor: int, length: int, offset: int) -> bytes:
        """As os.pread. Raises OSError, TooLongForLoop."""
        if self.in_memory.thread == get_ident() and self._can_tell:
            try:
                found = pread_resident(descriptor, length, offset)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                self._can_tell = False
            else:
                if found is None:
                    raise TooLongForLoop("a record of the log is not in memory")
                return found
        return os.pread(descriptor, length, offset)

    def _open(self, number: int) -> _Segment:
        if self.in_memory.thread == get_ident():
            raise TooLongForLoop(f"log segment {number} is not open")
        with self._opening:
            return self._segments.get(number) or self._opened(number)

    def _opened(self, number: int) -> _Segment:
        place = Place(number, 0, 0, 0)
        names = {name.number: text for text, name in segment_names(self._path).items()}
        if number not in names:
            raise self._damaged(place, "there is no such segment")
        try:
            descriptor = os.open(os.path.join(self._path, names[number]), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise self._damaged(place, str(error)) from error
        try:
            header = decode_header(os.pread(descriptor, HEADER_BYTES, 0))
        except (OSError, ValueError) as error:
            os.close(descriptor)
            raise self._damaged(place, str(error)) from error
        if header.store_id != self._store_id or header.number != number:
            os.close(descriptor)
            raise self._damaged(place, "the file belongs to another store or segment")
        if len(self._segments) >= DESCRIPTORS_LIMIT:
            self._retire(next(iter(self._segments)), time.monotonic())
        self.release_unlinked()
        segment = self._segments[number] = _Segment(descriptor, crc_seed(header.nonce))
        return segment

    def _damaged(self, place: Place, reason: str) -> RecordDamaged:
        return RecordDamaged(what=f"log segment {place.segment}, record at {place.offset}", reason=reason)


def segment_names(log_path: str) -> dict[str, SegmentName]:
    """The files in log/ that have a segment's name, by name."""
    found = {}
    for text in os.listdir(log_path):
        name = parse_name(text)
        if name is not None:
            found[text] = name
    return found


def read_header(path: str) -> SegmentHeader | None:
    """The header of the segment at `path`; None when its first bytes are all zero (prepared, never used).

    Raises:
        ValueError: anything else that is no header.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        raw = os.pread(descriptor, HEADER_BYTES, 0)
    finally:
        os.close(descriptor)
    return None if not any(raw) else decode_header(raw)


def scan_records(
    path: str,
    header: SegmentHeader,
    start: ScanEnd,
    stop_offset: int | None = None,
    on_mended: Callable[[int], None] | None = None,
) -> Iterator[ScannedRecord]:
    """Valid records of one segment in order, each chained to the one before; `start` moves along and tells the end.

    Args:
        start: where to begin and the CRC of the record before; updated behind each record before it is yielded.
        stop_offset: where the segment ends as its successor says; None for the last one, which ends at the first
        invalid record.
        on_mended: told the offset of each record whose payload was damaged and is yielded as its parity restored it;
        without it, such a record ends the scan.

    The scan ends without an error: the caller compares `start.offset` with what it expects; `start.reason` says why
    it ended.
    """
    seed = crc_seed(header.nonce)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        window, window_offset = b"", start.offset
        while stop_offset is None or start.offset < stop_offset:
            skip = start.offset - window_offset
            head = decode_head(window, skip)
            needed = HEAD_BYTES if head is None else HEAD_BYTES + head.body_bytes + head.payload_bytes
            if len(window) - skip < needed:
                window_offset, skip = start.offset, 0
                window = os.pread(descriptor, max(SCAN_WINDOW_BYTES, needed), window_offset)
                head = decode_head(window)
            problem = _problem(head, window, skip, seed, start.crc)
            if head is None or problem:
                start.reason = problem
                return
            body_start = skip + HEAD_BYTES
            payload_start = body_start + head.body_bytes
            body = window[body_start:payload_start]
            payload = window[payload_start : payload_start + head.payload_bytes]
            if head.payload_bytes and crc32c(payload) != head.payload_crc:
                mended = None if on_mended is None else mend_payload(window[skip:payload_start], payload)
                if mended is None or on_mended is None:
                    start.reason = "the CRC of a payload does not hold"
                    return
                payload = mended
                on_mended(start.offset)
            offset = start.offset
            start.offset, start.crc, start.records = offset + head.total_bytes, head.crc, start.records + 1
            yield ScannedRecord(head, offset, body, payload)
        start.reason = "the end that the next segment names"
    finally:
        os.close(descriptor)


def _problem(head: RecordHead | None, window: bytes, skip: int, seed: int, previous_crc: int) -> str:
    if head is None:
        return "no record" if any(window[skip : skip + HEAD_BYTES]) else "zeros"
    if head.previous_crc != previous_crc:
        return "a record does not follow the one before it"
    if len(window) - skip < HEAD_BYTES + head.body_bytes + head.payload_bytes:
        return "the file ends within a record"
    if not is_valid(head, memoryview(window)[skip:], seed):
        return "the CRC of a record does not hold"
    return ""
