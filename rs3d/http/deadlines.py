"""One moving deadline for each connection, and the watchdog that looks at all of them.

A trio cancel scope for each wait costs several microseconds in the request path. Here a wait that really blocks writes
one float, and a single task compares all the floats twice a second. A connection that is past its deadline has its
current wait interrupted: nothing is cancelled, so the connection can still send an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Protocol

import trio

from rs3d.http.limits import HttpLimits

TICK_S: Final = 0.5
"""How late a timeout may be noticed; that of an idle connection one tick more. The shortest default is 5 s; a tick over
10,000 connections costs 1 ms."""


class Deadline:
    """When the current wait of a connection must end.

    Either a fixed moment (`fix`), or a pace (`pace`): each wait is bounded by a stall time, and all waits together by
    a budget. Waiting spends it, bytes moved fill it up again at the minimum rate, never above the grace time: a fast
    beginning earns no right to hours of silence.
    """

    __slots__ = ("_budget_s", "_grace_s", "_rate", "_since", "_stall_s", "expires", "lags")

    def __init__(self) -> None:
        self.expires = math.inf
        self.lags = False
        """Whether the client let a thread wait that received its last body: the loop has more patience."""
        self._stall_s = 0.0
        self._budget_s = 0.0
        self._grace_s = 0.0
        self._rate = 0
        self._since = 0.0

    def fix(self, at: float) -> None:
        """All waits must end at `at`, a trio time, until the next `fix`, `pace` or `lift`."""
        self._stall_s = 0.0
        self.expires = at

    def pass_now(self) -> None:
        """The moment has come: a wait that begins before the next `fix`, `pace` or `lift` is over at once."""
        self._stall_s = 0.0
        self.expires = -math.inf

    @property
    def has_passed(self) -> bool:
        """Whether `pass_now` was called last."""
        return self.expires == -math.inf

    def lift(self) -> None:
        """No wait is bounded."""
        self._stall_s = 0.0
        self.expires = math.inf

    def pace(self, limits: HttpLimits) -> None:
        """Bound waits from now on by the limits' stall time and minimum rate. Time between waits is not counted."""
        self.expires = math.inf
        self._stall_s = limits.stall_timeout_s
        self._budget_s = self._grace_s = limits.rate_grace_s
        self._rate = limits.minimum_rate_bytes_per_s

    def moved(self, byte_count: int) -> None:
        """The client took or gave `byte_count` bytes."""
        if self._stall_s and self._budget_s < self._grace_s:
            self._budget_s = min(self._grace_s, self._budget_s + byte_count / self._rate)

    def waited(self, seconds: float) -> None:
        """A thread waited for the client so long."""
        if self._stall_s:
            self._budget_s -= seconds

    def begin_wait(self) -> None:
        """A transport is about to wait for the client."""
        if self._stall_s:
            self._since = trio.current_time()
            self.expires = self._since + min(self._stall_s, max(0.0, self._budget_s))

    def end_wait(self) -> None:
        """The wait has ended, for whatever reason."""
        if self._stall_s:
            self._budget_s -= trio.current_time() - self._since
            self.expires = math.inf


class Watched(Protocol):
    """What the watchdog sees of a connection."""

    @property
    def deadline(self) -> Deadline: ...

    def interrupt(self) -> None:
        """Make the current wait raise TransportInterrupted."""
        ...


class Watchdog:
    """Interrupts those of its `members` that are past their deadline. One for each server."""

    __slots__ = ("_before", "members", "now")

    def __init__(self) -> None:
        """Must be called within trio."""
        self.members: set[Watched] = set()
        self.now = trio.current_time()
        """The time of the last tick: good enough for deadlines far away, and free."""
        self._before: list[Callable[[], None]] = []

    def after(self, seconds: float) -> float:
        """A moment at least `seconds` from now, and at most one tick more."""
        return self.now + seconds + TICK_S

    def fix(self, deadline: Deadline, seconds: float) -> None:
        """All waits of a connection must end `after(seconds)`: `Deadline.fix` in one call."""
        deadline._stall_s = 0.0
        deadline.expires = self.now + seconds + TICK_S

    def before_each_look(self, call: Callable[[], None]) -> None:
        """Have `call` bring deadlines up to date that nobody moves meanwhile. It must not raise."""
        self._before.append(call)

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            await trio.sleep(TICK_S)
            self.look()

    def look(self) -> None:
        """Interrupt those that are past their deadline. `run` does so every TICK_S."""
        now = self.now = trio.current_time()
        for call in self._before:
            call()
        for connection in [member for member in self.members if member.deadline.expires <= now]:
            # Without effect on one that is just not waiting; it is still past its deadline at the next tick.
            connection.interrupt()
