"""Setting the tables of deduplication right (`rs3d check --repair`), in a store that nothing else has open.

Pins of bodies that came to nothing are freed by records, as the sweep frees them. Counts, packs and totals are derived:
they are set to what is counted, without a record, at most 1,000 rows a transaction (STORE.md 8).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from rs3d.errors import RecordDamaged
from rs3d.format.chunkrows import CHUNK, DEDUP_TOTALS, PACK, PackRow
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogwriter import DEDUP_KEY, CatalogTransaction
from rs3d.stores.checkchunks import PackCount, WrongCount, count_packs, orphaned_pins, wrong_counts
from rs3d.stores.checkreport import CheckReport, Progress, Severity
from rs3d.stores.committer import CommitterCore
from rs3d.stores.submitted import Submitted
from rs3d.types.chunks import DedupTotals, PackUse, PinBatch
from rs3d.types.identifiers import Epoch, OperationId
from rs3d.types.operations import FreeChunks

ROWS_AT_ONCE = 1000
Item = TypeVar("Item")


def mend_chunks(core: CommitterCore, catalog: LocalCatalog, report: CheckReport, progress: Progress) -> None:
    """Free pins without a body, then set counts, packs and totals right. All epochs are closed.

    What cannot be set right (a pinned chunk or a pack without a row, a record that cannot be read) stays for the
    check that follows to report.

    Raises:
        OutcomeUnknown, StoreReadOnly, RecordDamaged: of committing.
    """
    try:
        _free_orphaned(core, catalog, report)
        _mend_counts(core, catalog, report, progress)
    except RecordDamaged as damage:
        report.add(Severity.INFO, damage.what, f"{damage.reason}: chunks could not be counted")
        return
    _mend_packs(core, catalog, report)


def _free_orphaned(core: CommitterCore, catalog: LocalCatalog, report: CheckReport) -> None:
    with catalog.snapshot() as view:
        batches = orphaned_pins(view)
    for batch in batches:
        _free(core, catalog, batch)
    if batches:
        report.repaired += len(batches)
        manifests = len({batch.manifest for batch in batches})
        report.add(Severity.INFO, "pins", f"those of {manifests} bodies that were never committed were freed")


def _free(core: CommitterCore, catalog: LocalCatalog, batch: PinBatch) -> None:
    with catalog.snapshot() as view:
        hashes = view.pinned_hashes(batch.manifest, batch.batch)
    own = OperationId(Epoch(0), 0)
    operation = FreeChunks(id=own, manifest=batch.manifest, batch=batch.batch, hashes=hashes)
    error = core.execute([Submitted(operation, 0)])[0].error
    if error is not None:
        raise error


def _mend_counts(core: CommitterCore, catalog: LocalCatalog, report: CheckReport, progress: Progress) -> None:
    with catalog.snapshot() as view:
        wrong = [found for found in wrong_counts(view, progress) if found.row is not None]
    for step in _steps(wrong):
        core.change_rows(lambda t, step=step: _set_counts(t, step))  # type: ignore[misc]
    if wrong:
        report.repaired += len(wrong)
        report.add(Severity.INFO, "chunks", f"{len(wrong)} rows were set to what pins them")


def _set_counts(t: CatalogTransaction, step: list[WrongCount]) -> None:
    for found in step:
        if found.row is None:
            continue
        if found.pinned:
            t.put(t.tables.chunks, found.hash, CHUNK.pack(*found.row._replace(references=found.pinned)))
        else:
            t.delete(t.tables.chunks, found.hash)


def _mend_packs(core: CommitterCore, catalog: LocalCatalog, report: CheckReport) -> None:
    with catalog.snapshot() as view:
        counted, totals = count_packs(view)
        wrong = [
            (use, found)
            for use in view.packs()
            if (found := counted.get(use.pack, PackCount(0, 0))) != (use.chunks, use.live_stored_bytes)
            or view.blob_references(use.pack) != found.chunks
        ]
        stored_totals = view.dedup_totals()
    death = core.clock.next(core.clock.now_ns())
    for step in _steps(wrong):
        core.change_rows(lambda t, step=step: _set_packs(t, step, death))  # type: ignore[misc]
    if totals != stored_totals:
        core.change_rows(lambda t: _set_totals(t, totals))
    if wrong or totals != stored_totals:
        report.repaired += len(wrong) + (totals != stored_totals)
        report.add(Severity.INFO, "packs", f"{len(wrong)} rows and the totals were set to what the chunks say")


def _set_packs(t: CatalogTransaction, step: list[tuple[PackUse, PackCount]], death: int) -> None:
    for use, found in step:
        key = use.pack.to_bytes()
        blob = t.blob(key)
        if blob is None:
            continue
        if found.chunks:
            row = PackRow(found.chunks, found.live_stored_bytes, use.total_stored_bytes)
            t.put(t.tables.packs, key, PACK.pack(*row))
            t.put_blob(key, blob._replace(references=found.chunks))
        else:
            t.delete(t.tables.packs, key)
            t.delete(t.tables.blobs, key)
            t.put(t.tables.garbage, key, death.to_bytes(8, "big"))


def _set_totals(t: CatalogTransaction, totals: DedupTotals) -> None:
    if any(totals):
        t.put(t.tables.state, DEDUP_KEY, DEDUP_TOTALS.pack(*totals))
    else:
        t.delete(t.tables.state, DEDUP_KEY)


def _steps(items: Iterable[Item]) -> Iterable[list[Item]]:
    rest = iter(items)
    while step := list(islice(rest, ROWS_AT_ONCE)):
        yield step
