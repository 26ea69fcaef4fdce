"""What a scrub knows: its configuration, how far it has come, what it found. All but the configuration survives a
restart, as two settings of the store (FORMAT.md section 24)."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from rs3d.clock import Clock
from rs3d.errors import ConfigurationError, InvalidArgument
from rs3d.services.healthcodes import ADVICE, HealthCode

PROGRESS_SETTING: Final = "scrub"
FINDINGS_SETTING: Final = "scrub findings"
FINDINGS_LIMIT: Final = 256
"""Findings that are kept with their text; some 60 KiB. The rest is counted."""

MIB: Final = 1 << 20
_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
RATE_LIMIT: Final = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubConfig:
    """Section `[scrub]`: looking for damage in the background, and mending it."""

    check_interval_s: float = 7 * 24 * 3600.0
    """From the end of one scrub to the beginning of the next; 0 = only by `rs3d scrub start`."""
    rate_bytes_per_s: int = 200 * MIB
    """Most bytes read in a second; 0 = as many as the disk gives."""
    repair_enabled: bool = True
    """Whether what can be mended is mended; otherwise it is only reported."""
    max_concurrent_repairs: int = 2
    """Blobs that are mended side by side."""
    corruption_threshold: float = 0.01
    """Share of damaged blobs, of at least 100 examined, from which on the disk counts as failing."""

    def __post_init__(self) -> None:
        for key, low, high in (
            ("check_interval_s", 0.0, 366 * 24 * 3600.0),
            ("rate_bytes_per_s", 0.0, float(RATE_LIMIT)),
            ("max_concurrent_repairs", 1.0, 64.0),
            ("corruption_threshold", 1e-9, 1.0),
        ):
            if not low <= getattr(self, key) <= high or math.isnan(getattr(self, key)):
                raise ConfigurationError(source="scrub", key=key, reason=f"{low:g} to {high:g}")


def parse_rate(text: str) -> int:
    """Bytes a second from `200MiB/s`, `1.5GiB/s`, `50MB/s`, `1000000`; 0 = no limit.

    Raises:
        InvalidArgument
    """
    number = text.strip().removesuffix("/s").strip()
    unit = number.lstrip("0123456789.")
    amount = number.removesuffix(unit) if unit else number
    factor = _UNITS.get(unit.strip().upper())
    try:
        rate = round(float(amount) * factor) if factor is not None else -1
    except ValueError:
        rate = -1
    if not 0 <= rate <= RATE_LIMIT:
        raise InvalidArgument(
            name="rate", value=text, reason="must be bytes a second such as 200MiB/s, or 0 for no limit"
        )
    return rate


State = Literal["idle", "running", "paused"]
Stage = Literal["catalog", "log", "blobs", ""]


class Progress(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far a scrub is. Bytes are those read and to be read; a run begins at `started_ns`."""

    state: State = "idle"
    stage: Stage = ""
    started_ns: int = 0
    finished_ns: int = 0
    """Of the last run that came to its end, 0 for none."""
    counted_from_ns: int = 0
    """Where the interval to the next run begins: that, or the first start of the store."""
    rate_bytes_per_s: int = -1
    """Asked for when it was started; -1 = the configured one."""
    log_after: int = 0
    """The log is examined up to the segment that begins with this number."""
    segment: int = 0
    number: int = -1
    """Blobs are examined up to, and with, this one of `segment`."""
    current: int = -1
    offset: int = 0
    """How far the blob with the number `current`, behind that, is examined."""
    done_bytes: int = 0
    total_bytes: int = 0
    busy_s: float = 0.0
    """Spent examining in this run, pauses and restarts left out."""
    rows: int = 0
    records: int = 0
    blobs: int = 0
    total_blobs: int = 0
    damaged_blobs: int = 0
    mended_blobs: int = 0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is, or was, wrong. `what` names it: at most one finding each."""

    code: HealthCode
    what: str
    reason: str
    command: str
    found_ns: int
    blob: str = ""
    """The blob's id, where it is about one: the finding ends with the blob."""


class Findings:
    """What was found, by what it is about. For all threads of the steward."""

    def __init__(self, clock: Clock, root: str) -> None:
        self._clock = clock
        self._root = root
        self._lock = threading.Lock()
        self._found: dict[str, Finding] = {}
        self.dropped = 0
        """Beyond the limit: counted only."""
        self.changed = False
        """Whether there is something to save."""

    def note(self, code: HealthCode, what: str, reason: str, *, blob: str = "", command: str = "") -> None:
        """Add a finding, or say anew what is wrong with `what`."""
        command = command or ADVICE[code].command.replace("DIR", self._root)
        finding = Finding(
            code=code, what=what, reason=reason, command=command, found_ns=self._clock.wall_ns(), blob=blob
        )
        with self._lock:
            if what not in self._found and len(self._found) >= FINDINGS_LIMIT:
                self.dropped += 1
                return
            self._found[what] = finding
            self.changed = True

    def settle(self, keep: Callable[[Finding], bool]) -> None:
        """Forget findings for which `keep` is false."""
        with self._lock:
            kept = {what: finding for what, finding in self._found.items() if keep(finding)}
            self.changed = self.changed or len(kept) != len(self._found)
            self._found = kept

    def all(self) -> list[Finding]:
        """The worst first, then the newest."""
        order = list(HealthCode)
        with self._lock:
            return sorted(self._found.values(), key=lambda found: (order.index(found.code), -found.found_ns))

    def encode(self) -> bytes:
        """For the setting."""
        self.changed = False
        return msgspec.msgpack.encode(self.all())

    def load(self, raw: bytes) -> None:
        """Take over what an earlier process saved."""
        with self._lock:
            self._found = {finding.what: finding for finding in msgspec.msgpack.decode(raw, type=list[Finding])}
