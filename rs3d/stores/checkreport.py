"""What a check found: findings with the command to run next, and counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

FINDINGS_LIMIT: Final = 10_000
"""Findings that are kept; the rest is only counted."""


class Severity(IntEnum):
    """How bad a finding is."""

    INFO = 0
    """Worth knowing; nothing has to be done."""
    WARNING = 1
    """Untidy, no data is concerned: `--repair` removes it."""
    ERROR = 2
    """Data or the index of it is not what was written."""


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    what: str
    """File, row, bucket or blob."""
    reason: str
    command: str = ""
    """What to run next; empty when nothing helps but a backup, or nothing is needed."""


Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and how much there is (0 = not known)."""


def no_progress(stage: str, done: int, total: int) -> None:
    """For callers that show none."""


@dataclass(slots=True)
class CheckReport:
    """The outcome of a check. Counts are of what was looked at."""

    root: str
    findings: list[Finding] = field(default_factory=list)
    findings_dropped: int = 0
    log_segments: int = 0
    log_records: int = 0
    records_beyond_catalog: int = 0
    rows: int = 0
    buckets: int = 0
    versions: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    bytes_verified: int = 0
    orphans: int = 0
    repaired: int = 0

    def add(self, severity: Severity, what: str, reason: str, command: str = "") -> None:
        """Note a finding; beyond FINDINGS_LIMIT it is only counted."""
        if len(self.findings) < FINDINGS_LIMIT:
            self.findings.append(Finding(severity, what, reason, command))
        else:
            self.findings_dropped += 1

    @property
    def worst(self) -> Severity:
        """The severity of the worst finding; INFO when there is none."""
        return max((finding.severity for finding in self.findings), default=Severity.INFO)

    @property
    def is_clean(self) -> bool:
        """Whether nothing has to be done."""
        return self.worst is Severity.INFO and not self.findings_dropped
