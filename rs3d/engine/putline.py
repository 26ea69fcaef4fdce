"""Bodies that wait in line until a thread and a buffer are free for them.

A body that waits is a socket that nobody reads: TCP holds the sender, and what waits takes no more memory than the
request's first bytes. Taken piece by piece instead, each would have a task, a buffer and turns of the loop of its own,
and cost two thirds more. No I/O here; for one loop.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, Protocol

MOST_WAITING: Final = 512
"""As many as there are small buffers for those that do not wait: either takes 64 KiB."""


class Begun(Enum):
    """What became of a try to begin."""

    YES = "yes"
    BUSY = "busy"
    """Nothing is free now; nothing was begun."""
    NO = "no"
    """Nothing was begun, nor would be later."""


class Waiting(Protocol):
    """One that is in line."""

    def begin(self) -> Begun:
        """It is its turn, perhaps. Must not raise."""
        ...

    def give_up(self) -> None:
        """It has left the line, and is not begun. Must not raise."""
        ...


class PutLine:
    """The line of one engine. It moves when something ends that was begun, so nobody waits while nothing is."""

    __slots__ = ("_under_way", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._under_way = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, waiting: Waiting) -> bool:
        """Stand at the end; False when the line is too long, or would not move."""
        if not self._under_way or len(self._waiting) >= MOST_WAITING:
            return False
        self._waiting.append(waiting)
        return True

    def leave(self, waiting: Waiting) -> None:
        """Not to be begun any more. Without effect on one that is in line no more."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.give_up()

    def began(self) -> None:
        """Something was begun, in line or not; `ended` follows."""
        self._under_way += 1

    def ended(self) -> None:
        """One has ended, and what it held is free."""
        self._under_way -= 1
        self.move()

    def move(self) -> None:
        """Begin those whose turn it is: something may have become free."""
        while self._waiting:
            waiting = self._waiting[0]
            begun = waiting.begin()
            if begun is Begun.BUSY and self._under_way:
                return
            self._waiting.popleft()
            if begun is not Begun.YES:
                waiting.give_up()
