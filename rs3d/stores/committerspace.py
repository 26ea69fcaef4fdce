"""When the committer refuses to add data: before the disk or the catalog's map is full (STORE.md 22)."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from typing import Final

from rs3d.errors import StoreFull
from rs3d.stores.ballast import StoreReserve
from rs3d.stores.catalogtables import Tables
from rs3d.stores.log import LogPreparation
from rs3d.stores.mapresizing import COMMAND

log = logging.getLogger(__name__)

CHECK_INTERVAL_S: Final = 0.25
MINIMUM_CATALOG_BYTES: Final = 64 << 20
PAGE_BYTES: Final = 4096
"""Of liblmdb here."""

MINIMUM_CATALOG_SHARE: Final = 20
"""A twentieth (5 %) of the map, or 64 MiB, whichever is more; never more than half of a small map (tests, tools)."""


class SpaceGuard:
    """Answers whether adding is admitted, from a look at most every quarter of a second."""

    def __init__(
        self,
        root: str,
        tables: Tables,
        preparation: LogPreparation,
        *,
        reserve_bytes: int = 0,
        reserve: StoreReserve | None = None,
    ) -> None:
        """Begin to watch.

        Args:
            reserve_bytes: free space of the file system below which adding is refused, beside ballast and spare.
            reserve: ballast and blocks behind the catalog's end; kept whole from here.
        """
        self._reserve = reserve
        self._root = root
        self._tables = tables
        self._environment = tables.environment
        self._preparation = preparation
        self._reserve_bytes = reserve_bytes
        self._checked_s = -1.0
        self._refusal: StoreFull | None = None

    def refusal(self) -> StoreFull | None:
        """Why adding is refused now; None when it is admitted."""
        now_s = time.monotonic()
        if now_s - self._checked_s >= CHECK_INTERVAL_S:
            self._checked_s = now_s
            before, self._refusal = self._refusal, self._look()
            if self._refusal is not None and before is None:
                log.warning("nothing is added any more: %s", self._refusal)
            elif self._refusal is None and before is not None:
                log.info("there is room again")
        return self._refusal

    def look_again(self) -> None:
        """Forget the last look: space was freed, or a test wants to know."""
        self._checked_s = -1.0

    @contextlib.contextmanager
    def lent(self, needed_bytes: int) -> Iterator[None]:
        """For the time of a compaction: its ballast is given back to the disk if less than `needed_bytes` are free."""
        statistics = os.statvfs(self._root)
        if self._reserve is None or statistics.f_bavail * statistics.f_frsize >= needed_bytes:
            yield
            return
        self.look_again()
        with self._reserve.lend():
            yield
        self.look_again()

    def _look(self) -> StoreFull | None:
        statistics = os.statvfs(self._root)
        free_bytes = statistics.f_bavail * statistics.f_frsize
        if free_bytes < self._reserve_bytes:
            return StoreFull(what="the file system", free_bytes=free_bytes, needed_bytes=self._reserve_bytes)
        if self._reserve is not None:
            try:
                missing = self._reserve.keep()
            except OSError as error:  # the committer lives on; removals need no reserve
                return StoreFull(what=f"the reserve of the store ({error})", free_bytes=free_bytes, needed_bytes=0)
            if missing is not None:
                return missing
        failure = self._preparation.failure
        if failure is not None and not self._preparation.has_spare:
            needed = self._preparation.segment_bytes
            self._preparation.retry()
            return StoreFull(what=f"the next log segment ({failure})", free_bytes=free_bytes, needed_bytes=needed)
        info = self._environment.info()
        map_bytes = int(info["map_size"])
        used_bytes = (int(info["last_pgno"]) + 1) * PAGE_BYTES
        wanted = min(max(MINIMUM_CATALOG_BYTES, map_bytes // MINIMUM_CATALOG_SHARE), map_bytes // 2)
        if map_bytes - used_bytes < wanted:
            free = map_bytes - self._bytes_in_use()  # pages below the last one may be free: only then count
            if free < wanted:
                return StoreFull(what=f"the catalog's map ({COMMAND})", free_bytes=free, needed_bytes=wanted)
        return None

    def _bytes_in_use(self) -> int:
        """Pages that the tables really hold; the others are on LMDB's free list or were never used."""
        pages = 0
        with self._environment.begin() as view:
            for table in self._tables.all:
                numbers = view.stat(table.handle)
                pages += numbers["branch_pages"] + numbers["leaf_pages"] + numbers["overflow_pages"]
        return int(pages) * PAGE_BYTES
