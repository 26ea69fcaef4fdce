"""Opening a log: check the chain of segments, roll the catalog forward, begin a new segment. STORE.md 1, 2, 6 and 7.

Segments are never reopened: each opening begins a new one behind the last valid record. Records that are valid but
beyond the catalog's tail may lie in the page cache only (their sync failed, or nobody knows): they are copied into
the new segment, which is synced and named before they are applied. Blocks.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from typing import Final

from rs3d.errors import FormatUnknown
from rs3d.format.logsegment import (
    COMPACTED,
    NONCE_BYTES,
    RECORDS_START,
    SegmentHeader,
    crc_seed,
    encode_header,
    segment_name,
)
from rs3d.format.record import append_record
from rs3d.format.rows import LOG_DEAD, LOG_REPLACED, LOG_SEALED, LOG_SEGMENT, TAIL, LogSegmentRow, Tail
from rs3d.kernels import posix
from rs3d.stores.catalogapply import Applicable
from rs3d.stores.catalogstate import sweep_again
from rs3d.stores.catalogtables import Tables
from rs3d.stores.catalogwriter import STORE_KEY, TAIL_KEY, CatalogTransaction
from rs3d.stores.checkreport import Progress, no_progress
from rs3d.stores.files import Files, read_whole, write_whole
from rs3d.stores.log import LogWriter
from rs3d.stores.logchain import LogDirectory, LogFile, read_directory
from rs3d.stores.logreader import ScanEnd, scan_records
from rs3d.stores.rebuild import read_footer, replacements, replay_sealed
from rs3d.stores.replay import LastSegment, Loss, LostRecords, applicable, apply_all, apply_segment, reaches, read_last
from rs3d.types.identifiers import Sequence

_SEAL_ROOM_BYTES: Final = 64 << 10
"""Beside the records that were copied, and an eighth of them for their index: room for header, seal and footer."""


PAGE_BYTES: Final = 4096
"""What holes are made of."""

REBUILDING_KEY: Final = b"rebuilding"
"""Row of table `state` while the catalog is being rebuilt."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What opening found and did."""

    last_sequence: Sequence
    """The highest that was ever seen, the dropped tail included."""
    applied: int
    dropped_bytes: int
    lost: tuple[LostRecords, ...] = ()
    """What a rebuild that accepts loss had to do without."""


def open_log(
    tables: Tables,
    log: LogWriter,
    log_path: str,
    store_id: bytes,
    files: Files,
    now_ns: int,
    loss: Loss = Loss.REFUSE,
    progress: Progress = no_progress,
) -> Recovered:
    """Bring the catalog up to the log's last valid record and make `log` ready to append. `progress` hears of a
    rebuild.

    Raises:
        StoreDamaged: a segment is missing, or a record before the log's tail is invalid; it names the command to run.
        FormatUnknown: the catalog belongs to another store.
    """
    remove_leftovers(log, files)
    directory = read_directory(log_path, store_id)
    tail = _check_catalog(tables, directory, store_id)
    applied = 0
    lost: list[LostRecords] = []
    rebuilds = tail.segment == 0 and bool(directory.segments)
    if rebuilds:
        _mark_rebuilding(tables, Rebuilding.BEGUN)
        applied, last = replay_sealed(tables, directory, lost if loss is Loss.ACCEPT else None, progress)
    else:
        applied, last = _roll_forward(tables, directory, tail)
    for number in directory.broken:
        # A header that never became durable: nothing in that segment was acknowledged.
        if last.number < number < COMPACTED:
            files.unlink(segment_name(number), directory=log.directory)
    unknown = _runs_without_row(tables, directory)
    replacing = replacements(directory) if unknown else {}
    for run in unknown:
        if run.header.number not in replacing:  # no record `segments replaced` tells of it (STORE.md 3)
            files.unlink(run.file_name, directory=log.directory)
    if last.number and last.end == RECORDS_START:
        _make_header_durable(log, files, directory.segments[last.number].file_name)
    number = max(last.number, _highest_used(directory)) + 1
    if last.survivors:
        _copy_survivors(tables, log, files, last, number, store_id, now_ns)
        applied += len(last.survivors)
    else:
        log.start(number, last.number, last.end, now_ns)
    for run in unknown:
        if run.header.number in replacing:
            _adopt_run(tables, directory, run)
    if last.number:
        _release_rest(directory, directory.segments[last.number], last.end)
    if rebuilds:
        if any(file.is_run for file in directory.segments.values()):
            _sweep_again(tables)
        _mark_rebuilding(tables, Rebuilding.ENDED)
    with tables.environment.begin() as view:
        value = view.get(TAIL_KEY, db=tables.state.handle)
    tail_sequence = 0 if value is None else Tail(*TAIL.unpack(tables.state.unseal(TAIL_KEY, value))).sequence
    last_sequence = max(tail_sequence, last.dropped_sequence)
    return Recovered(Sequence(last_sequence), applied, last.dropped_bytes, tuple(lost))


