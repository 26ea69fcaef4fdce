"""Which part of the log to rewrite, and what of a record survives it. STORE.md 3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, cast

import msgspec

from rs3d.format import recordbodies as bodies
from rs3d.format.keys import inverted, suffixed_path
from rs3d.format.logsegment import COMPACTED
from rs3d.format.record import RecordKind
from rs3d.format.rows import (
    LOG_SEALED,
    ORIGIN,
    SET,
    VERSION,
    LogSegmentRow,
    Origin,
    SetRow,
    VersionRow,
    unpack_part,
)
from rs3d.stores.catalogchunks import pins_key
from rs3d.stores.catalogreferences import Applicable
from rs3d.stores.catalogstate import EPOCH_DECODER, access_key_key, user_key
from rs3d.stores.catalogtables import Table
from rs3d.stores.cataloguploads import part_key
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.types.identifiers import BucketId, Sequence, UploadId

WORTHWHILE_SHARE: Final = 0.5
"""Segments with less than this share of live bytes are rewritten without being asked for."""

RUN_BYTES: Final = 256 << 20
"""What one run takes in at most: it has to fit beside its sources in the ballast of a full disk."""


class SegmentUse(NamedTuple):
    """A sealed segment or run and how much of it is referred to."""

    number: int
    row: LogSegmentRow


class Kept(NamedTuple):
    """What a record becomes in the new segment."""

    kind: RecordKind
    body: bodies.Body
    payload: bytes | memoryview


def sealed_segments(t: CatalogTransaction) -> list[SegmentUse]:
    """Segments that may be rewritten, in the order of their records."""
    found = []
    for key, _ in t.scan(t.tables.log_segments, b""):
        number = int.from_bytes(key, "big")
        row = t.log_segment(number)
        if row is not None and row.state == LOG_SEALED:
            found.append(SegmentUse(number, row))
    return sorted(found, key=lambda use: use.row.first)


def choose_run(
    segments: list[SegmentUse], first: int, last: int, cursor_floor: int | None, settled: Mapping[int, int]
) -> list[SegmentUse]:
    """The run to rewrite: the one that was asked for, or the longest stretch of mostly dead neighbours that frees most.

    What no row refers to is not all dead: a run keeps records of removals while there is an older one, and rewriting
    it again would free nothing, for ever. So a run that was rewritten is worth it again only for what died since; it
    joins neighbours that are.

    Args:
        first, last: segment numbers as files are named; 0 = choose.
        cursor_floor: nothing above the lowest cursor is dropped, so only segments wholly below it are taken.
        settled: live bytes of runs right after they were written.
    """
    usable = [use for use in segments if cursor_floor is None or use.row.last_sequence <= cursor_floor]
    if first:
        return [use for use in usable if use.row.first >= first and use.row.last <= (last or use.row.last)]
    best: list[SegmentUse] = []
    best_freed = 0
    run: list[SegmentUse] = []
    for use in usable:
        if use.row.live_bytes >= use.row.record_bytes * WORTHWHILE_SHARE:
            run = []
            continue
        follows = bool(run) and segments.index(use) == segments.index(run[-1]) + 1
        fits = sum(member.row.record_bytes for member in run) + use.row.record_bytes <= RUN_BYTES
        run = [*run, use] if follows and fits else [use]
        gains = [settled.get(member.number, member.row.record_bytes) - member.row.live_bytes for member in run]
        is_worth_it = any(
            gain > member.row.record_bytes * (1 - WORTHWHILE_SHARE) for member, gain in zip(run, gains, strict=True)
        )
        if is_worth_it and sum(gains) > best_freed:
            best, best_freed = run, sum(gains)
    return best


class Survival:
    """Decides what of each record lives on, from the catalog as it is now (a dead record never lives again)."""

    def __init__(self, t: CatalogTransaction, *, begins_at_oldest: bool, replaced: Iterable[int]) -> None:
        """`begins_at_oldest`: nothing older than the run exists, so removals have nothing left to remove."""
        self._t = t
        self._drop_removals = begins_at_oldest
        self._replaced = frozenset(replaced)

    def of(self, record: Applicable) -> Kept | None:
        """What is written in the record's place; None for nothing."""
        kind = record.kind
        if kind is RecordKind.UPLOAD_COMPLETED:
            kept = self._completed(record)
        else:
            kept = Kept(kind, record.body, record.payload) if self._is_kept(record) else None
        if kept is not None and kept.body.operation[0] and not self._is_open(kept.body.operation[0]):
            # Nobody can ask for it again, and the record that closed the epoch may go.
            kept = kept._replace(body=msgspec.structs.replace(kept.body, operation=bodies.NO_OPERATION))
        return kept

    def _is_open(self, epoch: int) -> bool:
        found = self._t.get_origin(self._t.tables.epochs, epoch.to_bytes(8, "big"), EPOCH_DECODER)
        return found is not None and not found[1].closed

    def _completed(self, record: Applicable) -> Kept | None:
        body = cast(bodies.UploadCompleted, record.body)
        if not self._set_lies_at(record, body.upload):
            if self._drop_removals:
                return None
            return Kept(RecordKind.UPLOAD_ABORTED, bodies.UploadAborted(upload=body.upload), b"")
        unselected = body.unselected if self._has_unselected(body.upload) else ()
        if self._version_lies_at(record, body.bucket, body.key, record.sequence):
            return Kept(record.kind, msgspec.structs.replace(body, unselected=unselected), record.payload)
        kept = bodies.SetKept(
            upload=body.upload,
            bucket=body.bucket,
            parts_digest=body.parts_digest,
            part_count=body.part_count,
            unselected=unselected,
        )
        return Kept(RecordKind.SET_KEPT, kept, record.payload)

    def _is_kept(self, record: Applicable) -> bool:
        kind, body, t = record.kind, record.body, self._t
        tables = t.tables
        if kind is RecordKind.VERSION_PUT or kind is RecordKind.MARKER_PUT:
            put = cast("bodies.VersionPut | bodies.MarkerPut", body)
            return self._version_lies_at(record, put.bucket, put.key, record.sequence)
        if kind is RecordKind.VERSION_PATCHED:
            patched = cast(bodies.VersionPatched, body)
            row = self._version(patched.bucket, patched.key, patched.version)
            return row is not None and (row.state_segment, row.state_offset) == record.place[:2]
        if kind is RecordKind.SET_KEPT:
            return self._set_lies_at(record, cast(bodies.SetKept, body).upload)
        if kind is RecordKind.UPLOAD_ABORTED:
            aborted = cast(bodies.UploadAborted, body)
            return not self._drop_removals or t.get(tables.garbage, aborted.upload) is not None
        if kind is RecordKind.EPOCH_CLOSED:
            return not self._drop_removals or self._has(tables.epochs, cast(bodies.EpochClosed, body).epoch)
        if kind is RecordKind.SEGMENT_SWEPT:
            return not self._drop_removals or self._has(tables.blob_segments, cast(bodies.SegmentSwept, body).segment)
        if kind is RecordKind.SEGMENTS_REPLACED:
            return self._replacement_matters(cast(bodies.SegmentsReplaced, body))
        if kind is RecordKind.CHUNKS_MOVED:
            pack = cast(bodies.ChunksMoved, body).pack.blob.to_bytes()
            return t.get(tables.packs, pack) is not None
        place = origin_row(t, record)
        if place is None:
            return not self._drop_removals
        return self._lies_at(record, *place) or (kind is RecordKind.SETTING_PUT and self._is_removal(body))

    def _is_removal(self, body: bodies.Body) -> bool:
        return not cast(bodies.SettingPut, body).value and not self._drop_removals

    def _replacement_matters(self, body: bodies.SegmentsReplaced) -> bool:
        """While the run it tells of is part of the log, or a source still lies on disk."""
        if body.number in self._replaced:
            return False
        row = self._t.log_segment(body.number)
        return row is not None and row.state == LOG_SEALED

    def _has(self, table: Table, number: int) -> bool:
        return self._t.get(table, number.to_bytes(8, "big")) is not None

    def _version(self, bucket: int, key: str, sequence: int) -> VersionRow | None:
        row_key = suffixed_path(BucketId(bucket), key.encode("utf-8")).row_key + inverted(Sequence(sequence))
        value = self._t.get(self._t.tables.versions, row_key)
        return None if value is None else VersionRow(*VERSION.unpack(value))

    def _version_lies_at(self, record: Applicable, bucket: int, key: str, sequence: int) -> bool:
        row = self._version(bucket, key, sequence)
        return row is not None and (row.body_segment, row.body_offset) == record.place[:2]

    def _set_lies_at(self, record: Applicable, upload: bytes) -> bool:
        value = self._t.get(self._t.tables.blobs, upload)
        if value is None:
            return False
        row = SetRow(*SET.unpack_from(value))
        return (row.segment, row.offset) == record.place[:2]

    def _has_unselected(self, upload: bytes) -> bool:
        """Whether parts that Complete left out still wait to be freed."""
        found = self._t.blob_set(upload)
        return found is not None and bool(found[1])

    def _lies_at(self, record: Applicable, table: Table, key: bytes) -> bool:
        value = self._t.get(table, key)
        if value is None:
            return False
        origin = Origin(*ORIGIN.unpack_from(value))
        return (origin.segment, origin.offset) == record.place[:2]


