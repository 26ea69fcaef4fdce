"""The offline check of a store: log, catalog and blobs against each other (`rs3d check`).

It holds the `daemon` and `use` locks, so nothing else has the store open. Without a mode that writes, nothing is
changed: a catalog that lacks the end of the log (a crash before the last commit) is then reported as such, and files
without a row are not called orphans.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import ExitStack
from enum import Enum
from typing import Final

from rs3d.clock import Clock, SystemClock
from rs3d.errors import FormatUnknown, RecordDamaged, Rs3dError, StoreDamaged
from rs3d.format.storemeta import StoreMeta
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogpages import require_whole
from rs3d.stores.catalogsettling import settle_for_reading
from rs3d.stores.catalogtables import Access, Tables, open_tables
from rs3d.stores.catalogwriter import EMPTY_TAIL
from rs3d.stores.checkcatalog import check_catalog
from rs3d.stores.checkfiles import CheckDepth, OrphanJudgement, Orphans, check_files
from rs3d.stores.checklog import RESTORE, check_log
from rs3d.stores.checkreport import CheckReport, Progress, Severity, no_progress
from rs3d.stores.chunkmending import mend_chunks
from rs3d.stores.committeropen import CommitterSettings, OpenedCommitter, open_committer
from rs3d.stores.committerservice import CommitterService
from rs3d.stores.damage import is_marked
from rs3d.stores.files import SYSTEM_FILES
from rs3d.stores.layout import CATALOG, LOG, QUARANTINE, make_directories, segment_name
from rs3d.stores.layoutmeta import read_store_meta
from rs3d.stores.lock import LockMode, LockRange, StoreLock
from rs3d.stores.logreader import LogReader
from rs3d.stores.replay import Loss

ROLE: Final = "check"
SEGMENT_BYTES: Final = 4 * 1024 * 1024
"""Of the log segment that a repair begins: it takes a few records, and the next daemon begins its own."""
_REBUILD: Final = "rs3d check --rebuild --data DIR"
ACKNOWLEDGE_COMMAND: Final = "rs3d check --acknowledge-loss --data DIR"


class CheckMode(Enum):
    """What a check may change."""

    READ = "read"
    """Nothing."""
    REPAIR = "repair"
    """Apply the end of the log, close epochs of dead processes, count chunks anew, remove orphans."""
    REBUILD = "rebuild"
    """Put the catalog aside and make it anew from the log; then as REPAIR."""


def check_store(
    root: str,
    *,
    mode: CheckMode = CheckMode.READ,
    depth: CheckDepth = CheckDepth.SIDECARS,
    loss: Loss = Loss.REFUSE,
    progress: Progress = no_progress,
    clock: Clock | None = None,
) -> CheckReport:
    """Check the store at `root`, which nothing else may have open.

    With REBUILD and `Loss.ACCEPT` the catalog is made of what the log still has. The lost ranges are reported, the
    store is marked (read-only until `acknowledge_loss`), and nothing is unlinked.

    Raises:
        StoreBusy: something has it open.
        FormatUnknown: it is no store, or of a later version.
        OSError: directories cannot be listed, or repairs not written.

    Blocking: as long as reading the log, the catalog and all sidecars takes; with ALL_BYTES, all data.
    """
    report = CheckReport(root)
    with ExitStack() as stack:
        stack.enter_context(StoreLock.acquire(root, LockRange.DAEMON, LockMode.EXCLUSIVE, ROLE))
        stack.enter_context(StoreLock.acquire(root, LockRange.USE, LockMode.EXCLUSIVE, ROLE))
        try:
            meta = read_store_meta(root)
        except StoreDamaged as damage:
            report.add(Severity.ERROR, "store.meta", damage.reason, damage.command)
            return report
        if mode is not CheckMode.READ:
            stack.enter_context(StoreLock.acquire(root, LockRange.WRITER, LockMode.EXCLUSIVE, ROLE))
            make_directories(root)
            accepts = mode is CheckMode.REBUILD and loss is Loss.ACCEPT
            if mode is CheckMode.REBUILD and not accepts and not _log_is_whole(root, meta, report, progress):
                return report
            accepted = loss if accepts else Loss.REFUSE
            if not _bring_up_to_date(root, meta, mode, clock or SystemClock(), report, accepted, progress):
                return report
        orphans = _inspect(root, meta, depth, report, progress)
        if mode is not CheckMode.READ and orphans.count and loss is Loss.REFUSE and not _is_marked(root, meta):
            _remove(root, orphans, report)
    return report


def _bring_up_to_date(
    root: str,
    meta: StoreMeta,
    mode: CheckMode,
    clock: Clock,
    report: CheckReport,
    loss: Loss,
    progress: Progress,
) -> bool:
    """Open the writing side once, as a daemon would: the log's end is applied, dead epochs are closed, and what counts
    chunks is set right."""
    if mode is CheckMode.REBUILD:
        _put_catalog_aside(root, clock, report)
    settings = CommitterSettings(
        store_id=meta.store_id,
        map_bytes=meta.map_bytes,
        segment_bytes=SEGMENT_BYTES,
        loss=loss,
        progress=progress,
    )
    try:
        if mode is CheckMode.REPAIR:
            settle_for_reading(os.path.join(root, CATALOG), SYSTEM_FILES)
            require_whole(os.path.join(root, CATALOG))
        opened = open_committer(root, settings, clock=clock)
    except Rs3dError as error:
        command = error.command if isinstance(error, StoreDamaged) else _REBUILD
        report.add(Severity.ERROR, "log and catalog", str(error), command)
        return False
    try:
        service = CommitterService(opened.core)
        service.close_stale_epochs()
        service.close()
        report.repaired += opened.recovered.applied
        for lost in opened.recovered.lost:
            reason = f"records after sequence {lost.after} and before {lost.before} are lost: {lost.reason}"
            report.add(Severity.WARNING, "log/", reason, ACKNOWLEDGE_COMMAND)
        if not opened.core.damage:
            _mend_chunks(root, meta, opened, report, progress)
    finally:
        opened.close()
    return True


def _mend_chunks(root: str, meta: StoreMeta, opened: OpenedCommitter, report: CheckReport, progress: Progress) -> None:
    catalog = LocalCatalog(opened.tables, LogReader(os.path.join(root, LOG), meta.store_id))
    try:
        mend_chunks(opened.core, catalog, report, progress)
    except RecordDamaged as damage:  # a row; the check that follows reports it with the command to run
        report.add(Severity.INFO, damage.what, f"{damage.reason}: chunks could not be set right")
    finally:
        catalog.close()


def _open_tables(root: str, meta: StoreMeta) -> Tables:
    """For reading, once every page has been found sound: a damaged one might end this process. A catalog that was not
    closed goes back to its checkpoint first, as at any other opening.

    Raises:
        FormatUnknown, StoreDamaged
    """
    path = os.path.join(root, CATALOG)
    settle_for_reading(path, SYSTEM_FILES)
    require_whole(path)
    return open_tables(path, access=Access.READ, map_bytes=meta.map_bytes)


def _is_marked(root: str, meta: StoreMeta) -> bool:
    tables = _open_tables(root, meta)
    catalog = LocalCatalog(tables, LogReader(os.path.join(root, LOG), meta.store_id))
    try:
        with catalog.snapshot() as view:
            return is_marked(view)
    finally:
        catalog.close()
        tables.environment.close()


def acknowledge_loss(root: str, *, clock: Clock | None = None) -> bool:
    """Take the mark from a store that was rebuilt without part of its log: it is writable again, and blobs without a
    row are swept. Whether there was a mark.

    Raises:
        StoreBusy, FormatUnknown, StoreDamaged

    Blocking: as long as opening the store takes.
    """
    with ExitStack() as stack:
        for kind in (LockRange.DAEMON, LockRange.USE, LockRange.WRITER):
            stack.enter_context(StoreLock.acquire(root, kind, LockMode.EXCLUSIVE, ROLE))
        meta = read_store_meta(root)
        if not _is_marked(root, meta):
            return False
        settings = CommitterSettings(store_id=meta.store_id, map_bytes=meta.map_bytes, segment_bytes=SEGMENT_BYTES)
        opened = open_committer(root, settings, clock=clock or SystemClock())
        try:
            opened.core.acknowledge_damage()
        finally:
            opened.close()
    return True


def _log_is_whole(root: str, meta: StoreMeta, report: CheckReport, progress: Progress) -> bool:
    """Whether a catalog made from the log would have all that the present one has, as far as that can be read."""
    tail = EMPTY_TAIL
    with contextlib.suppress(StoreDamaged, FormatUnknown, RecordDamaged):
        tables = _open_tables(root, meta)
        catalog = LocalCatalog(tables, LogReader(os.path.join(root, LOG), meta.store_id))
        try:
            with catalog.snapshot() as view:
                tail = view.tail
        finally:
            catalog.close()
            tables.environment.close()
    found = CheckReport(root)
    check_log(root, meta.store_id, tail, found, progress)
    if found.worst < Severity.ERROR:
        return True
    report.findings += found.findings
    report.add(Severity.ERROR, "catalog/", "not rebuilt: the log has lost what the catalog may still know", RESTORE)
    return False


def _put_catalog_aside(root: str, clock: Clock, report: CheckReport) -> None:
    files = SYSTEM_FILES
    name = f"{CATALOG}-{clock.wall_ns()}"
    top = files.open_directory(root)
    quarantine = files.open_directory(QUARANTINE, directory=top)
    try:
        files.rename(CATALOG, name, source_directory=top, target_directory=quarantine)
        files.make_directory(CATALOG, directory=top)
        files.sync(quarantine)
        files.sync(top)
    finally:
        files.close(quarantine)
        files.close(top)
    report.add(Severity.INFO, f"{QUARANTINE}/{name}", "the catalog that was replaced", f"rm -r {QUARANTINE}/{name}")


def _inspect(root: str, meta: StoreMeta, depth: CheckDepth, report: CheckReport, progress: Progress) -> Orphans:
    """Read everything; returns what can be removed."""
    log = LogReader(os.path.join(root, LOG), meta.store_id)
    try:
        tables = _open_tables(root, meta)
    except (StoreDamaged, FormatUnknown) as error:
        check_log(root, meta.store_id, EMPTY_TAIL, report, progress)
        report.records_beyond_catalog = 0
        report.add(Severity.ERROR, "catalog/", str(error), _REBUILD)
        return Orphans()
    catalog = LocalCatalog(tables, log)
    try:
        with catalog.snapshot() as view:
            tail = view.tail
        is_complete = check_log(root, meta.store_id, tail, report, progress)
        is_sound = check_catalog(catalog, log, report, progress)
        certain = is_complete and is_sound and report.worst < Severity.ERROR
        judgement = OrphanJudgement.CERTAIN if certain else OrphanJudgement.IMPOSSIBLE
        with catalog.snapshot() as view:
            orphans = check_files(root, view, report, progress, depth=depth, judgement=judgement)
        return orphans if certain else Orphans()
    except RecordDamaged as damage:
        report.add(Severity.ERROR, damage.what, damage.reason, _REBUILD)
        return Orphans()
    finally:
        catalog.close()
        tables.environment.close()


def _remove(root: str, orphans: Orphans, report: CheckReport) -> None:
    """Remove orphans: all epochs are closed by now, and the catalog has applied the whole, undamaged log."""
    blobs = LocalBlobStore(root)
    every = orphans.removable + orphans.unexplained
    try:
        blobs.delete(orphans.removable)
        for blob in orphans.unexplained:
            blobs.quarantine(blob, "no row of the catalog names it, and no record opened its segment")
        segments = {blob.segment for blob in every}
        for segment in segments:
            blobs.remove_segment(segment)
    finally:
        blobs.close()
    removed = {f"blob {blob.text()}" for blob in every} | {f"blobs/{segment_name(segment)}/" for segment in segments}
    report.findings = [
        finding for finding in report.findings if not (finding.severity is Severity.WARNING and finding.what in removed)
    ]
    report.repaired += len(every)
    report.add(Severity.INFO, "blobs/", f"{len(orphans.removable)} blobs without a row were removed")
    if orphans.unexplained:
        reason = f"{len(orphans.unexplained)} blobs of segments that no record opened were moved here"
        report.add(Severity.INFO, f"{QUARANTINE}/", reason)


def assert_files_reachable(root: str, *, depth: CheckDepth = CheckDepth.ALL_BYTES) -> CheckReport:
    """Check a closed store, for the end of a test: files on disk == files reachable, everything valid.

    Raises:
        AssertionError: with every finding that is not mere information.
    """
    report = check_store(root, depth=depth)
    if not report.is_clean:
        bad = [f"{finding.what}: {finding.reason}" for finding in report.findings if finding.severity > Severity.INFO]
        raise AssertionError("; ".join(bad))
    return report
