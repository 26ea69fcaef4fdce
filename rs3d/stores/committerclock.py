"""The committer's clock: sequences that only grow, and a wall clock that is believed only as far as the boot clock
bears it out.

STORE.md 8 and 19. A sequence is max(now, last + 1) in nanoseconds. A step of the wall clock by more than a minute
does not enter it: time goes on by the boot clock, and `is_suspect` says so until somebody accepts the new time.
"""

from __future__ import annotations

from typing import Final

from rs3d.clock import NANOSECONDS_PER_SECOND, Clock
from rs3d.types.identifiers import Sequence

TOLERATED_STEP_NS: Final = 60 * NANOSECONDS_PER_SECOND


class HybridClock:
    """Gives each record its sequence."""

    def __init__(self, clock: Clock, last: Sequence) -> None:
        """`last`: the highest sequence ever seen, the dropped tail included."""
        self._clock = clock
        self.last = last
        wall, boot = clock.wall_ns(), clock.boot_ns()
        self.is_suspect = wall < last - TOLERATED_STEP_NS
        self._offset = (last if self.is_suspect else wall) - boot

    def now_ns(self) -> int:
        """Wall clock time, unless it stepped: then the time it would show had it not."""
        wall, boot = self._clock.wall_ns(), self._clock.boot_ns()
        expected = boot + self._offset
        if self.is_suspect or abs(wall - expected) > TOLERATED_STEP_NS:
            self.is_suspect = True
            return expected
        self._offset = wall - boot
        return wall

    def next(self, now_ns: int) -> Sequence:
        """The sequence of the next record; `now_ns` as `now_ns()` gave it, once a batch."""
        last = self.last = Sequence(now_ns if now_ns > self.last else self.last + 1)
        return last

    def earlier_ns(self, now_ns: int) -> int:
        """The earlier of the wall clock and the last sequence: what a lock's expiry is compared with (STORE.md 19)."""
        return min(now_ns, self._clock.wall_ns(), self.last)

    def accept(self) -> None:
        """An operator says that the wall clock is right."""
        self.is_suspect = False
        self._offset = self._clock.wall_ns() - self._clock.boot_ns()
