"""Unlinking what nothing refers to and nobody can still be reading. STORE.md rules 13, 15 and 16.

The order is the rule: garbage rows are read first, the readers' pages second; a blob goes only where its death sequence
≤ the minimum of the pages. Then, of a manifest, the pins of its chunks, batch by batch; then `.data`, `.meta`,
directory sync (`BlobStore.delete`), and only then the row. A crash at any point repeats some of it, which is harmless:
ids are never reused, and a batch is freed once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from rs3d.errors import RecordDamaged
from rs3d.stores.damage import is_marked
from rs3d.stores.interfaces import BlobStore
from rs3d.telemetry.logs import fields
from rs3d.types.chunks import PinBatch
from rs3d.types.identifiers import BlobId, Sequence, UploadId

log = logging.getLogger(__name__)

FreeChunks = Callable[[BlobId, int, tuple[bytes, ...]], None]
"""Makes one operation FreeChunks (manifest, batch, hashes) and returns when it is durable."""

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


class PinsView(Protocol):
    """What is read of a catalog view to free a manifest's chunks."""

    def pin_batches(self, manifest: BlobId) -> list[PinBatch]: ...

    def pinned_hashes(self, manifest: BlobId, batch: int) -> tuple[bytes, ...]: ...


class PinsCatalog(Protocol):
    def snapshot(self) -> AbstractContextManager[PinsView]: ...


class GarbageView(PinsView, Protocol):
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
    """Garbage that a reader may still need, or whose pins cannot be read."""
    freed_sets: int
    """Dead blob sets whose members were all marked; the members go in a later pass."""
    freed_batches: int = 0
    """Batches of pins; packs that they leave without a chunk go in a later pass."""


def collect_once(
    catalog: GarbageCatalog,
    horizon_minimum: Callable[[], Sequence],
    blobs: BlobStore,
    commit: Callable[[tuple[BlobId, ...]], None],
    free_members: Callable[[UploadId], int] | None = None,
    free_chunks: FreeChunks | None = None,
) -> Collected:
    """One pass over all garbage, in steps of PAGE_ROWS. Nothing is unlinked while the store is marked damaged.

    Args:
        horizon_minimum: reads all readers' pages (`horizon.horizon_minimum`); called after each step's rows were read.
        commit: makes the operation DropGarbage and returns when it is durable.
        free_members: makes one operation FreeSetMembers and returns how many members remain.
        free_chunks: None: blobs that pin chunks are left where they are.

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
    unlinked = held = freed_batches = 0
    after: BlobId | None = None
    while True:
        with catalog.snapshot() as view:
            found = () if is_marked(view) else islice(view.garbage(after), PAGE_ROWS)
            rows = [(row.blob, row.death) for row in found]
        if not rows:
            return Collected(unlinked, held, freed_sets, freed_batches)
        minimum = horizon_minimum()
        dead, freed = _free_pins(catalog, [blob for blob, death in rows if death <= minimum], free_chunks)
        freed_batches += freed
        if dead:
            blobs.delete(dead)
            commit(tuple(dead))
        unlinked += len(dead)
        held += len(rows) - len(dead)
        after = rows[-1][0]


def free_manifest(catalog: PinsCatalog, manifest: BlobId, free_chunks: FreeChunks) -> int:
    """Free all pins of a manifest that can become nothing any more. Returns the number of batches.

    Raises:
        RecordDamaged: the record of a batch cannot be read; those before it were freed.
        Rs3dError: of committing.
    """
    with catalog.snapshot() as view:
        batches = view.pin_batches(manifest)
    for batch in batches:
        free_chunks(manifest, batch.batch, _pinned(catalog, manifest, batch.batch))
    return len(batches)


def _pinned(catalog: PinsCatalog, manifest: BlobId, batch: int) -> tuple[bytes, ...]:
    """What a batch pins. Compaction may have moved its record between the view and the read (STORE.md 3): a second view
    knows where it lies now."""
    try:
        with catalog.snapshot() as view:
            return view.pinned_hashes(manifest, batch)
    except RecordDamaged:
        with catalog.snapshot() as view:
            return view.pinned_hashes(manifest, batch)


def _free_pins(catalog: PinsCatalog, dead: list[BlobId], free_chunks: FreeChunks | None) -> tuple[list[BlobId], int]:
    """Free what dead manifests pin. Returns the blobs that pin nothing now, and how many batches were freed."""
    with catalog.snapshot() as view:
        pinning = {blob for blob in dead if view.pin_batches(blob)}
    freed = 0
    for manifest in sorted(pinning):
        if free_chunks is None:
            break
        try:
            freed += free_manifest(catalog, manifest, free_chunks)
            pinning.discard(manifest)
        except RecordDamaged as damage:
            reason = f"{damage.what}: {damage.reason}"
            log.warning("chunks of a dead body stay pinned", extra=fields(blob=manifest.text(), reason=reason))
    return [blob for blob in dead if blob not in pinning], freed
