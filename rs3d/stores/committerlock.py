"""Object lock: the one function that says whether a version may be removed or its lock loosened. It fails closed.

Source: S3 User Guide, "Locking objects with Object Lock". STORE.md 19.
"""

from __future__ import annotations

from rs3d.errors import ObjectLocked
from rs3d.format.rows import (
    FLAG_LEGAL_HOLD,
    RETENTION_COMPLIANCE,
    RETENTION_GOVERNANCE,
    RETENTION_NONE,
    VersionRow,
)
from rs3d.stores.catalogwriter import KeyState
from rs3d.types.identifiers import Sequence, VersionId
from rs3d.types.objects import MutablePart, RetentionMode
from rs3d.types.operations import Bypass


def check_unlocked(
    state: KeyState,
    sequence: Sequence,
    row: VersionRow,
    *,
    bucket_name: str,
    now_ns: int,
    clock_is_suspect: bool,
    bypass: Bypass,
    replacement: MutablePart | None = None,
) -> None:
    """Permit the removal of a version, or (with `replacement`) the change of its lock; return only when it is
    permitted.

    Args:
        now_ns: the earlier of wall clock and last sequence.

    Raises:
        ObjectLocked
    """
    if row.retention_mode == RETENTION_NONE and not row.flags & FLAG_LEGAL_HOLD:
        return

    def refuse(reason: str) -> ObjectLocked:
        text = "null" if row.is_null else VersionId(sequence, row.token).text()
        return ObjectLocked(bucket=bucket_name, key=state.key, version_id=text, reason=reason)

    if replacement is None and row.flags & FLAG_LEGAL_HOLD:
        raise refuse("it is under legal hold")
    if row.retention_mode == RETENTION_NONE:
        return
    if replacement is not None and _keeps_retention(row, replacement):
        return
    if clock_is_suspect:
        raise refuse("the clock of this machine is in doubt")
    if row.retention_until_ns <= now_ns:
        return
    if row.retention_mode == RETENTION_GOVERNANCE and bypass is Bypass.GOVERNANCE:
        return
    raise refuse("its retention has not ended")


def _keeps_retention(row: VersionRow, replacement: MutablePart) -> bool:
    """Whether the new retention holds at least as long and as strictly as the old."""
    retention = replacement.retention
    if retention is None or retention.until_ns < row.retention_until_ns:
        return False
    return row.retention_mode != RETENTION_COMPLIANCE or retention.mode is RetentionMode.COMPLIANCE
