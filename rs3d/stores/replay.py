"""Applying records that lie in the log already: shared by recovery and rebuild."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from rs3d.errors import RecordDamaged
from rs3d.format.record import HEAD_BYTES, RecordKind, decode_head
from rs3d.format.recordbodies import decode_body
from rs3d.format.rows import Place
from rs3d.stores.catalogapply import Applicable, apply
from rs3d.stores.catalogtables import Tables
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.stores.logchain import LogDirectory, LogFile
from rs3d.stores.logreader import ScanEnd, ScannedRecord, scan_records

APPLY_BATCH_RECORDS: Final = 1000
"""Records applied in one catalog transaction while rolling forward."""


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
    survivors = list(scan_records(path, file.header, start))
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


def apply_segment(tables: Tables, directory: LogDirectory, file: LogFile, start: ScanEnd, stop_offset: int) -> int:
    """Apply a segment's records from `start` to where its successor says that it ends.

    Raises:
        StoreDamaged: it does not hold valid records to that end.
    """
    count = 0
    batch: list[Applicable] = []
    for record in scan_records(directory.path_of(file), file.header, start, stop_offset):
        batch.append(applicable(file.header.number, record))
        if len(batch) >= APPLY_BATCH_RECORDS:
            apply_all(tables, batch)
            count += len(batch)
            batch = []
    apply_all(tables, batch)
    if start.offset != stop_offset:
        raise directory.damaged(f"log segment {file.header.number} at offset {start.offset}: {start.reason}")
    return count + len(batch)


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
    """Apply records in one durable transaction."""
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
