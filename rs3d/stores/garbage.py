"""Unlinking what nothing refers to and nobody can still be reading. STORE.md rules 13, 15 and 16.

The order is the rule: garbage rows are read first, the readers' pages second; a blob goes only where its death sequence
≤ the minimum of the pages. Then `.data`, `.meta`, directory sync (`BlobStore.delete`), and only then the row. A crash
at any point repeats some unlinks, which is harmless: ids are never reused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from rs3d.stores.damage import is_marked
from rs3d.stores.interfaces import BlobStore
from rs3d.types.identifiers import BlobId, Sequence, UploadId

PAGE_ROWS: Final = 1000
"""Rows of one step: 1 ms of a catalog view, and one operation to the committer."""


class GarbageRow(Protocol):
    @property
    def blob(self) -> BlobId: ...

    @property
    def death(self) -> Sequence: ...


class GarbageSetRow(Protocol):
    @property
    def upload(self) -> UploadId: ...


class GarbageView(Protocol):
    """What the collector reads of a catalog view."""

    def garbage(self, after: BlobId | None = None) -> Iterator[GarbageRow]: ...

    def garbage_sets(self) -> Iterator[GarbageSetRow]: ...

    def setting(self, name: str) -> bytes | None: ...


class GarbageCatalog(Protocol):
    def snapshot(self) -> AbstractContextManager[GarbageView]: ...


@dataclass(frozen=True, slots=True)
class Collected:
    """What one pass did."""

    unlinked: int
    """Blobs whose files and rows are gone."""
    held: int
    """Garbage that a reader may still need."""
    freed_sets: int
    """Dead blob sets whose members were all marked; the members go in a later pass."""


def collect_once(
    catalog: GarbageCatalog,
    horizon_minimum: Callable[[], Sequence],
    blobs: BlobStore,
    commit: Callable[[tuple[BlobId, ...]], None],
    free_members: Callable[[UploadId], int] | None = None,
) -> Collected:
    """One pass over all garbage, in steps of PAGE_ROWS. Nothing is unlinked while the store is marked damaged.

    Args:
        horizon_minimum: reads all readers' pages (`horizon.horizon_minimum`); called after each step's rows were read.
        commit: makes the operation DropGarbage and returns when it is durable.
        free_members: makes one operation FreeSetMembers and returns how many members remain.

    Raises:
        Rs3dError: of unlinking or committing; what was done stays done, and the pass may be repeated.

    Blocking: run it in a thread.
    """
    freed_sets = 0
    if free_members is not None:
        with catalog.snapshot() as view:
            uploads = [] if is_marked(view) else [row.upload for row in islice(view.garbage_sets(), PAGE_ROWS)]
        for upload in uploads:
            while free_members(upload) > 0:
                pass
            freed_sets += 1
    unlinked = held = 0
    after: BlobId | None = None
    while True:
        with catalog.snapshot() as view:
            found = () if is_marked(view) else islice(view.garbage(after), PAGE_ROWS)
            rows = [(row.blob, row.death) for row in found]
        if not rows:
            return Collected(unlinked, held, freed_sets)
        minimum = horizon_minimum()
        dead = [blob for blob, death in rows if death <= minimum]
        if dead:
            blobs.delete(dead)
            commit(tuple(dead))
        unlinked += len(dead)
        held += len(rows) - len(dead)
        after = rows[-1][0]
