"""Freed blobs go from the disk once no reader can need them; directories of ended epochs are swept of files without
a row.

The rules are in stores/garbage.py and stores/sweep.py; this is when and how often. Both steps run in a thread; their
operations are
committed on the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio
import trio.from_thread
import trio.to_thread

from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.garbage import GarbageCatalog, collect_once
from rs3d.stores.interfaces import Committer
from rs3d.stores.sweep import SweepCatalog, sweep_once
from rs3d.types.identifiers import BlobId, OperationId, SegmentId, Sequence, UploadId
from rs3d.types.operations import DropGarbage, FreeChunks, FreeSetMembers, Operation, Outcome, SegmentSwept

IDLE_FACTOR: Final = 5.0
"""Without garbage the next look waits so much longer; a look is one read of an empty table."""


@dataclass(slots=True)
class GarbageService:
    """A service that unlinks garbage."""

    catalog: GarbageCatalog
    blobs: LocalBlobStore
    committer: Committer
    horizon_minimum: Callable[[], Sequence]
    freed: Callable[[int], None]
    interval_s: float
    name: str = "garbage"
    held: int = 0
    """Blobs that the last pass left because a reader may need them."""

    async def step(self) -> float:
        collected = await trio.to_thread.run_sync(
            collect_once,
            self.catalog,
            self.horizon_minimum,
            self.blobs,
            self._drop,
            self._free_members,
            partial(free_chunks, self.committer),
        )
        self.held = collected.held
        if collected.unlinked:
            self.freed(collected.unlinked)
        busy = collected.unlinked or collected.freed_sets or collected.held or collected.freed_batches
        return self.interval_s if busy else self.interval_s * IDLE_FACTOR

    def _drop(self, blobs: tuple[BlobId, ...]) -> None:
        _commit_from_thread(self.committer, lambda id: DropGarbage(id=id, blobs=blobs))

    def _free_members(self, upload: UploadId) -> int:
        return _commit_from_thread(self.committer, lambda id: FreeSetMembers(id=id, upload=upload)).remaining


@dataclass(slots=True)
class SweepService:
    """A service that sweeps segments of closed epochs, each once."""

    catalog: SweepCatalog
    blobs: LocalBlobStore
    committer: Committer
    interval_s: float
    name: str = "sweep"
    orphans: int = field(default=0)
    """Files without a row that were removed since the start."""

    async def step(self) -> float:
        swept = await trio.to_thread.run_sync(
            sweep_once, self.catalog, self.blobs, self._report, partial(free_chunks, self.committer)
        )
        self.orphans += len(swept.orphans)
        return self.interval_s

    def _report(self, segment: SegmentId) -> None:
        _commit_from_thread(self.committer, lambda id: SegmentSwept(id=id, segment=segment))


def free_chunks(committer: Committer, manifest: BlobId, batch: int, hashes: tuple[bytes, ...]) -> None:
    """Free one batch of pins; from a service's thread."""
    _commit_from_thread(committer, lambda id: FreeChunks(id=id, manifest=manifest, batch=batch, hashes=hashes))


def _commit_from_thread(committer: Committer, make: Callable[[OperationId], Operation]) -> Outcome:
    """Commit from a service's thread. Ids are taken on the loop, where everybody else takes theirs."""

    async def commit() -> Outcome:
        return await committer.commit(make(committer.next_id()))

    return trio.from_thread.run(commit)