def _make_header_durable(log: LogWriter, files: Files, file_name: str) -> None:
    """Nothing of this segment is in the catalog, so even its header may lie in the page cache only; the next segment's
    header is about to name it. Written again, for a page whose sync failed once counts as clean."""
    descriptor = files.open_for_writing(file_name, directory=log.directory)
    try:
        header = bytearray(RECORDS_START)
        read_whole(files, descriptor, memoryview(header), 0)
        write_whole(files, descriptor, header, 0)
        files.sync_data(descriptor)
    finally:
        files.close(descriptor)


def remove_leftovers(log: LogWriter, files: Files) -> None:
    """Files that were never given their name."""
    for name in files.names(log.directory):
        if name.endswith(".tmp"):
            files.unlink(name, directory=log.directory)


def _runs_without_row(tables: Tables, directory: LogDirectory) -> list[LogFile]:
    """Runs that the catalog does not know: of a compaction that did not come to its record, or whose record the catalog
    had not applied."""
    with tables.environment.begin() as view:
        keys = view.cursor(db=tables.log_segments.handle).iternext(values=False)
        known = {int.from_bytes(key, "big") for key in keys}
    return [file for number, file in directory.segments.items() if file.is_run and number not in known]


def _adopt_run(tables: Tables, directory: LogDirectory, file: LogFile) -> None:
    """Give a run the row that its compaction would have given it. Its record has been applied, and is durable: the
    sources are waiting for their positions to be moved (`unfinished_moves`), and would be lost without the run.

    Raises:
        StoreDamaged: it does not hold what its footer tells.
    """
    footer = read_footer(directory, file)
    position = ScanEnd(RECORDS_START, 0, 0)
    stop_offset = footer.seal_offset if footer is not None else file.header.capacity_bytes
    heads = [record.head for record in scan_records(directory.path_of(file), file.header, position, stop_offset)]
    if footer is None or position.offset != stop_offset or len(heads) != footer.record_count:
        raise directory.damaged(f"{file.file_name} at offset {position.offset}: {position.reason or 'has no seal'}")
    header = file.header
    row = LogSegmentRow(
        LOG_SEALED,
        header.first,
        header.last,
        header.generation,
        stop_offset,
        len(heads),
        heads[0].sequence if heads else 0,
        heads[-1].sequence if heads else 0,
        sum(head.total_bytes for head in heads),
        0,
    )
    transaction = CatalogTransaction(tables)
    transaction.put_log_segment(header.number, row)
    transaction.commit()


def _highest_used(directory: LogDirectory) -> int:
    return max([0, *(n for n in directory.segments if n < COMPACTED), *(n for n in directory.broken if n < COMPACTED)])


