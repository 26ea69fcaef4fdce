"""Checking deduplication: chunk rows against what the records of the pins say, packs and totals against chunk rows.

Everything here is derived (STORE.md 8), so it is counted anew and, by `rs3d check --repair`, set right. Chunks are
counted in passes over the pins, each for a share of the hashes, so that memory stays bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from rs3d.errors import RecordDamaged
from rs3d.format.chunkrows import ChunkRow
from rs3d.stores.catalogsnapshot import Snapshot
from rs3d.stores.checkreport import CheckReport, Progress, Severity
from rs3d.types.chunks import DedupTotals, PinBatch
from rs3d.types.identifiers import BlobId

CHUNKS_AT_ONCE: Final = 2_000_000
"""Hashes that are counted in one pass: some 300 MiB of memory."""
REPAIR: Final = "rs3d check --repair --data DIR"
REBUILD: Final = "rs3d check --rebuild --data DIR"


class WrongCount(NamedTuple):
    """A chunk whose row does not say how often it is pinned. `row` None: it is pinned and has none."""

    hash: bytes
    row: ChunkRow | None
    pinned: int


class PackCount(NamedTuple):
    """A pack as the rows of its chunks have it."""

    chunks: int
    live_stored_bytes: int


def check_chunks(view: Snapshot, report: CheckReport, progress: Progress, *, reads_log: bool) -> None:
    """Compare all tables of deduplication. Their rows passed their CRCs.

    Args:
        reads_log: also count what the records of the pins say, and look for pins that no body needs. Without it other
            processes may be writing.

    Blocking: as long as reading a log record for every 1,000 chunks of every body takes.
    """
    if reads_log:
        for found in manifests_without_row(view):
            report.add(Severity.WARNING, f"blob {found.text()}", "it pins chunks, and no row names it", REPAIR)
        _check_counts(view, report, progress)
    packs, totals = count_packs(view)
    for use in view.packs():
        counted = packs.pop(use.pack, PackCount(0, 0))
        if counted != (use.chunks, use.live_stored_bytes) or view.blob_references(use.pack) != counted.chunks:
            references = view.blob_references(use.pack)
            reason = f"its rows say {use.chunks} chunks, {use.live_stored_bytes} bytes and {references} references; "
            reason += f"counted are {counted.chunks} and {counted.live_stored_bytes}"
            report.add(Severity.ERROR, f"pack {use.pack.text()}", reason, REPAIR)
    for pack, counted in sorted(packs.items()):
        report.add(Severity.ERROR, f"pack {pack.text()}", f"{counted.chunks} chunks lie in it; it has no row", REBUILD)
    if totals != view.dedup_totals():
        reason = f"they say {tuple(view.dedup_totals())}, counted are {tuple(totals)}"
        report.add(Severity.ERROR, "totals of deduplication", reason, REPAIR)


def _check_counts(view: Snapshot, report: CheckReport, progress: Progress) -> None:
    try:
        for found in wrong_counts(view, progress):
            what = f"chunk {found.hash.hex()}"
            if found.row is None:
                report.add(Severity.ERROR, what, f"it is pinned {found.pinned} times and has no row", REBUILD)
            else:
                reason = f"{found.row.references} references are recorded, it is pinned {found.pinned} times"
                report.add(Severity.ERROR, what, reason, REPAIR)
    except RecordDamaged as damage:
        reason = f"{damage.reason}: chunks are pinned there and cannot be counted"
        report.add(Severity.ERROR, damage.what, reason, REBUILD)


def wrong_counts(view: Snapshot, progress: Progress) -> Iterator[WrongCount]:
    """Chunks whose rows differ from the pins.

    Raises:
        RecordDamaged: what a batch pins cannot be read.
    """
    total = view.dedup_totals().chunks
    passes = max(1, -(-total // CHUNKS_AT_ONCE))
    for share in range(passes):
        counted: Counter[bytes] = Counter()
        for number, batch in enumerate(view.pins()):
            if number % 100 == 0:
                progress("pins of chunks", share, passes)
            for chunk_hash in view.pinned_hashes(batch.manifest, batch.batch):
                if _share_of(chunk_hash, passes) == share:
                    counted[chunk_hash] += 1
        for key, row in view.chunk_rows():
            if _share_of(key, passes) != share:
                continue
            pinned = counted.pop(key, 0)
            if pinned != row.references:
                yield WrongCount(key, row, pinned)
        for key, pinned in sorted(counted.items()):
            yield WrongCount(key, None, pinned)


def _share_of(chunk_hash: bytes, passes: int) -> int:
    return int.from_bytes(chunk_hash[:4], "big") % passes


def count_packs(view: Snapshot) -> tuple[dict[BlobId, PackCount], DedupTotals]:
    """Packs and totals as the rows of the chunks have them."""
    packs: dict[BlobId, PackCount] = {}
    chunks = client_bytes = stored_bytes = referenced = 0
    for _, row in view.chunk_rows():
        pack = BlobId.from_bytes(row.pack)
        before = packs.get(pack, PackCount(0, 0))
        packs[pack] = PackCount(before.chunks + 1, before.live_stored_bytes + row.stored_bytes)
        chunks += 1
        client_bytes += row.client_bytes
        stored_bytes += row.stored_bytes
        referenced += row.client_bytes * row.references
    return packs, DedupTotals(chunks, client_bytes, stored_bytes, referenced)


def manifests_without_row(view: Snapshot) -> list[BlobId]:
    """Manifests that pin chunks and are neither referred to nor garbage: of bodies that were never committed."""
    return sorted({batch.manifest for batch in orphaned_pins(view)})


def orphaned_pins(view: Snapshot) -> list[PinBatch]:
    """Their batches."""
    return [batch for batch in view.pins() if not view.blob_is_known(batch.manifest)]
