"""The log as a change feed: records behind a cursor, in order. STORE.md 20.

A consumer's cursor is a sequence, never a position, so compaction and recovery may move records under it. A feed
shows records up to the tail that the consumer's own catalog view knows, so never one that is not durable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from rs3d.errors import RecordDamaged
from rs3d.format.logsegment import RECORDS_START
from rs3d.format.record import RecordKind
from rs3d.format.rows import LOG_DEAD, LOG_REPLACED, LogSegmentRow
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.interfaces import StoredRecord
from rs3d.stores.logchain import read_directory
from rs3d.stores.logreader import ScanEnd, scan_records
from rs3d.types.identifiers import LogPosition, Sequence

HIDDEN: Final = frozenset({RecordKind.CURSOR_MOVED, RecordKind.SEGMENTS_REPLACED, RecordKind.SEGMENT_SEALED})
"""Kinds that are of no concern to a consumer: its own cursor would keep it busy for ever."""


def read_feed(catalog: LocalCatalog, log_path: str, store_id: bytes, after: Sequence) -> Iterator[StoredRecord]:
    """Records with a sequence above `after`, up to the tail at the time of the call. Blocks on the disk; run it in a
    thread.

    A consumer handles a record, and now and then commits MoveCursor with its sequence; after a crash it sees the
    records since then once more.

    Raises:
        RecordDamaged: a segment is missing or fails its checks.
    """
    with catalog.snapshot() as view:
        tail = view.tail
        segments = [found for found in view.log_segments() if found[1].state not in (LOG_REPLACED, LOG_DEAD)]
    directory = read_directory(log_path, store_id)
    for number, row in sorted(segments, key=lambda found: found[1].first):
        if row.last_sequence <= after:
            continue
        file = directory.segments.get(number)
        if file is None:
            raise RecordDamaged(what=f"log segment {number}", reason="it is missing")
        position = ScanEnd(RECORDS_START, 0, 0)
        stop_offset = tail.offset if number == tail.segment else row.end_offset
        for record in scan_records(directory.path_of(file), file.header, position, stop_offset):
            if record.head.sequence > after and record.head.kind not in HIDDEN:
                yield StoredRecord(
                    LogPosition(number, record.offset),
                    record.head.sequence,
                    RecordKind(record.head.kind).name.lower().replace("_", " "),
                    msgspec.msgpack.decode(record.body),
                )
        if position.offset != stop_offset:
            raise RecordDamaged(what=f"log segment {number} at offset {position.offset}", reason=position.reason)


def feed_lag(catalog: LocalCatalog, after: Sequence) -> int:
    """Bytes of the log that lie in segments with records above `after`: what a consumer's retention limit is
    compared with."""
    with catalog.snapshot() as view:
        return sum(_lag(row, after) for _, row in view.log_segments())


def _lag(row: LogSegmentRow, after: Sequence) -> int:
    return row.record_bytes if row.last_sequence > after and row.state not in (LOG_REPLACED, LOG_DEAD) else 0
