"""Checking the log: the chain of segments, and every record of every segment with its payload."""

from __future__ import annotations

import os
from typing import Final

from rs3d.errors import StoreDamaged
from rs3d.format.logsegment import COMPACTED, RECORDS_START
from rs3d.format.record import RecordKind
from rs3d.format.recordbodies import decode_body
from rs3d.format.rows import Tail
from rs3d.stores.checkreport import CheckReport, Progress, Severity
from rs3d.stores.logchain import LogDirectory, LogFile, read_directory
from rs3d.stores.logreader import ScanEnd, scan_records
from rs3d.stores.rebuild import files_in_order, read_footer

RESTORE: Final = "restore the segment from a backup or a replica; keep the catalog, which knows what the log lost"


def check_log(root: str, store_id: bytes, tail: Tail, report: CheckReport, progress: Progress) -> bool:
    """Read all of the log.

    Args:
        tail: what the catalog has applied; `Tail(0, …)` when there is no catalog.

    Returns:
        Whether the catalog has applied all of it: False makes judgements on files without a row impossible.

    Blocking: as long as reading the whole log takes.
    """
    log_path = os.path.join(root, "log")
    try:
        directory = read_directory(log_path, store_id)
        files = files_in_order(directory)
    except StoreDamaged as damage:
        report.add(Severity.ERROR, "log/", damage.reason, damage.command)
        return False
    for number, reason in directory.broken.items():
        last = max((file.header.number for file in files if not file.is_run), default=0)
        severity = Severity.INFO if last < number < COMPACTED else Severity.ERROR
        report.add(severity, f"log/ segment {number}", reason, "" if severity is Severity.INFO else RESTORE)
    _report_strangers(directory, log_path, report)
    for at, file in enumerate(files):
        progress("log segments", at, len(files))
        following = files[at + 1] if at + 1 < len(files) else None
        _check_segment(directory, file, following, tail, report)
    progress("log segments", len(files), len(files))
    if report.records_beyond_catalog:
        reason = f"{report.records_beyond_catalog} records are not yet in the catalog: the next opening applies them"
        report.add(Severity.INFO, "catalog/", reason)
    return not report.records_beyond_catalog


def _check_segment(
    directory: LogDirectory, file: LogFile, following: LogFile | None, tail: Tail, report: CheckReport
) -> None:
    stop_offset = None if following is None else following.header.previous_end
    if file.is_run:
        footer = read_footer(directory, file)
        stop_offset = None if footer is None else footer.seal_offset
        if footer is None:
            report.add(Severity.ERROR, f"log/{file.file_name}", "a compacted run without its seal", RESTORE)
    scan = ScanEnd(RECORDS_START, 0, 0)
    report.log_segments += 1
    for record in scan_records(directory.path_of(file), file.header, scan, stop_offset):
        if record.head.kind == RecordKind.SEGMENT_SEALED:
            continue
        report.log_records += 1
        try:
            decode_body(record.head.kind, record.body)
        except ValueError as error:
            report.add(Severity.ERROR, f"log/{file.file_name} at {record.offset}", f"body: {error}", "rs3d dump FILE")
        behind = file.header.number == tail.segment and record.offset >= tail.offset
        if not file.is_run and (file.header.number > tail.segment or behind):
            report.records_beyond_catalog += 1
    if stop_offset is not None and scan.offset != stop_offset:
        reason = f"the records end at {scan.offset} instead of {stop_offset}: {scan.reason}"
        report.add(Severity.ERROR, f"log/{file.file_name}", reason, f"rs3d dump log/{file.file_name}")
    elif following is None and tail.segment == file.header.number and scan.offset < tail.offset:
        reason = f"the records end at {scan.offset}, but the catalog has applied them up to {tail.offset}"
        report.add(Severity.ERROR, f"log/{file.file_name}", reason, RESTORE)


def _report_strangers(directory: LogDirectory, log_path: str, report: CheckReport) -> None:
    known = {file.file_name for file in directory.segments.values()}
    for name in sorted(set(os.listdir(log_path)) - known):
        if name.endswith(".tmp"):
            report.add(Severity.INFO, f"log/{name}", "left by a crash; the next opening removes it")
        elif not name.endswith(".meta"):
            report.add(Severity.WARNING, f"log/{name}", "not a file of rs3d", f"rm log/{name}")
