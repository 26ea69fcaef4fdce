"""The catalog from the log alone: every segment replayed in order, by the same `apply` as a commit. STORE.md 7 and
8."""

from __future__ import annotations

import os
from itertools import pairwise

from rs3d.format.logsegment import COMPACTED, FOOTER_BYTES, RECORDS_START, SegmentFooter, decode_footer
from rs3d.format.record import RecordKind
from rs3d.format.recordbodies import SegmentsReplaced, decode_body
from rs3d.format.rows import LOG_DEAD, LOG_SEALED, LogSegmentRow
from rs3d.stores.catalogtables import Tables
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.stores.checkreport import Progress, no_progress
from rs3d.stores.logchain import LogDirectory, LogFile
from rs3d.stores.logreader import ScanEnd, scan_records
from rs3d.stores.replay import LastSegment, LostRecords, apply_segment, read_last


def replay_sealed(
    tables: Tables,
    directory: LogDirectory,
    lost: list[LostRecords] | None = None,
    progress: Progress = no_progress,
) -> tuple[int, LastSegment]:
    """Apply the whole log but the last segment's records, which are returned, to an empty catalog.

    Args:
        lost: go on where something is missing, and note it here; None: refuse.

    Raises:
        StoreDamaged: a segment is missing, or is invalid before its end.
    """
    files = files_in_order(directory, lost)
    applied = 0
    for at, (file, following) in enumerate(pairwise(files)):
        progress("log segments replayed", at, len(files))
        stop_offset = following.header.previous_end
        if file.is_run:
            footer = read_footer(directory, file)
            if footer is None and lost is None:
                raise directory.damaged(f"{file.file_name} has no seal")
            stop_offset = footer.seal_offset if footer is not None else file.header.capacity_bytes
            _announce_run(tables, file)
        elif following.header.previous_number != file.header.number:  # the one between is lost, and with it this end
            footer = read_footer(directory, file)
            stop_offset = footer.seal_offset if footer is not None else file.header.capacity_bytes
        applied += apply_segment(tables, directory, file, ScanEnd(RECORDS_START, 0, 0), stop_offset, lost)
    _note_replaced(tables, directory)
    progress("log segments replayed", len(files) - 1, len(files))
    return applied, read_last(directory, files[-1], ScanEnd(RECORDS_START, 0, 0))


def files_in_order(directory: LogDirectory, lost: list[LostRecords] | None = None) -> list[LogFile]:
    """The files that make up the log, in the order of their records: compacted runs in the place of their sources.

    Raises:
        StoreDamaged: one is missing.
    """
    replaced = replacements(directory)
    gone = {source for sources in replaced.values() for source in sources}
    files = [
        file
        for number, file in directory.segments.items()
        if number not in gone and (number in replaced or not file.is_run)
    ]
    files.sort(key=lambda file: file.header.first)
    previous = 0
    for file in files:
        if file.header.previous_number != previous:
            reason = f"the log between segment {previous} and segment {file.header.first} is missing"
            if lost is None:
                raise directory.damaged(reason)
            lost.append(LostRecords(0, 0, reason))
        previous = file.header.last
    if files and files[-1].is_run:
        raise directory.damaged("the log's last segment is missing")
    return files


def read_footer(directory: LogDirectory, file: LogFile) -> SegmentFooter | None:
    """The footer of a sealed segment; None when it has none."""
    descriptor = os.open(directory.path_of(file), os.O_RDONLY | os.O_CLOEXEC)
    try:
        return decode_footer(os.pread(descriptor, FOOTER_BYTES, file.header.capacity_bytes - FOOTER_BYTES))
    finally:
        os.close(descriptor)


def replacements(directory: LogDirectory) -> dict[int, tuple[int, ...]]:
    """Run by run: what it replaced, as the records SEGMENTS_REPLACED say. A run without one is a leftover (STORE.md
    3)."""
    runs = {number for number in directory.segments if number >= COMPACTED}
    if not runs:
        return {}
    found: dict[int, tuple[int, ...]] = {}
    for file in directory.segments.values():
        for record in scan_records(directory.path_of(file), file.header, ScanEnd(RECORDS_START, 0, 0)):
            if record.head.kind != RecordKind.SEGMENTS_REPLACED:
                continue
            body = decode_body(record.head.kind, record.body)
            if isinstance(body, SegmentsReplaced) and body.number in runs:
                found[body.number] = body.sources
    return found


def _note_replaced(tables: Tables, directory: LogDirectory) -> None:
    """Sources of runs that still lie on disk are dead: they get rows, so that they are dropped like others."""
    transaction = CatalogTransaction(tables)
    death = transaction.tail.sequence
    for sources in replacements(directory).values():
        for number in sources:
            file = directory.segments.get(number)
            if file is not None:
                header = file.header
                row = LogSegmentRow(LOG_DEAD, header.first, header.last, header.generation, 0, 0, 0, death, 0, 0)
                transaction.put_log_segment(number, row)
    transaction.commit()


def _announce_run(tables: Tables, file: LogFile) -> None:
    header = file.header
    transaction = CatalogTransaction(tables)
    row = LogSegmentRow(LOG_SEALED, header.first, header.last, header.generation, RECORDS_START, 0, 0, 0, 0, 0)
    transaction.put_log_segment(header.number, row)
    transaction.commit()