def _release_rest(directory: LogDirectory, file: LogFile, end: int) -> None:
    """Give back the blocks behind a segment's end: it was prepared for more, and nothing is ever written to it again.
    Its length stays. What was valid there has been copied, and is durable, by now."""
    begin = (end + PAGE_BYTES - 1) & -PAGE_BYTES
    length = file.header.capacity_bytes - begin
    if length <= 0:
        return
    descriptor = os.open(directory.path_of(file), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        posix.fallocate(descriptor, posix.FALLOC_FL_PUNCH_HOLE | posix.FALLOC_FL_KEEP_SIZE, begin, length)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


class Rebuilding(Enum):
    """A catalog that is being rebuilt is marked, so that a crash meanwhile does not leave half of one."""

    BEGUN = "begun"
    ENDED = "ended"


def _sweep_again(tables: Tables) -> None:
    transaction = CatalogTransaction(tables)
    sweep_again(transaction)
    transaction.commit()


def _mark_rebuilding(tables: Tables, state: Rebuilding) -> None:
    transaction = CatalogTransaction(tables)
    if state is Rebuilding.BEGUN:
        transaction.put(tables.state, REBUILDING_KEY, b"")
    else:
        transaction.delete(tables.state, REBUILDING_KEY)
    transaction.commit()


def _clear_unfinished(tables: Tables) -> None:
    """Empty a catalog whose rebuild did not end: the next one begins anew."""
    with tables.environment.begin(write=True) as transaction:
        if transaction.get(REBUILDING_KEY, db=tables.state.handle) is not None:
            for table in tables.all:
                transaction.drop(table.handle, delete=False)


def _check_catalog(tables: Tables, directory: LogDirectory, store_id: bytes) -> Tail:
    """The catalog's tail; every segment that the catalog knows is there.

    Raises:
        StoreDamaged, FormatUnknown
    """
    _clear_unfinished(tables)
    transaction = CatalogTransaction(tables)
    try:
        known = transaction.get(tables.state, STORE_KEY)
        if known is None:
            transaction.put(tables.state, STORE_KEY, store_id)
        elif known != store_id:
            raise FormatUnknown(what="the catalog", reason="belongs to another store")
        tail = transaction.tail
        for key, value in transaction.scan(tables.log_segments, b""):
            number = int.from_bytes(key, "big")
            row = LogSegmentRow(*LOG_SEGMENT.unpack(value))
            if row.state not in (LOG_REPLACED, LOG_DEAD) and number not in directory.segments:
                raise directory.damaged(
                    f"log segment {number} is missing or has no header: "
                    f"sequences {row.first_sequence} to {row.last_sequence}"
                )
    except BaseException:
        transaction.abort()
        raise
    transaction.commit()
    return tail


def _roll_forward(tables: Tables, directory: LogDirectory, tail: Tail) -> tuple[int, LastSegment]:
    """Apply in place what lies beyond the tail in segments that have a successor; return the last one's survivors."""
    if tail.segment == 0:
        return 0, LastSegment(0, 0, [], 0, 0)
    file = directory.segments[tail.segment]
    if not reaches(directory, file, tail.offset, tail.crc):
        raise directory.damaged(f"log segment {tail.segment} ends before offset {tail.offset}, which the catalog knows")
    start = ScanEnd(tail.offset, tail.crc, tail.records)
    applied = 0
    visited = {file.header.number}
    while True:
        successor = directory.successor(file.header.number)
        if successor is None:
            break
        applied += apply_segment(tables, directory, file, start, successor.header.previous_end)
        file, start = successor, ScanEnd(RECORDS_START, 0, 0)
        visited.add(file.header.number)
    for number in directory.segments:
        if tail.segment < number < COMPACTED and number not in visited:
            raise directory.damaged(f"log segment {number} does not follow any other")
    return applied, read_last(directory, file, start)


def _copy_survivors(
    tables: Tables, log: LogWriter, files: Files, last: LastSegment, number: int, store_id: bytes, now_ns: int
) -> None:
    """Write the surviving tail to a new segment, make it durable, then apply it (STORE.md 1)."""
    needed = sum(record.head.total_bytes for record in last.survivors)
    capacity = max(log.preparation.segment_bytes, (needed + needed // 8 + _SEAL_ROOM_BYTES + 4095) & -4096)
    header = SegmentHeader(
        store_id=store_id,
        number=number,
        first=number,
        last=number,
        generation=0,
        nonce=os.urandom(NONCE_BYTES),
        previous_number=last.number,
        previous_end=last.end,
        capacity_bytes=capacity,
        created_ns=now_ns,
    )
    buffer = bytearray(encode_header(header))
    seed, crc = crc_seed(header.nonce), 0
    copies: list[Applicable] = []
    for record in last.survivors:
        offset = len(buffer)
        crc = append_record(
            buffer,
            seed=seed,
            previous_crc=crc,
            kind=record.head.kind,
            sequence=record.head.sequence,
            body=record.body,
            payload=record.payload,
        )
        moved = record._replace(head=record.head._replace(crc=crc), offset=offset)
        copies.append(applicable(number, moved))
    temporary = f"{number:010d}.tmp"
    descriptor = files.create(temporary, directory=log.directory)
    try:
        zeros = bytes(1 << 20)
        for offset in range(0, capacity, len(zeros)):
            write_whole(files, descriptor, memoryview(zeros)[: capacity - offset], offset)
        write_whole(files, descriptor, buffer, 0)
        files.sync_data(descriptor)
        files.rename(temporary, segment_name(number), source_directory=log.directory, target_directory=log.directory)
        files.sync(log.directory)
    except OSError:
        files.close(descriptor)
        raise
    apply_all(tables, copies)
    log.adopt_segment(header, descriptor, len(buffer), crc, [copy.place.offset for copy in copies])
