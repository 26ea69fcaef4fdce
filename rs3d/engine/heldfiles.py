"""Open files that several answers use at once, kept for a moment after the last: closed once, never under a user."""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypeVar

HELD_S: Final = 1.0
"""At least so long, after the last use."""

HELD_MOST: Final = 8
"""Times HELD_S that it is kept when it is used in each; one more, and it is let go."""


class Age:
    """How long something has been held, and whether it was used since that was asked."""

    __slots__ = ("_times", "is_used")

    def __init__(self) -> None:
        self.is_used = True
        self._times = 0

    def is_over(self) -> bool:
        """Asked every HELD_S: whether it is to be let go."""
        is_used, self.is_used = self.is_used, False
        self._times += 1
        return not is_used or self._times > HELD_MOST


class OpenFile(Protocol):
    """What has a descriptor until it is closed."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


F = TypeVar("F", bound=OpenFile)


class HeldFile(Generic[F]):
    """An open file and how many use it. Closed when it was let go and the last user has given it back."""

    __slots__ = ("_is_let_go", "_users", "age", "file")

    def __init__(self, file: F) -> None:
        """Takes over `file`."""
        self.file = file
        self.age = Age()
        self._users = 0
        self._is_let_go = False

    def fileno(self) -> int:
        return self.file.fileno()

    def take(self) -> HeldFile[F]:
        """Use it until `give_back`."""
        self.age.is_used = True
        self._users += 1
        return self

    def give_back(self) -> None:
        """Once for each `take`."""
        self._users -= 1
        if self._is_let_go and not self._users:
            self.file.close()

    def let_go(self) -> None:
        """Keep it for its users alone. Once."""
        self._is_let_go = True
        if not self._users:
            self.file.close()
