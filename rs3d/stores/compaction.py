"""Rewriting a run of sealed log segments without what is dead in it. STORE.md 3; FORMAT.md section "Compaction".

The work is a generator of bounded steps, run by the committer between batches: choose, write
`log/<first>-<last>.<generation>.meta`, read it back, log
`segments replaced`, move the catalog's positions (at most 1,000 a transaction, each only if the row still holds the
old one). The sources stay on disk as garbage until `DropLogSegments`. A crash before `segments replaced` leaves a
file that the next opener removes; after it, opening goes on with the positions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from rs3d.errors import InvalidArgument, RecordDamaged
from rs3d.format import recordbodies as bodies
from rs3d.format.logsegment import (
    COMPACTED,
    FOOTER_BYTES,
    NONCE_BYTES,
    RECORDS_START,
    SegmentFooter,
    SegmentHeader,
    crc_seed,
    encode_footer,
    encode_header,
    encode_index,
    run_name,
)
from rs3d.format.record import HEAD_BYTES, RecordKind, append_record
from rs3d.format.recordbodies import SegmentSealed, encode_body
from rs3d.format.rows import (
    LOG_DEAD,
    LOG_SEALED,
    ORIGIN,
    LogSegmentRow,
    Place,
)
from rs3d.stores.catalogreferences import record_total
from rs3d.stores.catalogstate import CURSOR_DECODER
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.stores.committer import CommitterCore
from rs3d.stores.compactionchoice import (
    Kept,
    SegmentUse,
    Survival,
    choose_run,
    next_generation,
    sealed_segments,
)
from rs3d.stores.compactionmoves import STEP_RECORDS, Move, commit_moves, retire
from rs3d.stores.files import Files, write_whole
from rs3d.stores.logchain import LogDirectory, LogFile, read_directory
from rs3d.stores.logreader import ScanEnd, ScannedRecord, scan_records
from rs3d.stores.replay import applicable
from rs3d.types.identifiers import Sequence

STEP_BYTES: Final = 2 << 20


@dataclass(slots=True)
class Compacted:
    """What a compaction did, filled in as it goes on."""

    sources: tuple[int, ...] = ()
    number: int = 0
    source_bytes: int = 0
    kept_bytes: int = 0
    moved: int = 0
    sequence: int = 0


@dataclass(slots=True)
class _NewSegment:
    """The file being written."""

    header: SegmentHeader
    descriptor: int
    temporary: str
    buffer: bytearray
    offset: int = 0
    crc: int = 0
    offsets: list[int] = field(default_factory=list)
    first_sequence: int = 0
    last_sequence: int = 0


def compact(core: CommitterCore, *, first: int, last: int, result: Compacted) -> Iterator[None]:
    """Compact one run, yielding between steps of a few milliseconds (syncs apart). `result` tells what was done.

    Raises:
        InvalidArgument: the segments asked for are not sealed neighbours.
        RecordDamaged: a source fails its checks; nothing was changed.
        OSError: the new file could not be written; it was removed.
    """
    t = CatalogTransaction(core.tables)
    try:
        segments = sealed_segments(t)
        floors = [
            CURSOR_DECODER.decode(memoryview(value)[ORIGIN.size :]).sequence
            for _, value in t.scan(t.tables.cursors, b"")
        ]
        run = choose_run(segments, first, last, min(floors, default=None), core.settled_runs)
        known = [int.from_bytes(key, "big") for key, _ in t.scan(t.tables.log_segments, b"")]
        dead = [number for number in known if (row := t.log_segment(number)) is not None and row.state == LOG_DEAD]
    finally:
        t.abort()
    if first and not run:
        raise InvalidArgument(
            name="segments", value=f"{first}-{last}", reason="are not sealed, or a consumer needs them"
        )
    if not run:
        return
    files = core.log.files
    directory = read_directory(core.log.path, core.log.store_id)
    generation = next_generation([*known, *directory.segments, *directory.broken])
    between = [*_without_records(directory, known, run), *_replaced_before(directory, dead, run)]
    writer = _begin(core, directory, files, run, generation)
    begins_at_oldest = run[0].number == segments[0].number
    moves: list[Move] = []
    finished = False
    try:
        for use in run:
            yield from _rewrite_source(core, directory, files, use, run, writer, moves, begins_at_oldest)
        _finish(core, files, directory, writer, moves)
        finished = True
    finally:
        files.close(writer.descriptor)
        if not finished:
            files.unlink(writer.temporary, directory=core.log.directory)
    yield
    result.sources = (*(use.number for use in run), *between)
    result.number = writer.header.number
    result.source_bytes = sum(use.row.record_bytes for use in run)
    result.kept_bytes = sum(record_total(move.place.head_bytes, move.place.payload_bytes) for move in moves)
    result.sequence = _log_replacement(core, writer, result, len(moves))
    yield
    for start in range(0, len(moves), STEP_RECORDS):
        step = moves[start : start + STEP_RECORDS]
        commit_moves(core, step)
        result.moved += len(step)
        yield
    retire(core, result.sources)
    _settle(core, result)


def _settle(core: CommitterCore, result: Compacted) -> None:
    """Remember what of the new run is live, for the next choice."""
    for number in result.sources:
        core.settled_runs.pop(number, None)
    t = CatalogTransaction(core.tables)
    try:
        row = t.log_segment(result.number)
    finally:
        t.abort()
    if row is not None:
        core.settled_runs[result.number] = row.live_bytes


def _begin(
    core: CommitterCore, directory: LogDirectory, files: Files, run: list[SegmentUse], generation: int
) -> _NewSegment:
    for use in run:
        if use.number not in directory.segments:
            raise directory.damaged(f"log segment {use.number} is missing")
    oldest = directory.segments[run[0].number].header
    header = SegmentHeader(
        store_id=oldest.store_id,
        number=COMPACTED | generation,
        first=run[0].row.first,
        last=run[-1].row.last,
        generation=generation,
        nonce=os.urandom(NONCE_BYTES),
        previous_number=oldest.previous_number,
        previous_end=oldest.previous_end,
        capacity_bytes=0,
        created_ns=core.clock.now_ns(),
    )
    temporary = run_name(header.first, header.last, generation).replace(".meta", ".tmp")
    descriptor = files.create(temporary, directory=core.log.directory)
    return _NewSegment(header, descriptor, temporary, bytearray(), offset=RECORDS_START)


def _rewrite_source(
    core: CommitterCore,
    directory: LogDirectory,
    files: Files,
    use: SegmentUse,
    run: list[SegmentUse],
    writer: _NewSegment,
    moves: list[Move],
    begins_at_oldest: bool,
) -> Iterator[None]:
    """Append what survives of one source; a step is some records or some MiB."""
    file: LogFile = directory.segments[use.number]
    start = ScanEnd(RECORDS_START, 0, 0)
    # A payload that its parity restores goes on as it was written: that is how the log is mended.
    records = scan_records(directory.path_of(file), file.header, start, use.row.end_offset, lambda offset: None)
    exhausted = False
    while not exhausted:
        t = CatalogTransaction(core.tables)
        try:
            survival = Survival(t, begins_at_oldest=begins_at_oldest, replaced=[member.number for member in run])
            exhausted = _rewrite_some(records, use.number, survival, writer, moves)
        finally:
            t.abort()
        _write_out(files, writer)
        yield
    if start.offset != use.row.end_offset:
        raise RecordDamaged(what=f"log segment {use.number} at offset {start.offset}", reason=start.reason)


def _rewrite_some(
    records: Iterator[ScannedRecord], number: int, survival: Survival, writer: _NewSegment, moves: list[Move]
) -> bool:
    """Returns whether the source is exhausted."""
    for count, scanned in enumerate(records, 1):
        record = applicable(number, scanned)
        kept = survival.of(record)
        if kept is not None:
            place = _append(writer, record.sequence, kept)
            moves.append(Move(record._replace(payload=b""), place))
        if count >= STEP_RECORDS or len(writer.buffer) >= STEP_BYTES:
            return False
    return True


def _append(writer: _NewSegment, sequence: int, kept: Kept) -> Place:
    body = encode_body(kept.body)
    offset = writer.offset + len(writer.buffer)
    writer.crc = append_record(
        writer.buffer,
        seed=crc_seed(writer.header.nonce),
        previous_crc=writer.crc,
        kind=kept.kind,
        sequence=sequence,
        body=body,
        payload=kept.payload,
    )
    writer.offsets.append(offset)
    writer.first_sequence = writer.first_sequence or sequence
    writer.last_sequence = sequence
    return Place(writer.header.number, offset, HEAD_BYTES + len(body), len(kept.payload))


def _write_out(files: Files, writer: _NewSegment) -> None:
    """Write what was gathered and sync it, so that no single sync is long."""
    if writer.buffer:
        write_whole(files, writer.descriptor, writer.buffer, writer.offset)
        files.sync_data(writer.descriptor)
        writer.offset += len(writer.buffer)
        writer.buffer = bytearray()


def _finish(core: CommitterCore, files: Files, directory: LogDirectory, writer: _NewSegment, moves: list[Move]) -> None:
    """Seal, write the header, sync, read all of it back, give it its name."""
    end = writer.offset
    count = len(writer.offsets)
    append_record(
        writer.buffer,
        seed=crc_seed(writer.header.nonce),
        previous_crc=writer.crc,
        kind=RecordKind.SEGMENT_SEALED,
        sequence=0,
        body=encode_body(SegmentSealed(records=count)),
        payload=encode_index(writer.offsets),
    )
    sealed_end = end + len(writer.buffer)
    writer.buffer += encode_footer(SegmentFooter(writer.header.number, end, count, sealed_end))
    capacity = sealed_end + FOOTER_BYTES
    header = SegmentHeader(
        store_id=writer.header.store_id,
        number=writer.header.number,
        first=writer.header.first,
        last=writer.header.last,
        generation=writer.header.generation,
        nonce=writer.header.nonce,
        previous_number=writer.header.previous_number,
        previous_end=writer.header.previous_end,
        capacity_bytes=capacity,
        created_ns=writer.header.created_ns,
    )
    write_whole(files, writer.descriptor, encode_header(header), 0)
    _write_out(files, writer)
    position = ScanEnd(RECORDS_START, 0, 0)
    path = os.path.join(directory.path, writer.temporary)
    read_back = sum(1 for _ in scan_records(path, header, position, end))
    if read_back != count or position.offset != end or count != len(moves):
        raise RecordDamaged(what=writer.temporary, reason=f"does not read back: {position.reason}")
    name = run_name(header.first, header.last, header.generation)
    files.rename(writer.temporary, name, source_directory=core.log.directory, target_directory=core.log.directory)
    files.sync(core.log.directory)
    writer.offset = end


def _without_records(directory: LogDirectory, known: list[int], run: list[SegmentUse]) -> list[int]:
    """Segments between those of the run that have no row: an opening began them, and no record came, or a later opening
    copied what came to the next one. The run stands in their place as well."""
    first, last = run[0].row.first, run[-1].row.last
    return [number for number in directory.segments if first < number < last and number not in known]


def _replaced_before(directory: LogDirectory, dead: list[int], run: list[SegmentUse]) -> list[int]:
    """Segments in the range that an earlier run replaced and that nobody has unlinked yet. The record that says so
    is rewritten with the run and dropped, as the earlier run goes too: from here on this run's record says it, or a
    rebuild from what is on disk would take them for part of the log."""
    first, last = run[0].row.first, run[-1].row.last
    members = {use.number for use in run}
    return [
        number
        for number in dead
        if number not in members
        and (file := directory.segments.get(number)) is not None
        and first <= file.header.first
        and file.header.last <= last
    ]


def _log_replacement(core: CommitterCore, writer: _NewSegment, result: Compacted, records: int) -> Sequence:
    header = writer.header
    row = LogSegmentRow(
        LOG_SEALED,
        header.first,
        header.last,
        header.generation,
        writer.offset,
        records,
        writer.first_sequence,
        writer.last_sequence,
        result.kept_bytes,
        0,
    )
    body = bodies.SegmentsReplaced(number=header.number, sources=result.sources)
    return core.commit_record(
        RecordKind.SEGMENTS_REPLACED, body, lambda transaction: transaction.put_log_segment(header.number, row)
    )
