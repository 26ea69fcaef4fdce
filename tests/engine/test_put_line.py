"""The line of bodies that wait for a thread: in order, bounded, and never one that does not move."""

from __future__ import annotations

import pytest

from rs3d.engine import putline
from rs3d.engine.putline import Begun, PutLine


class Waiter:
    """One in line, whose tries end as said, and as BUSY after that."""

    def __init__(self, line: PutLine, *tries: Begun) -> None:
        self._line = line
        self._tries = list(tries)
        self.has_begun = self.has_given_up = False

    def begin(self) -> Begun:
        begun = self._tries.pop(0) if self._tries else Begun.BUSY
        if begun is Begun.YES:
            self.has_begun = True
            self._line.began()
        return begun

    def give_up(self) -> None:
        self.has_given_up = True


@pytest.fixture
def line() -> PutLine:
    """With one under way."""
    made = PutLine()
    made.began()
    return made


def test_they_begin_in_order_as_far_as_there_is_room(line: PutLine) -> None:
    waiters = [Waiter(line, Begun.YES), Waiter(line, Begun.BUSY, Begun.YES), Waiter(line, Begun.YES)]
    assert all(line.join(waiter) for waiter in waiters) and len(line) == 3
    line.ended()
    assert [waiter.has_begun for waiter in waiters] == [True, False, False] and len(line) == 2
    line.move()
    assert all(waiter.has_begun for waiter in waiters) and not len(line)


def test_what_can_never_begin_leaves_and_the_next_has_its_turn(line: PutLine) -> None:
    never, then = Waiter(line, Begun.NO), Waiter(line, Begun.YES)
    assert line.join(never) and line.join(then)
    line.move()
    assert never.has_given_up and then.has_begun and not then.has_given_up


def test_nobody_waits_where_nothing_is_under_way(line: PutLine) -> None:
    waiters = [Waiter(line), Waiter(line)]
    assert all(line.join(waiter) for waiter in waiters)
    line.move()
    assert len(line) == 2
    line.ended()  # the last: what is not free now is held by others, who tell nobody
    assert all(waiter.has_given_up for waiter in waiters) and not len(line)
    assert not line.join(Waiter(line))


def test_who_leaves_is_told_once_and_not_begun(line: PutLine) -> None:
    first, second = Waiter(line, Begun.YES), Waiter(line, Begun.YES)
    assert line.join(first) and line.join(second)
    line.leave(first)
    assert first.has_given_up
    first.has_given_up = False
    line.leave(first)
    line.ended()
    assert not first.has_given_up and not first.has_begun and second.has_begun


def test_the_line_has_an_end(line: PutLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(putline, "MOST_WAITING", 2)
    assert [line.join(Waiter(line)) for _ in range(3)] == [True, True, False]
