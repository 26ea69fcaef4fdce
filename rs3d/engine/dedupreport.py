"""What deduplication saves, of the whole store."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

from rs3d.engine.runtime import Runtime
from rs3d.types.identifiers import BlobId

_PACKS_AT_ONCE: Final = 5000
"""A view lives at most 50 ms; so many rows take some 10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupReport:
    """Chunks and packs; manifests (40 bytes a chunk and reference) are not in it.

    A chunk that repeats within a piece of one body counts as one reference: the body's repeats are saved beside.
    """

    chunks: int
    referenced_bytes: int
    """Client bytes of all references."""
    unique_bytes: int
    """Client bytes of the chunks, each once."""
    stored_bytes: int
    """The chunks as they are stored: compressed, sealed."""
    saved_percent: float
    """Of the referenced bytes, by both."""
    packs: int
    pack_bytes: int
    """Length of all packs on disk."""
    dead_bytes: int
    """Of them, what no chunk lies in any more, indices included."""


async def dedup_report(runtime: Runtime) -> DedupReport:
    """The totals, and what the packs hold: one row of the catalog for each of them is read, in a thread."""
    return await runtime.threads.run(lambda: _report(runtime))


def _report(runtime: Runtime) -> DedupReport:
    packs = total = live = 0
    after: BlobId | None = None
    while True:
        with runtime.catalog.snapshot() as view:
            totals = view.dedup_totals()
            page = list(islice(view.packs(after), _PACKS_AT_ONCE))
        packs += len(page)
        total += sum(pack.total_stored_bytes for pack in page)
        live += sum(pack.live_stored_bytes for pack in page)
        if len(page) < _PACKS_AT_ONCE:
            break
        after = page[-1].pack
    referenced = totals.referenced_client_bytes
    return DedupReport(
        chunks=totals.chunks,
        referenced_bytes=referenced,
        unique_bytes=totals.client_bytes,
        stored_bytes=totals.stored_bytes,
        saved_percent=round(100 * (1 - totals.stored_bytes / referenced), 2) if referenced else 0.0,
        packs=packs,
        pack_bytes=total,
        dead_bytes=total - live,
    )
