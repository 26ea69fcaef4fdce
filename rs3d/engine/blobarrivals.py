"""Bodies that threads without Python bring from their sockets to the disk (kernel `blobarrivals`), and the loop's end
of it: who started one is told when it has ended, by a descriptor that is waited for beside idle connections where a
server does that, else by a task. A word from a thread of Python's costs the loop a turn of its scheduler.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import Protocol

import trio

from rs3d.engine.putline import PutLine
from rs3d.kernels.blobarrivals import ROUNDS, Arrival, Arrivals
from rs3d.stores.interfaces import Committer
from rs3d.types.watching import Watch

_log = logging.getLogger(__name__)


class Arriving(Protocol):
    """The owner of an arrival."""

    def arrived(self, arrival: Arrival) -> None:
        """It has ended; it is another's when this returns. Must not raise."""
        ...


class BlobArrivals:
    """The threads of one engine, made when they are needed. For one loop."""

    def __init__(
        self, count: int, steps_behind: int, committer: Committer, line: PutLine, rounds: int = ROUNDS
    ) -> None:
        """Args:
        count: of threads, at most.
        committer: told when all that have ended at one time were submitted to it.
        line: moves when some have.
        rounds: of hashing, at once.
        """
        self._count = count
        self._steps_behind = steps_behind
        self._committer = committer
        self._line = line
        self._rounds = rounds
        self._kernel: Arrivals | None = None
        self._free: list[Arrival] = []
        self._channel = -1
        self._watch: Watch | None = None
        self._woken = trio.Event()
        """Set when a watch ends."""
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether no thread is free."""
        return self._kernel is not None and self._kernel.is_full

    def take(self) -> Arrival | None:
        """One that is free, and a thread for it; None when there is none. To be begun at once, or forgotten."""
        if self._is_closed:
            return None
        try:
            kernel = self._kernel
            if kernel is None:
                kernel = self._kernel = Arrivals(self._count, steps_behind=self._steps_behind, rounds=self._rounds)
                trio.lowlevel.spawn_system_task(self._run, kernel)
            if kernel.is_full:
                return None
            return self._free.pop() if self._free else Arrival()
        except OSError:  # the process has too many descriptors
            return None

    def begin_hashing(self, body: bytes) -> Arrival | None:
        """Begin to hash a body that is alone, at most `LEAF_BYTES`, with MD5. Where it goes is said later, as of any
        arrival that is taken; or it is forsaken. None where others are under way, whose rounds it would miss."""
        kernel = self._kernel
        if kernel is None or kernel.outstanding or self._is_closed:
            return None
        try:
            arrival = self._free.pop() if self._free else Arrival()
            kernel.begin_hashing(arrival, body)
        except OSError:  # neither descriptors nor threads are left
            return None
        return arrival

    def forsake(self, arrival: Arrival) -> None:
        """One of `begin_hashing` that is not begun; nothing where it was."""
        if self._kernel is not None:
            self._kernel.forsake(arrival)

    def begin(self, arrival: Arrival) -> None:
        """Begin what was aimed, placed and described. Its owner is an `Arriving`."""
        if self._kernel is None:
            raise RuntimeError("an arrival that was not taken here")
        self._kernel.start(arrival)

    def read_by(self, watch: Watch) -> Callable[[], None]:
        """Hear of ends when `watch` tells of them, not in a task that waits for them, until the returned function is
        called."""
        self._watch = watch
        self._wake()

        def end() -> None:
            self._watch = None
            self._wake()

        return end

    def _wake(self) -> None:
        self._woken.set()
        if self._kernel is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                trio.lowlevel.notify_closing(self._kernel.fileno())

    async def _run(self, kernel: Arrivals) -> None:
        while not self._is_closed:
            self._woken = trio.Event()
            if self._watch is None:
                with contextlib.suppress(trio.ClosedResourceError):
                    await trio.lowlevel.wait_readable(kernel.fileno())
                    self.come()
                continue
            end = self._watch(kernel.fileno(), self.come)
            try:
                await self._woken.wait()
            finally:
                end()

    def channel(self, descriptor: int) -> int:
        """The committer's, as a descriptor that stays open until the threads have ended."""
        if self._channel < 0:
            self._channel = os.dup(descriptor)
        return self._channel

    def withhold(self, arrival: Arrival) -> None:
        """The committer need not be told by the thread any more; the owner is told of its end in any case."""
        if self._kernel is not None:
            self._kernel.withhold(arrival)
            self.come()

    def come(self) -> None:
        """Tell the owners of all that have ended by now."""
        if self._kernel is None:
            return
        for arrival in self._kernel.ended():
            owner: Arriving | None = arrival.owner  # type: ignore[assignment]
            try:
                if owner is not None:  # else it was forsaken
                    owner.arrived(arrival)
            except Exception:
                _log.exception("a body that has arrived was not taken")
            arrival.let_go()
            arrival.owner = None
            self._free.append(arrival)
        self._line.move()
        self._committer.send_submitted()

    def close(self) -> None:
        """Let all end, then the threads. Blocks that long. Nobody is told any more."""
        if self._is_closed:
            return
        self._is_closed = True
        self._wake()
        if self._kernel is not None:
            self._kernel.close()
        if self._channel >= 0:
            os.close(self._channel)
