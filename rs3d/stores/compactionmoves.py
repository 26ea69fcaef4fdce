"""Moving the catalog's positions from replaced log segments to the run that replaced them. STORE.md 3.

Each position moves only if the row still holds the old one, so a step may be repeated, and whatever was changed
meanwhile stays changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

from rs3d.format import recordbodies as bodies
from rs3d.format.keys import inverted, plain_path
from rs3d.format.logsegment import COMPACTED, RECORDS_START
from rs3d.format.record import HEAD_BYTES, RecordKind
from rs3d.format.rows import (
    CURRENT,
    LOG_DEAD,
    LOG_REPLACED,
    LOG_SEALED,
    ORIGIN,
    VERSION,
    CurrentRow,
    LogSegmentRow,
    Origin,
    Place,
    VersionRow,
)
from rs3d.stores.catalogreferences import Applicable, record_total
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.stores.committer import CommitterCore
from rs3d.stores.compactionchoice import origin_row
from rs3d.stores.logchain import LogDirectory, read_directory
from rs3d.stores.logreader import ScanEnd, scan_records
from rs3d.stores.replay import applicable
from rs3d.types.identifiers import BucketId, Sequence

STEP_RECORDS: Final = 1000
"""Positions moved in one transaction."""


@dataclass(slots=True)
class Move:
    """A record's old and new place."""

    record: Applicable
    place: Place


def _move_rows(t: CatalogTransaction, moves: list[Move]) -> None:
    for move in moves:
        kind = move.record.kind
        if kind in (RecordKind.VERSION_PUT, RecordKind.MARKER_PUT, RecordKind.UPLOAD_COMPLETED):
            _move_version(t, move)
        elif kind is RecordKind.VERSION_PATCHED:
            _move_patch(t, move)
        elif kind is RecordKind.SET_KEPT:
            _move_set(t, move, cast(bodies.SetKept, move.record.body).upload)
        else:
            _move_origin(t, move)


def _move_version(t: CatalogTransaction, move: Move) -> None:
    body = cast("bodies.VersionPut | bodies.MarkerPut", move.record.body)
    if move.record.kind is RecordKind.UPLOAD_COMPLETED:
        _move_set(t, move, cast(bodies.UploadCompleted, body).upload)
    state = t.key_state(BucketId(body.bucket), body.key)
    row = t.version_row(state, move.record.sequence)
    if row is None or (row.body_segment, row.body_offset) != move.record.place[:2]:
        return
    place = move.place
    row = row._replace(
        body_segment=place.segment,
        body_offset=place.offset,
        body_head_bytes=place.head_bytes,
        body_payload_bytes=place.payload_bytes,
    )
    t.put(t.tables.versions, state.row_key + inverted(move.record.sequence), VERSION.pack(*row))
    _move_current(t, body.bucket, body.key, move.record.sequence, row)
    t.forget_key_state()
    if move.record.kind is not RecordKind.UPLOAD_COMPLETED:  # that one is counted with its set
        _count_move(t, move)


def _move_patch(t: CatalogTransaction, move: Move) -> None:
    body = cast(bodies.VersionPatched, move.record.body)
    state = t.key_state(BucketId(body.bucket), body.key)
    sequence = Sequence(body.version)
    row = t.version_row(state, sequence)
    if row is None or (row.state_segment, row.state_offset) != move.record.place[:2]:
        return
    row = row._replace(
        state_segment=move.place.segment, state_offset=move.place.offset, state_bytes=move.place.head_bytes
    )
    t.put(t.tables.versions, state.row_key + inverted(sequence), VERSION.pack(*row))
    _move_current(t, body.bucket, body.key, sequence, row)
    t.forget_key_state()
    _count_move(t, move)


def _move_current(t: CatalogTransaction, bucket: int, key: str, sequence: int, row: VersionRow) -> None:
    row_key = plain_path(BucketId(bucket), key.encode("utf-8")).row_key
    value = t.get(t.tables.current, row_key)
    if value is None:
        return
    current = CurrentRow._make(CURRENT.unpack(value))
    if current.sequence != sequence:
        return
    current = current._replace(
        body_segment=row.body_segment,
        body_offset=row.body_offset,
        body_head_bytes=row.body_head_bytes,
        body_payload_bytes=row.body_payload_bytes,
        state_segment=row.state_segment,
        state_offset=row.state_offset,
        state_bytes=row.state_bytes,
    )
    t.put(t.tables.current, row_key, CURRENT.pack(*current))


