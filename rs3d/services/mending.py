"""Blobs that somebody found damaged (the scrub, or a GET) are looked at and mended, one after the other.

A GET whose damage parity mends on the way has answered already; here the blob is written anew, so that the next damage
does not meet it half broken. What cannot be mended gets a second name in quarantine/ and a finding.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio
import trio.to_thread

from rs3d.errors import BlobDamaged, Rs3dError
from rs3d.services.healthcodes import HealthCode
from rs3d.services.scrubstate import Findings, ScrubConfig
from rs3d.stores.blobexamination import Buffers
from rs3d.stores.blobmending import BlobMender, Mended, Outcome
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.catalog import LocalCatalog
from rs3d.telemetry.logs import fields
from rs3d.types.identifiers import BlobId

log = logging.getLogger(__name__)

SUSPECTS_LIMIT: Final = 10_000
"""Suspected blobs that wait; more are found again by the next scrub."""


class Suspects:
    """Blobs to be looked at, each once, in the order of their finding. For all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[BlobId, str] = OrderedDict()
        self._taken: set[BlobId] = set()
        self._wake: Callable[[], None] = lambda: None

    def on_arrival(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from whatever thread, whenever there is a new one."""
        self._wake = wake

    def add(self, blob: BlobId, reason: str) -> None:
        with self._lock:
            if blob in self._waiting or blob in self._taken or len(self._waiting) >= SUSPECTS_LIMIT:
                return
            self._waiting[blob] = reason
        self._wake()

    def take(self, most: int) -> list[tuple[BlobId, str]]:
        """The first ones; they are the caller's, who says when each is `done`."""
        with self._lock:
            taken = [self._waiting.popitem(last=False) for _ in range(min(most, len(self._waiting)))]
            self._taken.update(blob for blob, _ in taken)
            return taken

    def done(self, blob: BlobId) -> None:
        with self._lock:
            self._taken.discard(blob)

    def __len__(self) -> int:
        """Those that wait or are looked at now."""
        return len(self._waiting) + len(self._taken)


@dataclass(slots=True)
class MendingService:
    """A service. `damaged` and `mended` are told of each blob that is."""

    catalog: LocalCatalog
    blobs: LocalBlobStore
    mender: BlobMender
    suspects: Suspects
    findings: Findings
    config: ScrubConfig
    damaged: Callable[[], None]
    mended: Callable[[], None]
    name: str = "mending"
    _arrived: trio.Event | None = None

    async def step(self) -> float:
        """Wait for suspected blobs, then look at a few side by side."""
        token = trio.lowlevel.current_trio_token()
        arrived = self._arrived = trio.Event()
        self.suspects.on_arrival(lambda: token.run_sync_soon(arrived.set))
        found = self.suspects.take(self.config.max_concurrent_repairs)
        if not found:
            await arrived.wait()
            return 0.0
        async with trio.open_nursery() as nursery:
            for blob, reason in found:
                nursery.start_soon(trio.to_thread.run_sync, self.look_at, blob, reason)
        return 0.0

    def look_at(self, blob: BlobId, reason: str) -> Outcome | None:
        """Examine and mend one blob; None when it is damaged and stays so. Blocks."""
        try:
            return self._look_at(blob, reason)
        finally:
            self.suspects.done(blob)

    def _look_at(self, blob: BlobId, reason: str) -> Outcome | None:
        try:
            with self.catalog.snapshot() as view:
                row = view.blob_row(blob)
            if row is None:
                return Outcome.GONE
            if not self.config.repair_enabled:
                self.damaged()
                self._note(HealthCode.BLOB_DAMAGED, blob, f"{reason}; [scrub] repair_enabled is false")
                return None
            result = self.mender.mend(blob, row.stored_bytes, Buffers())
        except BlobDamaged as damage:
            self._beyond_mending(blob, damage)
            return None
        except (Rs3dError, OSError) as error:
            self._note(HealthCode.BLOB_DAMAGED, blob, f"{reason}; not mended now: {error}")
            return None
        self._tell(blob, reason, result)
        return result.outcome

    def _tell(self, blob: BlobId, reason: str, result: Mended) -> None:
        if result.outcome is Outcome.MENDED:
            self.damaged()
            self.mended()
            done = f"{result.blocks} blocks restored" if result.blocks else "its sidecar restored from the second copy"
            log.warning("a blob was mended", extra=fields(blob=blob.text(), reason=reason, done=done))
            self._note(HealthCode.MENDED, blob, f"{reason}; {done}")
        else:
            self.findings.settle(lambda finding: finding.blob != blob.text())

    def _beyond_mending(self, blob: BlobId, damage: BlobDamaged) -> None:
        with self.catalog.snapshot() as view:
            if view.blob_row(blob) is None:
                return
        self.damaged()
        log.error("a blob is damaged", extra=fields(blob=blob.text(), reason=damage.reason))
        missing = "missing" in damage.reason
        self._note(HealthCode.BLOB_MISSING if missing else HealthCode.BLOB_DAMAGED, blob, damage.reason)
        try:
            self.blobs.keep_damaged(blob, damage.reason)
        except (Rs3dError, OSError) as error:
            log.warning("a damaged blob could not be kept", extra=fields(blob=blob.text(), reason=str(error)))

    def _note(self, code: HealthCode, blob: BlobId, reason: str) -> None:
        what = f"blob {blob.text()}"
        try:
            origin = self.blobs.origin(blob)
            what += f", first put as {origin.bucket}/{origin.key}"
            what += f" part {origin.part_number}" if origin.part_number else ""
        except BlobDamaged:  # the sidecar is what is damaged: its id has to do
            what = f"blob {blob.text()}"
        self.findings.settle(lambda finding: finding.blob != blob.text())
        self.findings.note(code, what, reason, blob=blob.text())
