"""Log segments that are mostly dead are rewritten, and what a rewriting replaced goes once no reader can need it.

The committer does the rewriting between its batches and chooses the run; this asks it to, now and then (STORE.md 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from rs3d.stores.interfaces import Committer
from rs3d.types.identifiers import Sequence
from rs3d.types.operations import CompactLog, DropLogSegments

SEGMENTS_DROPPED_AT_ONCE: Final = 64
"""Of one operation: each is an unlink in the committer's way."""

BUSY_PAUSE_S: Final = 1.0
"""After a run was worth rewriting, the next one may be too."""


class LogView(Protocol):
    """What this service reads of a catalog view."""

    def replaced_log_segments(self) -> Iterator[tuple[int, Sequence]]: ...


class LogCatalog(Protocol):
    def snapshot(self) -> AbstractContextManager[LogView]: ...


@dataclass(slots=True)
class CompactionService:
    """A service. `freed` is told the bytes that went."""

    catalog: LogCatalog
    committer: Committer
    horizon_minimum: Callable[[], Sequence]
    freed: Callable[[int], None]
    interval_s: float
    name: str = "compaction"

    async def step(self) -> float:
        await self.drop_replaced()
        outcome = await self.committer.commit(CompactLog(id=self.committer.next_id()))
        if outcome.sequence == 0:
            return self.interval_s
        self.freed(outcome.remaining)
        return BUSY_PAUSE_S

    async def drop_replaced(self) -> int:
        """Drop segments that a compaction replaced and nobody reads. Returns their number.

        The rows are read before the readers' pages, as with blobs (STORE.md 15).
        """
        with self.catalog.snapshot() as view:
            rows = list(islice(view.replaced_log_segments(), SEGMENTS_DROPPED_AT_ONCE))
        minimum = self.horizon_minimum() if rows else Sequence(0)
        numbers = tuple(number for number, death in rows if death <= minimum)
        if numbers:
            await self.committer.commit(DropLogSegments(id=self.committer.next_id(), numbers=numbers))
        return len(numbers)