def origin_row(t: CatalogTransaction, record: Applicable) -> tuple[Table, bytes] | None:
    """Table and key of the row that stems from a record of this kind; None for removals, which leave none."""
    kind, body, tables = record.kind, record.body, t.tables
    if kind is RecordKind.UPLOAD_OPENED:
        token = cast(bodies.UploadOpened, body).token
        return tables.uploads, UploadId(record.sequence, token).to_bytes()
    if kind is RecordKind.PART_PUT:
        put = cast(bodies.PartPut, body)
        return tables.parts, part_key(put.upload, unpack_part(put.part).number)
    if kind is RecordKind.BUCKET_PUT:
        return tables.buckets, cast(bodies.BucketPut, body).bucket.name.encode("utf-8")
    if kind is RecordKind.USER_PUT:
        return tables.identities, user_key(cast(bodies.UserPut, body).user.name)
    if kind is RecordKind.ACCESS_KEY_PUT:
        return tables.identities, access_key_key(cast(bodies.AccessKeyPut, body).key.access_key)
    if kind is RecordKind.EPOCH_OPENED:
        return tables.epochs, record.sequence.to_bytes(8, "big")
    if kind is RecordKind.SEGMENT_OPENED:
        return tables.blob_segments, record.sequence.to_bytes(8, "big")
    if kind is RecordKind.CURSOR_MOVED:
        return tables.cursors, cast(bodies.CursorMoved, body).consumer.encode("utf-8")
    if kind is RecordKind.CHUNKS_PINNED:
        pinned = cast(bodies.ChunksPinned, body)
        return tables.pins, pins_key(pinned.manifest, pinned.batch)
    if kind is RecordKind.SETTING_PUT:
        return tables.settings, cast(bodies.SettingPut, body).name.encode("utf-8")
    return None


def next_generation(numbers: Iterable[int]) -> int:
    """The generation of the next compacted run: above all that ever had a row or a file."""
    return max((number - COMPACTED for number in numbers if number >= COMPACTED), default=0) + 1
