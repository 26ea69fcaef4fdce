"""Opening the writing side of a store: catalog, log, recovery, core. Used by the committer process and by the
library's thread.

The caller holds the `writer` lock (STORE.md 9) from before the first call here until after `close`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from rs3d.clock import Clock, SystemClock
from rs3d.stores.catalogtables import DEFAULT_MAP_BYTES, Access, Tables, open_tables
from rs3d.stores.committer import CommitterCore
from rs3d.stores.committerclock import HybridClock
from rs3d.stores.committerspace import SpaceGuard
from rs3d.stores.files import SYSTEM_FILES, Files
from rs3d.stores.log import DEFAULT_SEGMENT_BYTES, LogWriter
from rs3d.stores.recovery import Recovered, open_log

LOG_DIRECTORY = "log"
CATALOG_DIRECTORY = "catalog"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitterSettings:
    """How a store's log and catalog are opened."""

    store_id: bytes
    """16 bytes, from store.meta."""
    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    map_bytes: int = DEFAULT_MAP_BYTES
    reserve_bytes: int = 0
    """Adding is refused when the file system has less free than this."""


@dataclass(slots=True)
class OpenedCommitter:
    """The core and what it stands on."""

    core: CommitterCore
    tables: Tables
    recovered: Recovered

    def close(self) -> None:
        """Sync and close the log, then the catalog. All views of the environment must have ended."""
        self.core.close()
        self.tables.environment.close()


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
        _sync_directory(root)
    tables = open_tables(os.path.join(root, CATALOG_DIRECTORY), access=Access.WRITE, map_bytes=settings.map_bytes)
    log: LogWriter | None = None
    try:
        log = LogWriter(log_path, settings.store_id, segment_bytes=settings.segment_bytes, files=files)
        recovered = open_log(tables, log, log_path, settings.store_id, files, machine_clock.wall_ns())
        hybrid = HybridClock(machine_clock, recovered.last_sequence)
        space = SpaceGuard(root, tables, log.preparation, reserve_bytes=settings.reserve_bytes)
        core = CommitterCore(tables, log, hybrid, space)
    except BaseException:
        if log is not None:
            log.close()
        tables.environment.close()
        raise
    return OpenedCommitter(core, tables, recovered)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
