"""Removing files that no row names: what a crash or a refusal left in directories of ended epochs. STORE.md rule 10.

Only segments of *closed* epochs are looked at. Their processes are dead and their last operations were committed or
refused, so no new row can appear for a file there: a file without a row in `blobs` or `garbage` is an orphan, never an
upload in flight. What a manifest without a row pinned is nobody's for the same reason: it is freed before its files go.
A store that was rebuilt after a loss quarantines orphans instead of unlinking them (rule 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Protocol

from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.damage import is_marked
from rs3d.stores.garbage import FreeChunks, GarbageRow, PinsView, free_manifest
from rs3d.types.chunks import PinBatch
from rs3d.types.identifiers import BlobId, SegmentId


class OrphanRule(Enum):
    """What becomes of files without a row."""

    UNLINK = "unlink"
    QUARANTINE = "quarantine"
    """After a rebuild that lost part of the log: they may be what was lost."""


class SegmentRow(Protocol):
    @property
    def segment(self) -> SegmentId: ...

    @property
    def closed(self) -> bool: ...

    @property
    def swept(self) -> bool: ...


class SweepView(PinsView, Protocol):
    """What the sweep reads of a catalog view."""

    def pins(self, segment: SegmentId | None = None) -> Iterator[PinBatch]: ...

    def blob_segments(self) -> Iterator[SegmentRow]: ...

    def blobs(self, segment: SegmentId | None = None) -> Iterator[tuple[BlobId, object]]: ...

    def garbage(self, after: BlobId | None = None) -> Iterator[GarbageRow]: ...

    def setting(self, name: str) -> bytes | None: ...


class SweepCatalog(Protocol):
    def snapshot(self) -> AbstractContextManager[SweepView]: ...


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did."""

    segments: int
    orphans: tuple[BlobId, ...]
    freed_batches: int = 0
    """Batches of pins whose manifests came to nothing."""


def sweep_once(
    catalog: SweepCatalog,
    blobs: LocalBlobStore,
    report_swept: Callable[[SegmentId], None],
    free_chunks: FreeChunks,
    rule: OrphanRule = OrphanRule.UNLINK,
) -> Swept:
    """Sweep every segment of a closed epoch that was not swept since it closed. Nothing while the store is marked
    damaged: what has no row now may have had one in the part of the log that is lost.

    Args:
        report_swept: makes the operation that notes the sweep in the catalog, and returns when it is durable.

    Raises:
        RecordDamaged: what a manifest pinned cannot be read; its segment stays to be swept.
        Rs3dError: of listing, unlinking or committing; the sweep may be repeated.

    Blocking: run it in a thread.
    """
    with catalog.snapshot() as view:
        if is_marked(view):
            return Swept(0, ())
        due = [row.segment for row in view.blob_segments() if row.closed and not row.swept]
    orphans: list[BlobId] = []
    freed = 0
    for segment in due:
        if rule is OrphanRule.UNLINK:
            freed += _free_orphans(catalog, segment, free_chunks)
        orphans += sweep_segment(catalog, blobs, segment, rule)
        report_swept(segment)
    return Swept(len(due), tuple(orphans), freed)


def _free_orphans(catalog: SweepCatalog, segment: SegmentId, free_chunks: FreeChunks) -> int:
    """Free what manifests without a row pin; those in `garbage` are the collector's."""
    with catalog.snapshot() as view:
        pinning = {batch.manifest for batch in view.pins(segment)}
        orphans = sorted(pinning - known_blobs(view, segment)) if pinning else []
    return sum(free_manifest(catalog, manifest, free_chunks) for manifest in orphans)


def known_blobs(view: SweepView, segment: SegmentId) -> set[BlobId]:
    """The blobs of a segment that a row of `blobs` or `garbage` names: at most 4,096."""
    return {blob for blob, _ in view.blobs(segment)} | garbage_of(view, segment)


def garbage_of(view: SweepView, segment: SegmentId) -> set[BlobId]:
    """The blobs of a segment that a row of `garbage` names."""
    before = None if segment == 0 else BlobId(SegmentId(segment - 1), (1 << 32) - 1)
    return {row.blob for row in takewhile(lambda row: row.blob.segment == segment, view.garbage(before))}


def sweep_segment(
    catalog: SweepCatalog, blobs: LocalBlobStore, segment: SegmentId, rule: OrphanRule = OrphanRule.UNLINK
) -> list[BlobId]:
    """Remove the orphans of one segment, which the caller knows to be of a closed epoch; its directory too, when empty.

    Raises and blocks as `sweep_once`.
    """
    found = blobs.list_segment(segment)
    with catalog.snapshot() as view:  # opened after the listing: a row that went meanwhile is garbage's business
        known = known_blobs(view, segment)
    orphans = [blob for blob in found if blob not in known]
    if rule is OrphanRule.QUARANTINE:
        for blob in orphans:
            blobs.quarantine(blob, "no row of the catalog names it, and part of the log was lost")
    elif orphans:
        blobs.delete(orphans)
    if len(orphans) == len(found):
        blobs.remove_segment(segment)
    return orphans
