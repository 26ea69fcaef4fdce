"""Checking blobs: files on disk == files reachable, sidecars valid, lengths right, and with `--deep` every byte."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from rs3d.errors import BlobDamaged, FormatUnknown, RecordDamaged
from rs3d.stores.blobexamination import BlobExamination, Buffers
from rs3d.stores.catalogsnapshot import Snapshot
from rs3d.stores.checkreport import CheckReport, Progress, Severity
from rs3d.stores.layout import (
    BLOBS,
    DIRECTORIES,
    STORE_LOCK,
    STORE_META,
    BlobFile,
    parse_file_name,
    parse_segment_name,
    segment_name,
)
from rs3d.stores.sweep import garbage_of
from rs3d.types.identifiers import BlobId, SegmentId

_BEYOND_US: Final = "a backup, a replica, or deleting the objects: rs3d locate BUCKET KEY"


class CheckDepth(Enum):
    """How much of a blob is read."""

    SIDECARS = "sidecars"
    """Sidecars as a whole, and the lengths of data files."""
    ALL_BYTES = "all bytes"
    """Every stored byte too: block CRCs, leaves, root."""


class OrphanJudgement(Enum):
    """Whether a file without a row is known to be one."""

    CERTAIN = "certain"
    """The catalog has applied the whole log."""
    IMPOSSIBLE = "impossible"
    """It has not, or is damaged: the row may be missing only here."""


@dataclass(slots=True)
class Orphans:
    """Files without a row, by what may be done with them."""

    removable: list[BlobId] = field(default_factory=list)
    """In segments that the catalog knows: never committed, or unlinked half way."""
    unexplained: list[BlobId] = field(default_factory=list)
    """In segments that no record opened: part of the log may be lost, so they are quarantined instead."""

    @property
    def count(self) -> int:
        return len(self.removable) + len(self.unexplained)


def check_files(
    root: str,
    view: Snapshot,
    report: CheckReport,
    progress: Progress,
    *,
    depth: CheckDepth,
    judgement: OrphanJudgement,
) -> Orphans:
    """Compare directories with rows, segment by segment.

    Blocking: as long as reading all sidecars (or all bytes) takes.
    """
    segments = _segments_on_disk(root, report)
    recorded = {state.segment for state in view.blob_segments()}
    orphans = Orphans()
    buffers = Buffers()
    everything = sorted(segments | recorded)
    for at, segment in enumerate(everything):
        progress("blob segments", at, len(everything))
        found = _files_on_disk(root, segment, report) if segment in segments else {}
        if segment not in recorded and found and judgement is OrphanJudgement.CERTAIN:
            report.add(Severity.WARNING, f"blobs/{segment_name(segment)}/", "no record opened this segment", _repair())
        known = dict(view.blobs(segment))
        for blob, row in known.items():
            _check_blob(root, blob, row.stored_bytes, found.get(blob, set()), report, depth, buffers)
        garbage = garbage_of(view, segment)
        for blob in known.keys() & garbage:
            report.add(Severity.ERROR, f"blob {blob.text()}", "it is referred to and garbage at once", _rebuild())
        strays = sorted(found.keys() - known.keys() - garbage)
        if segment in recorded:
            orphans.removable += strays
        else:
            orphans.unexplained += strays
        for blob in strays:
            _report_orphan(blob, judgement, report)
    progress("blob segments", len(everything), len(everything))
    report.orphans = orphans.count
    _report_strangers(root, report)
    return orphans


def _check_blob(
    root: str,
    blob: BlobId,
    stored_bytes: int,
    kinds: set[BlobFile],
    report: CheckReport,
    depth: CheckDepth,
    buffers: Buffers,
) -> None:
    report.blobs += 1
    report.blob_bytes += stored_bytes
    try:
        for kind in BlobFile:
            if kind not in kinds:
                raise BlobDamaged(blob=blob.text(), reason=f"its {kind.value} file is missing")
        examination = BlobExamination(root, blob, stored_bytes, buffers)
        try:
            if depth is CheckDepth.ALL_BYTES:
                examination.check_all()
                report.bytes_verified += stored_bytes
        finally:
            examination.close()
    except BlobDamaged as damage:
        report.add(Severity.ERROR, f"blob {blob.text()}", damage.reason, _BEYOND_US)
    except (RecordDamaged, FormatUnknown) as damage:
        report.add(Severity.ERROR, damage.what, damage.reason, f"rs3d dump blobs/{blob.text()}.meta")
    except OSError as error:
        report.add(Severity.ERROR, f"blob {blob.text()}", f"cannot be read: {error}", _BEYOND_US)


# ------------------------------------------------------------------------------------------------------ directories


def _segments_on_disk(root: str, report: CheckReport) -> set[SegmentId]:
    found: set[SegmentId] = set()
    for entry in os.scandir(os.path.join(root, BLOBS)):
        segment = parse_segment_name(entry.name)
        if segment is None or not entry.is_dir(follow_symlinks=False):
            report.add(Severity.WARNING, f"blobs/{entry.name}", "not a directory of rs3d")
        else:
            found.add(segment)
    return found


def _files_on_disk(root: str, segment: SegmentId, report: CheckReport) -> dict[BlobId, set[BlobFile]]:
    found: dict[BlobId, set[BlobFile]] = {}
    for entry in os.scandir(os.path.join(root, BLOBS, segment_name(segment))):
        parsed = parse_file_name(segment, entry.name)
        if parsed is None or not entry.is_file(follow_symlinks=False):
            report.add(Severity.WARNING, f"blobs/{segment_name(segment)}/{entry.name}", "not a file of rs3d")
        else:
            found.setdefault(parsed[0], set()).add(parsed[1])
    return found


def _report_orphan(blob: BlobId, judgement: OrphanJudgement, report: CheckReport) -> None:
    if judgement is OrphanJudgement.CERTAIN:
        report.add(Severity.WARNING, f"blob {blob.text()}", "no row of the catalog names it", _repair())
    else:
        report.add(Severity.INFO, f"blob {blob.text()}", "no row names it yet: the catalog lacks part of the log")


def _report_strangers(root: str, report: CheckReport) -> None:
    beside = {"keyring", "master.key", "root.credentials", "admin.sock", "rs3d.toml"}
    known = {*DIRECTORIES, STORE_META, STORE_LOCK, *beside}
    for name in sorted(set(os.listdir(root)) - known):
        report.add(Severity.INFO, name, "not part of the format")


def _repair() -> str:
    return "rs3d check --repair --data DIR"


def _rebuild() -> str:
    return "rs3d check --rebuild --data DIR"
