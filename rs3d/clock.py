"""Time as an argument: every part of rs3d that reads a clock takes a `Clock`, so that tests can turn it.

Rank 0. Nothing here blocks.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Protocol

NANOSECONDS_PER_SECOND = 1_000_000_000


class Clock(Protocol):
    """The two clocks of the kernel that matter to a store."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC; may step when the machine's clock is set."""
        ...

    def boot_ns(self) -> int:
        """Nanoseconds since boot, suspend included; never steps (CLOCK_BOOTTIME)."""
        ...


class SystemClock:
    """The machine's own clocks. Functions of C as they are: a Python function around them costs ten times as much, and
    a request looks at a clock four times."""

    __slots__ = ()

    wall_ns = staticmethod(time.time_ns)
    boot_ns = staticmethod(partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME))


class ManualClock:
    """A clock that moves only when told, for tests and simulations."""

    __slots__ = ("_boot_ns", "_wall_ns")

    def __init__(self, wall_ns: int = 1_700_000_000 * NANOSECONDS_PER_SECOND, boot_ns: int = 0) -> None:
        self._wall_ns = wall_ns
        self._boot_ns = boot_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def boot_ns(self) -> int:
        return self._boot_ns

    def advance(self, seconds: float) -> None:
        """Let time pass: both clocks move by `seconds`."""
        delta_ns = int(seconds * NANOSECONDS_PER_SECOND)
        self._wall_ns += delta_ns
        self._boot_ns += delta_ns

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock by `seconds` without time having passed, as an administrator or NTP would."""
        self._wall_ns += int(seconds * NANOSECONDS_PER_SECOND)
