"""Applying records that lie in the log already: shared by recovery and rebuild."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from rs3d.errors import RecordDamaged
from rs3d.format.logsegment import FOOTER_BYTES, RECORDS_START, crc_seed, decode_footer, decode_index
from rs3d.format.record import HEAD_BYTES, RECORD_ALIGNMENT, RecordKind, decode_head, is_valid
from rs3d.format.recordbodies import decode_body
from rs3d.format.rows import Place
from rs3d.kernels.crc import crc32c
from rs3d.stores.catalogapply import Applicable, apply
from rs3d.stores.catalogtables import Tables
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.stores.logchain import LogDirectory, LogFile
from rs3d.stores.logreader import ScanEnd, ScannedRecord, scan_records

APPLY_BATCH_RECORDS: Final = 1000
"""Records applied in one catalog transaction while rolling forward."""


class Loss(Enum):
    """Whether a rebuild goes on where the log is damaged (`rs3d check --rebuild --accept-loss`)."""

    REFUSE = "refuse"
    ACCEPT = "accept"


class LostRecords(NamedTuple):
    """Records between two sequences (0 = not known) that a rebuild had to do without."""

    after: int
    before: int
    reason: str


_SEAL: Final = RecordKind.SEGMENT_SEALED
"""Ends a segment whose successor was never written to: no change of state, so it does not survive."""


class LastSegment(NamedTuple):
    """The end of the log as it was found."""

    number: int
    end: int
    survivors: list[ScannedRecord]
    dropped_sequence: int
    dropped_bytes: int


def read_last(directory: LogDirectory, file: LogFile, start: ScanEnd) -> LastSegment:
    """The valid records from `start` to the end of the log's last segment, and what is dropped behind them."""
    end = start.offset
    path = directory.path_of(file)
    survivors = [record for record in scan_records(path, file.header, start) if record.head.kind != _SEAL]
    dropped_sequence, dropped_bytes = _look_behind(path, start.offset)
    return LastSegment(file.header.number, end, survivors, dropped_sequence, dropped_bytes)


def _look_behind(path: str, offset: int) -> tuple[int, int]:
    """The highest sequence in heads behind the last valid record (believed only as a bound), and the bytes they
    span."""
    highest, begin = 0, offset
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            head = decode_head(os.pread(descriptor, HEAD_BYTES, offset))
            if head is None:
                return highest, offset - begin
            highest = max(highest, head.sequence)
            offset += head.total_bytes
    finally:
        os.close(descriptor)


def apply_segment(
    tables: Tables,
    directory: LogDirectory,
    file: LogFile,
    start: ScanEnd,
    stop_offset: int,
    lost: list[LostRecords] | None = None,
) -> int:
    """Apply a segment's records from `start` to where its successor says that it ends.

    Args:
        lost: where records fail, step over them and note them here; None: do not.

    Raises:
        StoreDamaged: it does not hold valid records to that end.
    """
    count, last_sequence = 0, 0
    batch: list[Applicable] = []
    while True:
        for record in scan_records(directory.path_of(file), file.header, start, stop_offset):
            batch.append(applicable(file.header.number, record))
            last_sequence = record.head.sequence
            if len(batch) >= APPLY_BATCH_RECORDS:
                apply_all(tables, batch)
                count += len(batch)
                batch = []
        apply_all(tables, batch)
        count += len(batch)
        batch = []
        if start.offset == stop_offset:
            return count
        reason = f"log segment {file.header.number} at offset {start.offset}: {start.reason}"
        if lost is None:
            raise directory.damaged(reason)
        following = _next_valid(directory, file, start.offset, stop_offset)
        lost.append(LostRecords(last_sequence, following.sequence if following else 0, reason))
        if following is None:
            return count
        start = ScanEnd(following.offset, following.previous_crc, 0)


def reaches(directory: LogDirectory, file: LogFile, offset: int, crc: int) -> bool:
    """Whether a segment holds a record that ends at `offset` and has this CRC: what the catalog was brought up to is
    really there. Damage before it does not matter here (STORE.md 7). Reads the segment up to `offset`."""
    start = ScanEnd(RECORDS_START, 0, 0)
    while True:
        for _ in scan_records(directory.path_of(file), file.header, start, offset):
            pass
        if start.offset == offset:
            return start.crc == crc
        following = _next_valid(directory, file, start.offset, offset)
        if following is None:
            return False
        start = ScanEnd(following.offset, following.previous_crc, 0)


class _NextRecord(NamedTuple):
    offset: int
    sequence: int
    previous_crc: int


def _next_valid(directory: LogDirectory, file: LogFile, behind: int, stop_offset: int) -> _NextRecord | None:
    """The first valid record behind a damaged one: by the offset index, or, without one, at any multiple of 8."""
    with open(directory.path_of(file), "rb") as opened:
        raw = memoryview(opened.read())
    seed = crc_seed(file.header.nonce)
    offsets = _index(raw) or range(behind + RECORD_ALIGNMENT, stop_offset, RECORD_ALIGNMENT)
    for offset in offsets:
        if not behind < offset < stop_offset:
            continue
        head = decode_head(raw, offset)
        if head is None or offset + head.total_bytes > stop_offset or not is_valid(head, raw[offset:], seed):
            continue
        payload_start = offset + HEAD_BYTES + head.body_bytes
        if crc32c(raw[payload_start : payload_start + head.payload_bytes]) == head.payload_crc:
            return _NextRecord(offset, head.sequence, head.previous_crc)
    return None


def _index(raw: memoryview) -> list[int]:
    """The offset index of a sealed segment; empty where it was never sealed or the seal is damaged."""
    footer = decode_footer(bytes(raw[-FOOTER_BYTES:]))
    head = None if footer is None else decode_head(raw, footer.seal_offset)
    if footer is None or head is None or head.kind != RecordKind.SEGMENT_SEALED:
        return []
    start = footer.seal_offset + HEAD_BYTES + head.body_bytes
    payload = raw[start : start + head.payload_bytes]
    return decode_index(payload) if crc32c(payload) == head.payload_crc else []


def applicable(segment: int, record: ScannedRecord) -> Applicable:
    """A scanned record as `apply` wants it.

    Raises:
        RecordDamaged: its CRC holds, but this version does not understand it.
    """
    head = record.head
    try:
        body = decode_body(head.kind, record.body)
    except (msgspec.DecodeError, ValueError) as error:
        raise RecordDamaged(what=f"log segment {segment}, record at {record.offset}", reason=str(error)) from error
    place = Place(segment, record.offset, HEAD_BYTES + head.body_bytes, head.payload_bytes)
    return Applicable(RecordKind(head.kind), head.sequence, place, head.crc, body, record.payload)


def apply_all(tables: Tables, records: Iterable[Applicable]) -> None:
    """Apply records in one transaction."""
    transaction = CatalogTransaction(tables)
    finished = False
    try:
        for record in records:
            apply(transaction, record)
        transaction.commit()
        finished = True
    finally:
        if not finished:
            with contextlib.suppress(Exception):
                transaction.abort()
