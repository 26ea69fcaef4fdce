"""Waiting in the loop's place, so that what can be answered at once needs no way through the scheduler.

Trio says when no task can run and it is about to wait for the kernel. In that moment parked connections are waited for
here, together with all that trio waits for: its own epoll. A request that a shortcut answers is answered on the spot,
and a file goes on, though trio has not been woken; whatever else becomes ready is left to trio, which finds it at once.
On a machine where hardly anything else is to be done, the way there and back was half of what an answer costs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

import trio

from rs3d.kernels.parkedsockets import ParkedSockets

BUSY_NS: Final = 400_000
"""Time after which others are looked at, though there has been no moment in which nothing was ready."""


class LoopWait(trio.abc.Instrument):
    """For one loop, while it is among its instruments."""

    def __init__(self, sockets: ParkedSockets, loop_fd: int, turn: Callable[[list[int]], None]) -> None:
        """Args:
        sockets: those to wait for. Trio has to watch their descriptor whenever it waits.
        loop_fd: trio's epoll.
        turn: called for those that are ready. Must not raise.
        """
        self._sockets = sockets
        self._loop_fd = loop_fd
        self._turn = turn
        self._can_run = False
        self.is_worthwhile = False
        """Set by who answers; unset when something of trio's came first, for which this was in the way."""

    def task_scheduled(self, _task: trio.lowlevel.Task) -> None:
        """See `trio.abc.Instrument`."""
        self._can_run = True

    def before_io_wait(self, timeout: float) -> None:
        """See `trio.abc.Instrument`. Leaves the wait to trio when there is anything to run, or nothing to gain."""
        sockets = self._sockets
        if timeout <= 0 or not (self.is_worthwhile or sockets.sending):
            return
        now_ns = time.monotonic_ns()
        end_ns = now_ns + int(timeout * 1e9)
        busy_end_ns = now_ns + BUSY_NS
        while True:
            ready = sockets.wait(self._loop_fd, end_ns - now_ns)
            if ready is None:
                if time.monotonic_ns() < end_ns:  # else a timer is due, for which nothing was in the way
                    self.is_worthwhile = False
                return
            self._can_run = False
            self._turn(ready)
            now_ns = time.monotonic_ns()
            if sockets.has_slept:
                busy_end_ns = now_ns + BUSY_NS
            if self._can_run or now_ns >= busy_end_ns:
                sockets.nudge()  # trio knows nothing of the tasks, and its time may be up
                return


def epoll_watching(fd: int) -> int | None:
    """The epoll of this process that watches a descriptor: None when there is none, or several, or /proc is closed."""
    found = []
    try:
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]" and _watches(name, fd):
                    found.append(int(name))
            except FileNotFoundError:
                continue  # that of the listing, or another thread's
    except OSError:
        return None
    return found[0] if len(found) == 1 else None


def _watches(epoll: str, fd: int) -> bool:
    """Whether a line of proc_pid_fdinfo(5) says so: `tfd: 5 events: 40000001 data: 5 …`."""
    with open(f"/proc/self/fdinfo/{epoll}", encoding="ascii") as lines:
        return any(line.split()[:2] == ["tfd:", str(fd)] for line in lines)
