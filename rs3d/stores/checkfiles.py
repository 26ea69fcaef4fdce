"""Checking blobs: files on disk == files reachable, sidecars valid, lengths right, and with `--deep` every byte."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from rs3d.errors import BlobDamaged, FormatUnknown, RecordDamaged
from rs3d.format.merkletree import merkle_root
from rs3d.format.sidecar import BLOCK_BYTES, CRC_BYTES, Sidecar, decode_sidecar
from rs3d.format.sidecartables import LeafTable
from rs3d.kernels.crc import crc32c_check_blocks
from rs3d.kernels.posix import pread_into
from rs3d.stores.catalogsnapshot import Snapshot
from rs3d.stores.checkreport import CheckReport, Progress, Severity
from rs3d.stores.layout import (
    BLOBS,
    DIRECTORIES,
    STORE_LOCK,
    STORE_META,
    BlobFile,
    file_name,
    parse_file_name,
    parse_segment_name,
    segment_name,
)
from rs3d.stores.sweep import garbage_of
from rs3d.types.identifiers import BlobId, SegmentId

_READ_BYTES: Final = 4 * 1024 * 1024
_SIDECAR_LIMIT_BYTES: Final = 1 << 30
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
    everything = sorted(segments | recorded)
    for at, segment in enumerate(everything):
        progress("blob segments", at, len(everything))
        found = _files_on_disk(root, segment, report) if segment in segments else {}
        if segment not in recorded and found and judgement is OrphanJudgement.CERTAIN:
            report.add(Severity.WARNING, f"blobs/{segment_name(segment)}/", "no record opened this segment", _repair())
        known = dict(view.blobs(segment))
        for blob, row in known.items():
            _check_blob(root, blob, row.stored_bytes, found.get(blob, set()), report, depth)
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
    root: str, blob: BlobId, stored_bytes: int, kinds: set[BlobFile], report: CheckReport, depth: CheckDepth
) -> None:
    report.blobs += 1
    report.blob_bytes += stored_bytes
    try:
        for kind in BlobFile:
            if kind not in kinds:
                raise BlobDamaged(blob=blob.text(), reason=f"its {kind.value} file is missing")
        sidecar = read_sidecar(root, blob)
        if sidecar.info.stored_bytes != stored_bytes:
            reason = f"the sidecar says {sidecar.info.stored_bytes} bytes, the catalog {stored_bytes}"
            raise BlobDamaged(blob=blob.text(), reason=reason)
        if merkle_root(sidecar.leaves, stored_bytes) != sidecar.info.merkle_root:
            raise BlobDamaged(blob=blob.text(), reason="the Merkle root is not that of the leaves")
        length = os.stat(blob_path(root, blob, BlobFile.DATA), follow_symlinks=False).st_size
        if length != stored_bytes:
            raise BlobDamaged(blob=blob.text(), reason=f"the data file has {length} bytes of {stored_bytes}")
        if depth is CheckDepth.ALL_BYTES:
            _check_bytes(root, blob, sidecar)
            report.bytes_verified += stored_bytes
    except BlobDamaged as damage:
        report.add(Severity.ERROR, f"blob {blob.text()}", damage.reason, _BEYOND_US)
    except (RecordDamaged, FormatUnknown) as damage:
        report.add(Severity.ERROR, damage.what, damage.reason, f"rs3d dump blobs/{blob.text()}.meta")
    except OSError as error:
        report.add(Severity.ERROR, f"blob {blob.text()}", f"cannot be read: {error}", _BEYOND_US)


def read_sidecar(root: str, blob: BlobId) -> Sidecar:
    """The whole sidecar of a blob, checked.

    Raises:
        RecordDamaged, FormatUnknown, OSError
    """
    what = f"blobs/{blob.text()}.meta"
    descriptor = os.open(blob_path(root, blob, BlobFile.META), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        sidecar = decode_sidecar(file.read(_SIDECAR_LIMIT_BYTES), what=what)
    if sidecar.info.blob != blob:
        raise RecordDamaged(what=what, reason=f"it names blob {sidecar.info.blob.text()}")
    return sidecar


def _check_bytes(root: str, blob: BlobId, sidecar: Sidecar) -> None:
    leaves, offset = LeafTable(), 0
    buffer = memoryview(bytearray(_READ_BYTES))
    descriptor = os.open(blob_path(root, blob, BlobFile.DATA), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        while count := pread_into(descriptor, buffer, offset):
            first = offset // BLOCK_BYTES
            rows = sidecar.block_crcs[CRC_BYTES * first : CRC_BYTES * (first + -(-count // BLOCK_BYTES))]
            bad = crc32c_check_blocks(buffer[:count], BLOCK_BYTES, rows)
            if bad >= 0:
                raise BlobDamaged(blob=blob.text(), reason=f"CRC32C of block {first + bad} differs")
            leaves.update(buffer[:count])
            offset += count
    finally:
        os.close(descriptor)
    if leaves.rows() != sidecar.leaves:
        raise BlobDamaged(blob=blob.text(), reason="a SHA-256 leaf differs")


def blob_path(root: str, blob: BlobId, kind: BlobFile) -> str:
    """Path of one of a blob's files."""
    return os.path.join(root, BLOBS, segment_name(blob.segment), file_name(blob, kind))


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
