"""Opening the writing side of a store: catalog, log, recovery, core. Used by the committer process and by the
library's thread.

The caller holds the `writer` lock (STORE.md 9) from before the first call here until after `close`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from rs3d.clock import Clock, SystemClock
from rs3d.format.storemeta import CHECKPOINTS
from rs3d.stores.ballast import Ballast, StoreReserve, writable_descriptor_of
from rs3d.stores.catalogtables import DEFAULT_MAP_BYTES, Access, Tables, open_tables
from rs3d.stores.checkreport import Progress, no_progress
from rs3d.stores.committer import CommitterCore
from rs3d.stores.committerclock import HybridClock
from rs3d.stores.committerspace import SpaceGuard
from rs3d.stores.files import SYSTEM_FILES, Files
from rs3d.stores.layoutmeta import require_feature
from rs3d.stores.log import DEFAULT_SEGMENT_BYTES, LogWriter
from rs3d.stores.recovery import Recovered, open_log
from rs3d.stores.replay import Loss

LOG_DIRECTORY = "log"
CATALOG_DIRECTORY = "catalog"
CATALOG_FILE = "data.mdb"
BEHIND_CATALOG_BYTES = 64 << 20
"""Reserved behind the catalog's end, so that removals, which write pages too, can always be committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitterSettings:
    """How a store's log and catalog are opened."""

    store_id: bytes
    """16 bytes, from store.meta."""
    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    map_bytes: int = DEFAULT_MAP_BYTES
    reserve_bytes: int = 0
    """Adding is refused when the file system has less free than this."""
    loss: Loss = Loss.REFUSE
    """Whether a rebuild (no catalog) goes on where the log is damaged; the store is read-only afterwards, until an
    operator has acknowledged it (`committer.DAMAGE_SETTING`)."""
    ballast_bytes: int = 0
    """Reserved for compaction on a full disk (ballast.SpaceConfig says how much a daemon keeps); 0 keeps none, and no
    blocks behind the catalog's end either."""
    progress: Progress = no_progress
    """Hears of a rebuild: how many segments of the log have been replayed."""
    is_successor: bool = False
    """Whether a committer of the same daemon has served before."""


@dataclass(slots=True)
class OpenedCommitter:
    """The core and what it stands on."""

    core: CommitterCore
    tables: Tables
    recovered: Recovered

    def close(self) -> None:
        """Sync and close the log, then the catalog. All views of the environment must have ended."""
        try:
            self.core.close()
        finally:
            self.tables.close()


def open_committer(
    root: str, settings: CommitterSettings, *, clock: Clock | None = None, files: Files = SYSTEM_FILES
) -> OpenedCommitter:
    """Open log and catalog below `root` (made when missing), roll forward, and be ready to commit. Blocks.

    Raises:
        StoreDamaged, FormatUnknown: see `recovery.open_log`.
        OSError: files cannot be made or read.
    """
    machine_clock = SystemClock() if clock is None else clock
    log_path = os.path.join(root, LOG_DIRECTORY)
    if not os.path.isdir(log_path):
        os.mkdir(log_path, 0o700)
    _sync_root(root, files)
    require_feature(root, CHECKPOINTS, files)
    tables = open_tables(
        os.path.join(root, CATALOG_DIRECTORY),
        access=Access.WRITE,
        map_bytes=settings.map_bytes,
        is_successor=settings.is_successor,
        files=files,
    )
    log: LogWriter | None = None
    try:
        log = LogWriter(log_path, settings.store_id, segment_bytes=settings.segment_bytes, files=files)
        now_ns = machine_clock.wall_ns()
        recovered = open_log(tables, log, log_path, settings.store_id, files, now_ns, settings.loss, settings.progress)
        hybrid = HybridClock(machine_clock, recovered.last_sequence)
        reserve = _reserve(root, settings.ballast_bytes, files) if settings.ballast_bytes else None
        space = SpaceGuard(root, tables, log.preparation, reserve_bytes=settings.reserve_bytes, reserve=reserve)
        core = CommitterCore(tables, log, hybrid, space)
        if recovered.lost:
            core.note_damage(recovered.lost)
        tables.sync()
    except BaseException:
        if log is not None:
            log.close()
        tables.give_up()
        raise
    return OpenedCommitter(core, tables, recovered)


def _reserve(root: str, ballast_bytes: int, files: Files) -> StoreReserve:
    descriptor = writable_descriptor_of(os.path.join(root, CATALOG_DIRECTORY, CATALOG_FILE))
    descriptors = () if descriptor is None else (descriptor,)
    return StoreReserve(Ballast(root, ballast_bytes, files=files), descriptors, BEHIND_CATALOG_BYTES, files=files)


def _sync_root(root: str, files: Files) -> None:
    """Names that whoever was killed gave (store.meta, the directories) and did not live to sync: nothing may be
    acknowledged in a store that a power cut could leave without them."""
    directory = files.open_directory(root)
    try:
        files.sync(directory)
    finally:
        files.close(directory)