def _move_set(t: CatalogTransaction, move: Move, upload: bytes) -> None:
    found = t.blob_set(upload)
    if found is None or (found[0].segment, found[0].offset) != move.record.place[:2]:
        return
    place = move.place
    row = found[0]._replace(
        segment=place.segment, offset=place.offset, head_bytes=place.head_bytes, payload_bytes=place.payload_bytes
    )
    t.put_blob_set(upload, row, found[1])
    if row.references:  # a dead set's record was counted dead when its last reference went
        _count_move(t, move)


def _move_origin(t: CatalogTransaction, move: Move) -> None:
    where = origin_row(t, move.record)
    if where is None:
        return
    table, key = where
    value = t.get(table, key)
    if value is None:
        return
    origin = Origin(*ORIGIN.unpack_from(value))
    if (origin.segment, origin.offset) != move.record.place[:2]:
        return
    total = record_total(move.place.head_bytes, move.place.payload_bytes)
    moved = Origin(origin.sequence, move.place.segment, move.place.offset, total)
    t.put(table, key, ORIGIN.pack(*moved) + value[ORIGIN.size :])
    _count_move(t, move)


def _count_move(t: CatalogTransaction, move: Move) -> None:
    old = move.record.place
    t.dies(old.segment, record_total(old.head_bytes, old.payload_bytes))
    t.lives(move.place.segment, record_total(move.place.head_bytes, move.place.payload_bytes))


# -------------------------------------------------------------------------------------------------------- going on


def unfinished_moves(core: CommitterCore) -> Iterator[None]:
    """After a crash between `segments replaced` and the last position: move what is left, in the same steps."""
    t = CatalogTransaction(core.tables)
    try:
        rows = {
            int.from_bytes(key, "big"): t.log_segment(int.from_bytes(key, "big"))
            for key, _ in t.scan(t.tables.log_segments, b"")
        }
    finally:
        t.abort()
    pending = {number: row for number, row in rows.items() if row is not None and row.state == LOG_REPLACED}
    if not pending:
        return
    directory = read_directory(core.log.path, core.log.store_id)
    for number, row in rows.items():
        if row is None or number < COMPACTED or row.state != LOG_SEALED:
            continue
        sources = [source for source, old in pending.items() if row.first <= old.first and old.last <= row.last]
        if sources:
            yield from _move_again(core, directory, number, row, sources)
            between = [plain for plain in directory.segments if row.first < plain < row.last and plain not in rows]
            retire(core, (*sources, *between))


def _move_again(
    core: CommitterCore, directory: LogDirectory, number: int, row: LogSegmentRow, sources: list[int]
) -> Iterator[None]:
    new_places: dict[int, Place] = {}
    file = directory.segments[number]
    for scanned in scan_records(directory.path_of(file), file.header, ScanEnd(RECORDS_START, 0, 0), row.end_offset):
        head = scanned.head
        new_places[head.sequence] = Place(number, scanned.offset, HEAD_BYTES + head.body_bytes, head.payload_bytes)
    yield
    for source in sources:
        file = directory.segments[source]
        step: list[Move] = []
        for scanned in scan_records(directory.path_of(file), file.header, ScanEnd(RECORDS_START, 0, 0)):
            place = new_places.get(scanned.head.sequence)
            if place is None or scanned.head.kind == RecordKind.SEGMENT_SEALED:
                continue
            step.append(Move(applicable(source, scanned)._replace(payload=b""), place))
            if len(step) >= STEP_RECORDS:
                commit_moves(core, step)
                step = []
                yield
        commit_moves(core, step)


def retire(core: CommitterCore, sources: tuple[int, ...]) -> None:
    """No position points into these segments any more. Their death is a sequence that no reader of before has seen."""
    death = core.clock.next(core.clock.now_ns())

    def change(t: CatalogTransaction) -> None:
        for number in sources:
            row = t.log_segment(number) or LogSegmentRow(LOG_DEAD, number, number, 0, 0, 0, 0, 0, 0, 0)
            t.put_log_segment(number, row._replace(state=LOG_DEAD, last_sequence=death))

    core.change_rows(change)


def commit_moves(core: CommitterCore, step: list[Move]) -> None:
    core.change_rows(lambda transaction: _move_rows(transaction, step))
