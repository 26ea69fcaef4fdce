"""Ids for new blobs: numbers in directories ("segments") that this process's epoch owns (DESIGN 3, STORE.md 10)."""

from __future__ import annotations

from typing import Final

import trio

from rs3d.engine.putline import PutLine
from rs3d.engine.threads import Threads
from rs3d.errors import OutcomeUnknown, Rs3dError
from rs3d.stores.interfaces import BlobStore, Committer
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.operations import OpenSegment

BLOBS_PER_SEGMENT: Final = 4096


class BlobNumbers:
    """Hands out blob ids, each once. Opens a new segment when the last is full: one commit and one directory."""

    def __init__(self, committer: Committer, blobs: BlobStore, threads: Threads) -> None:
        self._committer = committer
        self._blobs = blobs
        self._threads = threads
        self._segment: SegmentId | None = None
        self._next = 0
        self._opening = trio.Lock()
        self._is_opened_aside = self._has_failed = False

    async def take(self) -> BlobId:
        """A blob id never used before. Waits for a commit once in 4,096 times.

        Raises:
            StoreFull, StoreReadOnly, CommitterGone, OutcomeUnknown: no new segment can be opened.
        """
        while self._segment is None or self._next >= BLOBS_PER_SEGMENT:
            async with self._opening:
                if self._segment is None or self._next >= BLOBS_PER_SEGMENT:
                    await self._open()
        number = self._next
        self._next += 1
        return BlobId(self._segment, number)

    def take_now(self) -> BlobId | None:
        """The same without waiting; None where that has to be waited for."""
        if self._segment is None or self._next >= BLOBS_PER_SEGMENT:
            return None
        number = self._next
        self._next += 1
        return BlobId(self._segment, number)

    def open_aside(self, line: PutLine) -> bool:
        """Have a task open a segment for those who wait in `line`. False when the last one failed to: until `take` has
        opened one, it says why."""
        if self._has_failed:
            return False
        if not self._is_opened_aside:
            self._is_opened_aside = True
            line.began()
            trio.lowlevel.spawn_system_task(self._open_for, line)
        return True

    async def _open_for(self, line: PutLine) -> None:
        try:
            async with self._opening:
                if self._segment is None or self._next >= BLOBS_PER_SEGMENT:
                    await self._open()
        except (Rs3dError, OSError):
            self._has_failed = True
        finally:
            self._is_opened_aside = False
            line.ended()

    async def _open(self) -> None:
        with trio.CancelScope(shield=True):
            outcome = await self._committer.commit(OpenSegment(id=self._committer.next_id()))
            segment = outcome.segment
            if segment is None:
                raise OutcomeUnknown(reason="the committer named no segment")
            await self._threads.run(lambda: self._blobs.make_segment(segment))
        self._segment = segment
        self._next = 0
        self._has_failed = False

    def retire(self, segment: SegmentId) -> None:
        """Write no more into `segment`: the fate of one of its blobs is unknown (STORE.md 13)."""
        if self._segment == segment:
            self._segment = None
