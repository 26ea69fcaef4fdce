"""`apply`: what a log record does to the catalog. The one function that commit, recovery and rebuild share (STORE.md
1 and 8).

Everything derived (counters, references, garbage, live bytes) is computed from the rows that a record adds and
removes, never taken from it, and a removal without its row does nothing: so any log that compaction leaves replays
to the same tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rs3d.format.record import RecordKind
from rs3d.format.recordbodies import OperationTag
from rs3d.stores import catalogchunks as chunks
from rs3d.stores import catalogstate as state
from rs3d.stores import cataloguploads as uploads
from rs3d.stores import catalogversions as versions
from rs3d.stores.catalogreferences import Applicable
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.stores.outcomes import outcome_bytes

__all__ = ["Applicable", "apply"]


_APPLY: Final[dict[RecordKind, Callable[[CatalogTransaction, Applicable], None]]] = {
    RecordKind.VERSION_PUT: versions.version_put,
    RecordKind.VERSION_PATCHED: versions.version_patched,
    RecordKind.VERSION_REMOVED: versions.version_removed,
    RecordKind.MARKER_PUT: versions.marker_put,
    RecordKind.UPLOAD_OPENED: uploads.upload_opened,
    RecordKind.PART_PUT: uploads.part_put,
    RecordKind.UPLOAD_COMPLETED: uploads.upload_completed,
    RecordKind.UPLOAD_ABORTED: uploads.upload_aborted,
    RecordKind.SET_MEMBERS_FREED: uploads.set_members_freed,
    RecordKind.SET_KEPT: uploads.set_kept,
    RecordKind.BUCKET_PUT: state.bucket_put,
    RecordKind.BUCKET_REMOVED: state.bucket_removed,
    RecordKind.USER_PUT: state.user_put,
    RecordKind.USER_REMOVED: state.user_removed,
    RecordKind.ACCESS_KEY_PUT: state.access_key_put,
    RecordKind.ACCESS_KEY_REMOVED: state.access_key_removed,
    RecordKind.EPOCH_OPENED: state.epoch_opened,
    RecordKind.EPOCH_CLOSED: state.epoch_closed,
    RecordKind.SEGMENT_OPENED: state.segment_opened,
    RecordKind.SEGMENT_SWEPT: state.segment_swept,
    RecordKind.CURSOR_MOVED: state.cursor_moved,
    RecordKind.SETTING_PUT: state.setting_put,
    RecordKind.SEGMENTS_REPLACED: state.segments_replaced,
    RecordKind.CHUNKS_PINNED: chunks.chunks_pinned,
    RecordKind.CHUNKS_FREED: chunks.chunks_freed,
    RecordKind.CHUNKS_MOVED: chunks.chunks_moved,
}


def apply(transaction: CatalogTransaction, record: Applicable) -> bytes:
    """Bring the catalog up to `record`.

    Returns:
        The outcome of the operation that made it (outcomes.py), as it is answered and remembered.

    Raises:
        RecordDamaged: a row that it has to change fails its checks.
        lmdb.MapFullError: the map is too small.
    """
    kind, sequence, place, crc, body, _ = record
    total = record.total_bytes
    transaction.log_appended(place[0], sequence, place[1] + total, crc, total)
    _APPLY[kind](transaction, record)
    outcome = outcome_bytes(kind, sequence, body)
    if kind is not RecordKind.EPOCH_CLOSED:
        remember_outcome(transaction, body.operation, outcome)
    return outcome


def remember_outcome(transaction: CatalogTransaction, tag: OperationTag, outcome: bytes) -> None:
    """Keep the outcome of a sender's operation for as long as it may ask again, and drop what it needs no more."""
    epoch, counter, answered = tag
    if epoch:
        transaction.forget_answered(epoch, answered)
        transaction.outcomes(epoch)[counter] = outcome
