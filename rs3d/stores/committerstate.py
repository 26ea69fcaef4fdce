"""The committer's side of the store's own state: epochs, segments, garbage, cursors, settings."""

from __future__ import annotations

import lmdb

from rs3d.errors import InvalidArgument, SlowDown
from rs3d.format import recordbodies as bodies
from rs3d.format.record import RecordKind
from rs3d.format.rows import LOG_DEAD
from rs3d.stores.catalogstate import SEGMENT_DECODER
from rs3d.stores.committerplan import Desk, Done, Plan, Record
from rs3d.stores.outcomes import nothing_done
from rs3d.types.operations import (
    CloseEpoch,
    DropGarbage,
    DropLogSegments,
    MoveCursor,
    OpenEpoch,
    OpenSegment,
    PutSetting,
    SegmentSwept,
)

MAXIMUM_SETTING_BYTES = 1 << 20


def open_epoch(desk: Desk, op: OpenEpoch) -> Plan:
    return Record(RecordKind.EPOCH_OPENED, bodies.EpochOpened(operation=desk.tag, role=op.role))


def close_epoch(desk: Desk, op: CloseEpoch) -> Plan:
    if op.epoch not in desk.open_epochs:
        return Done(nothing_done())
    return Record(RecordKind.EPOCH_CLOSED, bodies.EpochClosed(operation=desk.tag, epoch=op.epoch))


def open_segment(desk: Desk, op: OpenSegment) -> Plan:
    return Record(RecordKind.SEGMENT_OPENED, bodies.SegmentOpened(operation=desk.tag, epoch=desk.epoch))


def segment_swept(desk: Desk, op: SegmentSwept) -> Plan:
    """Only a directory of a closed epoch can have been swept (STORE.md 10)."""
    key = op.segment.to_bytes(8, "big")
    found = desk.transaction.get_origin(desk.tables.blob_segments, key, SEGMENT_DECODER)
    if found is None or found[1].epoch in desk.open_epochs:
        raise InvalidArgument(name="segment", value=f"{op.segment:016x}", reason="its epoch is open, or there is none")
    if found[1].swept:
        return Done(nothing_done())
    return Record(RecordKind.SEGMENT_SWEPT, bodies.SegmentSwept(operation=desk.tag, segment=op.segment))


def drop_garbage(desk: Desk, op: DropGarbage) -> Plan:
    """Changes only derived rows: no record (STORE.md 8). A manifest that pins chunks stays, or its pins would stay
    for ever."""
    keys = [blob.to_bytes() for blob in op.blobs]
    for key, blob in zip(keys, op.blobs, strict=True):
        if next(desk.transaction.scan(desk.tables.pins, key, key), None) is not None:
            raise InvalidArgument(name="blob", value=blob.text(), reason="pins chunks, which are to be freed first")
    for key in keys:
        desk.transaction.delete(desk.tables.garbage, key)
    desk.transaction.changed = True
    return Done(nothing_done())


def drop_log_segments(desk: Desk, op: DropLogSegments) -> Plan:
    """Unlink replaced segments, sync the directory, then forget their rows (a row without a file is harmless)."""
    for number in op.numbers:
        row = desk.transaction.log_segment(number)
        if row is None:
            continue
        if row.state != LOG_DEAD:
            raise InvalidArgument(name="log segment", value=str(number), reason="is part of the log")
    try:
        desk.tables.sync()  # a power cut must not take the catalog back to where positions point into them
        desk.unlink_segments(op.numbers)
    except (OSError, lmdb.Error) as error:  # some may be gone: the rows stay, and the operation may be repeated
        raise SlowDown(what=f"removing replaced log segments ({error})") from error
    for number in op.numbers:
        desk.transaction.delete(desk.tables.log_segments, number.to_bytes(4, "big"))
    desk.transaction.changed = True
    return Done(nothing_done())


def move_cursor(desk: Desk, op: MoveCursor) -> Plan:
    body = bodies.CursorMoved(operation=desk.tag, consumer=op.consumer, sequence=op.sequence)
    return Record(RecordKind.CURSOR_MOVED, body)


def put_setting(desk: Desk, op: PutSetting) -> Plan:
    if not 1 <= len(op.name.encode("utf-8")) <= 255 or len(op.value) > MAXIMUM_SETTING_BYTES:
        raise InvalidArgument(name="setting", value=op.name, reason="name of 1 to 255 bytes, value of up to 1 MiB")
    return Record(RecordKind.SETTING_PUT, bodies.SettingPut(operation=desk.tag, name=op.name, value=op.value))
