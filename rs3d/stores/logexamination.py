"""One segment of the log read for damage: the chain of its records, and, behind a break, the chain that goes on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from rs3d.errors import Rs3dError
from rs3d.format.logsegment import RECORDS_START, crc_seed
from rs3d.format.record import (
    HEAD_BYTES,
    RECORD_ALIGNMENT,
    RECORD_MAGIC,
    RecordHead,
    RecordKind,
    decode_head,
    is_valid,
)
from rs3d.format.recordbodies import decode_body
from rs3d.stores.logchain import LogDirectory, LogFile
from rs3d.stores.logreader import SCAN_WINDOW_BYTES, ScanEnd, scan_records

_MAGIC: Final = RECORD_MAGIC.to_bytes(4, "big")
_PAYLOAD: Final = "the CRC of its payload does not hold"

DAMAGED_LISTED: Final = 100
"""Damaged records of one segment that are named; the rest is one number."""


@dataclass(frozen=True, slots=True)
class DamagedRecord:
    """A record that fails its checks."""

    offset: int
    reason: str
    bucket: int = 0
    """Id of the bucket it is about, 0 where that cannot be read."""
    key: str = ""
    mendable: bool = False
    """Whether its payload has parity that restores it: `rs3d compact` writes it anew."""


@dataclass(slots=True)
class SegmentExamined:
    """What was found in one segment."""

    records: int = 0
    read_bytes: int = 0
    damaged: list[DamagedRecord] = field(default_factory=list)
    damaged_unlisted: int = 0

    def add(self, record: DamagedRecord) -> None:
        if len(self.damaged) < DAMAGED_LISTED:
            self.damaged.append(record)
        else:
            self.damaged_unlisted += 1


def examine_segment(directory: LogDirectory, file: LogFile, end_offset: int) -> SegmentExamined:
    """Check every record from the header up to `end_offset`, payloads included.

    Raises:
        OSError: the file cannot be read at all.

    Blocking: as long as reading a segment takes (64 MiB and less, mostly).
    """
    found = SegmentExamined(read_bytes=end_offset)
    position = ScanEnd(RECORDS_START, 0, 0)
    path = directory.path_of(file)
    mended: list[int] = []
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        while position.offset < end_offset:
            for record in scan_records(path, file.header, position, end_offset, mended.append):
                found.records += 1
                if mended:
                    found.add(_describe(record.head, record.body, mended.pop(), _PAYLOAD, True))
            if position.offset < end_offset:
                found.records += 1
                position = _step_over(descriptor, file, position, end_offset, found)
    finally:
        os.close(descriptor)
    return found


def _step_over(descriptor: int, file: LogFile, broken: ScanEnd, end_offset: int, found: SegmentExamined) -> ScanEnd:
    """Describe the record at which a scan broke off; returns where the next valid one begins, or the end.

    A record's CRC is seeded with the segment's random nonce, so nothing else in a file passes for one.
    """
    seed = crc_seed(file.header.nonce)
    offset = broken.offset
    raw = os.pread(descriptor, HEAD_BYTES, offset)
    head = decode_head(raw)
    body = b"" if head is None else os.pread(descriptor, head.body_bytes, offset + HEAD_BYTES)
    following = offset + RECORD_ALIGNMENT
    if head is not None and is_valid(head, raw + body, seed):
        found.add(_describe(head, body, offset, broken.reason, False))
        following = offset + head.total_bytes
    else:
        found.add(DamagedRecord(offset, broken.reason))
    while following < end_offset:
        window = os.pread(descriptor, min(SCAN_WINDOW_BYTES, end_offset - following) + HEAD_BYTES, following)
        at = window.find(_MAGIC)
        while at >= 0:
            head = decode_head(window, at) if at % RECORD_ALIGNMENT == 0 else None
            if head is not None:
                record = os.pread(descriptor, HEAD_BYTES + head.body_bytes, following + at)
                if is_valid(head, record, seed):
                    return ScanEnd(following + at, head.previous_crc, 0)
            at = window.find(_MAGIC, at + 1)
        following += SCAN_WINDOW_BYTES
    return ScanEnd(end_offset, 0, 0)


def _describe(head: RecordHead, body: bytes, offset: int, reason: str, mendable: bool) -> DamagedRecord:
    try:
        decoded = decode_body(RecordKind(head.kind), body)
    except (Rs3dError, ValueError):
        return DamagedRecord(offset, reason, mendable=mendable)
    bucket, key = getattr(decoded, "bucket", 0), getattr(decoded, "key", "")
    return DamagedRecord(
        offset,
        reason,
        bucket if isinstance(bucket, int) else 0,
        key if isinstance(key, str) else "",
        mendable,
    )
