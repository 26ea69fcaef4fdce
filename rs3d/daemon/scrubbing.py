"""The steward's scrub: its services, verbs and board, put together from the parts of the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rs3d.admin.scrub import ScrubVerbs
from rs3d.admin.server import Verb
from rs3d.app import metrics
from rs3d.app.storeparts import StoreParts
from rs3d.clock import SystemClock
from rs3d.daemon.catalogcheck import examine_aside
from rs3d.services.mending import MendingService, Suspects
from rs3d.services.running import Service
from rs3d.services.scrub import ScrubService
from rs3d.services.scrubreport import ScrubBoard
from rs3d.services.scrubstages import ScrubStages
from rs3d.services.scrubstate import Findings, ScrubConfig
from rs3d.stores.blobmending import BlobMender
from rs3d.telemetry.metrics import Instrument


@dataclass(frozen=True, slots=True)
class Scrubbing:
    """What the steward holds of it."""

    scrub: ScrubService
    mending: MendingService
    suspects: Suspects
    board: ScrubBoard
    mender: BlobMender

    @property
    def services(self) -> list[Service]:
        return [self.scrub, self.mending]

    def verbs(self) -> list[Verb]:
        return ScrubVerbs(self.scrub, self.board).verbs()


def build_scrubbing(
    parts: StoreParts,
    root: str,
    config: ScrubConfig,
    instruments: dict[str, Instrument],
    catalog_damaged: Callable[[str], None],
    damaged_key_files: Callable[[], list[tuple[str, str]]],
) -> Scrubbing:
    """Put it together; the caller closes `mender`.

    Raises:
        OSError: staging/ cannot be opened.
    """
    clock = SystemClock()
    suspects, findings = Suspects(), Findings(clock, root)
    store_id = bytes.fromhex(parts.store_id)
    mender = BlobMender(root, parts.blobs)
    damaged, mended = instruments[metrics.DAMAGED_BLOBS.name], instruments[metrics.MENDED_BLOBS.name]
    read_bytes, blobs = instruments[metrics.SCRUBBED_BYTES.name], instruments[metrics.SCRUBBED_BLOBS.name]

    def examined(count_bytes: int, count_blobs: int) -> None:
        read_bytes.add(count_bytes)
        blobs.add(count_blobs)

    scrub = ScrubService(
        config=config,
        catalog=parts.catalog,
        committer=parts.committer,
        clock=clock,
        stages=ScrubStages(root, store_id, parts.catalog, parts.blobs, suspects, findings, damaged_key_files),
        findings=findings,
        suspects=suspects,
        examine_catalog=lambda: examine_aside(root),
        catalog_damaged=catalog_damaged,
        examined=examined,
    )

    def count_mended() -> None:
        mended.add(1)
        scrub.progress.mended_blobs += 1

    mending = MendingService(
        catalog=parts.catalog,
        blobs=parts.blobs,
        mender=mender,
        suspects=suspects,
        findings=findings,
        config=config,
        damaged=lambda: damaged.add(1),
        mended=count_mended,
    )
    return Scrubbing(scrub, mending, suspects, ScrubBoard(scrub, suspects, parts.catalog), mender)
