"""Spreading connections over the worker processes that share a listener.

The kernel wakes every process that waits on a listener, and the first to call accept gets the connection. Left alone,
16 connections opened at once were split 3 to 13 between two workers, and 4 opened one after the other 0 to 4. Clients
keep their connections for hours, so such a split stays. Here each worker publishes how many it has in a page of shared
memory; one that has more than another waits for a moment before it accepts, and accepts after that all the same: a
wrong or stale number costs a millisecond, never a connection.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

SLOTS: Final = 64
"""Processes a board has room for."""

_SLOT_BYTES: Final = 64
"""One cache line each, so that counting does not slow the neighbours."""

_BOARD_BYTES: Final = SLOTS * _SLOT_BYTES

PATIENCE_S: Final = 0.001
"""How long a worker that is ahead leaves a waiting connection to the others; epoll knows no shorter time."""


def make_board() -> int:
    """A memory file for one board, all slots empty. The caller closes it, and hands it to the processes that share it.

    Raises:
        OSError: no memory or no descriptor is left.
    """
    fd = os.memfd_create("rs3d-connections", os.MFD_CLOEXEC)
    os.ftruncate(fd, _BOARD_BYTES)
    return fd


def clear_slot(fd: int, slot: int) -> None:
    """Take a process that has died off the board. Never blocks."""
    os.pwrite(fd, bytes(_SLOT_BYTES), slot * _SLOT_BYTES)


class ConnectionBoard:
    """One process's place on a board. Loop-safe; nothing here blocks."""

    __slots__ = ("_counts", "_own", "_page")

    def __init__(self, fd: int, slot: int) -> None:
        """Args:
        fd: what `make_board` returned, or a duplicate; not needed any more afterwards.
        slot: this process's place, 0 to SLOTS - 1, which no other living process has.

        Raises:
            ValueError: there is no such slot.
        """
        if not 0 <= slot < SLOTS:
            raise ValueError(f"slot {slot} is not one of {SLOTS}")
        self._page = mmap.mmap(fd, _BOARD_BYTES)
        # An aligned word is read and written whole. It holds the count plus one: zero is an empty slot.
        self._counts = memoryview(self._page).cast("Q")
        self._own = slot * _SLOT_BYTES // 8

    def publish(self, connections: int) -> None:
        """Tell the others how many connections this process has."""
        self._counts[self._own] = connections + 1

    def leave(self) -> None:
        """Empty the slot: this process accepts no more."""
        self._counts[self._own] = 0

    def is_ahead(self, connections: int) -> bool:
        """Whether a process with `connections` connections should leave the next one to another.

        It should when another has noticeably fewer: an eighth, so that processes with hundreds of connections do not
        wait for each other over a difference of one.
        """
        fewest = min(filter(None, self._all()), default=0) - 1
        return fewest >= 0 and connections > fewest + fewest // 8

    def first_of_few(self, most: int) -> int | None:
        """The lowest slot of all, where the processes have at most so many connections together."""
        published = self._all()
        living = [slot for slot, count in enumerate(published) if count]
        return living[0] if living and sum(published) - len(living) <= most else None

    def emptier(self) -> int | None:
        """The slot of the process with the fewest connections, where one more leaves it with no more than this one."""
        published = self._all()
        fewest = min(filter(None, published), default=0)
        return published.index(fewest) if fewest and fewest + 1 < self._counts[self._own] else None

    def _all(self) -> list[int]:
        """What the slots hold: connections plus one, or zero."""
        counts: list[int] = self._counts[:: _SLOT_BYTES // 8].tolist()
        return counts
