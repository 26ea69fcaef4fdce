"""What `rs3d scrub status`, `rs3d status` and health say of the scrub."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

import lmdb
import msgspec

from rs3d.errors import Rs3dError
from rs3d.services.healthcodes import ADVICE, HealthCode
from rs3d.services.mending import Suspects
from rs3d.services.scrub import ScrubService
from rs3d.services.scrubstate import Finding
from rs3d.stores.catalog import LocalCatalog
from rs3d.types.identifiers import BlobId

BLOBS_JUDGED: Final = 100
"""Of fewer blobs examined, a share says nothing about the disk."""


class ProblemRow(msgspec.Struct, frozen=True):
    """One finding."""

    code: str
    what: str
    reason: str
    command: str
    found_ns: int


class ScrubReport(msgspec.Struct, frozen=True):
    """`eta_s` and `speed_bytes_per_s` are of this run so far, pauses left out; 0 while they cannot be told."""

    state: str
    stage: str
    percent: float
    eta_s: int
    speed_bytes_per_s: int
    rate_limit_bytes_per_s: int
    done_bytes: int
    total_bytes: int
    rows: int
    records: int
    blobs: int
    total_blobs: int
    damaged_blobs: int
    mended_blobs: int
    waiting: int
    """Suspected blobs that are still to be looked at."""
    started_ns: int
    finished_ns: int


@dataclass(slots=True)
class ScrubBoard:
    """Reads the service for others. On its loop; nothing waits."""

    service: ScrubService
    suspects: Suspects
    catalog: LocalCatalog

    def report(self) -> ScrubReport:
        progress, service = self.service.progress, self.service
        share = progress.done_bytes / progress.total_bytes if progress.total_bytes else 0.0
        done = progress.state == "idle" and progress.finished_ns > 0
        eta_s = service.eta_s
        return ScrubReport(
            state=progress.state,
            stage=progress.stage,
            percent=100.0 if done else round(100 * min(share, 1.0), 1),
            eta_s=0 if eta_s is None else round(eta_s),
            speed_bytes_per_s=round(progress.done_bytes / progress.busy_s) if progress.busy_s else 0,
            rate_limit_bytes_per_s=service.rate_bytes_per_s,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
            rows=progress.rows,
            records=progress.records,
            blobs=progress.blobs,
            total_blobs=progress.total_blobs,
            damaged_blobs=progress.damaged_blobs,
            mended_blobs=progress.mended_blobs,
            waiting=len(self.suspects),
            started_ns=progress.started_ns,
            finished_ns=progress.finished_ns,
        )

    def findings(self) -> list[Finding]:
        """Everything that is wrong now, the worst first. Blobs that were deleted since are forgotten."""
        findings = self.service.findings
        named = [finding.blob for finding in findings.all() if finding.blob]
        if named:
            gone: set[str] = set()
            # A catalog that cannot be read leaves the findings as they are: its own finding tells.
            with contextlib.suppress(Rs3dError, lmdb.Error), self.catalog.snapshot() as view:
                gone = {text for text in named if view.blob_row(BlobId.from_text(text)) is None}
            if gone:
                findings.settle(lambda finding: finding.blob not in gone)
        return [*self._threshold(), *findings.all()]

    def problems(self) -> list[ProblemRow]:
        """The findings as a table shows them."""
        return [ProblemRow(f.code.value, f.what, f.reason, f.command, f.found_ns) for f in self.findings()]

    def degrading(self) -> Finding | None:
        """The worst finding that health has to tell; None when there is none."""
        return next((finding for finding in self.findings() if ADVICE[finding.code].degrades), None)

    def _threshold(self) -> list[Finding]:
        progress, config = self.service.progress, self.service.config
        share = progress.damaged_blobs / max(progress.blobs, 1)
        if progress.blobs < BLOBS_JUDGED or share < config.corruption_threshold:
            return []
        code = HealthCode.CORRUPTION_THRESHOLD
        reason = f"{progress.damaged_blobs} of {progress.blobs} blobs examined were damaged"
        what = "the disk of the store"
        return [Finding(code=code, what=what, reason=reason, command=ADVICE[code].command, found_ns=0)]
