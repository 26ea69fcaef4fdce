"""The loop's end of bodies that the kernel `blobarrivals` brings to the disk: told by a task, or by who watches."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import trio
import trio.testing

from rs3d.engine.blobarrivals import BlobArrivals
from rs3d.engine.putline import PutLine
from rs3d.kernels.blobarrivals import Arrival, State
from tests.fakes.deps import MemoryWorld


class Owner:
    """Of one arrival, whose body comes from a socket pair and goes nowhere."""

    def __init__(self, arrivals: BlobArrivals) -> None:
        self.near, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.ended = trio.Event()
        self.fails = False
        taken = arrivals.take()
        assert taken is not None
        self.arrival: Arrival = taken
        self.arrival.owner = self
        self.arrival.aim(self.far.fileno(), bytearray(10), 10, 0, 20_000_000_000)
        self.arrival.place(-1, "nowhere", 1, 1, 0)
        self.arrival.describe(bytes(48), 0, 32, None)
        arrivals.begin(self.arrival)

    def arrived(self, arrival: Arrival) -> None:
        assert arrival is self.arrival and arrival.state is State.FAILED
        self.ended.set()
        if self.fails:
            raise ZeroDivisionError

    async def end(self) -> None:
        self.near.send(bytes(10))
        with trio.fail_after(20):
            await self.ended.wait()
        assert self.arrival.owner is None
        self.near.close()
        self.far.close()


class Watching:
    """Who watches descriptors in the place of a task."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, come: Callable[[], None]) -> Callable[[], None]:
        self.watched[fd] = come

        def end() -> None:
            del self.watched[fd]

        return end


@pytest.fixture
async def arrivals(world: MemoryWorld) -> AsyncIterator[BlobArrivals]:
    made = BlobArrivals(2, 1, world.committer, PutLine())
    yield made
    made.close()
    assert made.take() is None


async def test_a_task_tells_of_ends_where_nobody_watches(arrivals: BlobArrivals) -> None:
    for _ in range(3):
        owner = Owner(arrivals)
        await owner.end()


async def test_no_more_are_taken_than_there_are_threads(arrivals: BlobArrivals) -> None:
    owners = [Owner(arrivals), Owner(arrivals)]
    assert arrivals.take() is None
    for owner in owners:
        await owner.end()
    again = arrivals.take()
    assert again in [owner.arrival for owner in owners]


async def test_who_watches_tells_of_ends_until_it_does_no_more(arrivals: BlobArrivals) -> None:
    first = Owner(arrivals)
    await trio.testing.wait_all_tasks_blocked()
    watching = Watching()
    end = arrivals.read_by(watching.watch)
    await trio.testing.wait_all_tasks_blocked()
    ((fd, come),) = watching.watched.items()
    first.near.send(bytes(10))
    await trio.lowlevel.wait_readable(fd)
    assert not first.ended.is_set()
    come()
    await first.end()
    end()
    await trio.testing.wait_all_tasks_blocked()
    assert not watching.watched
    await Owner(arrivals).end()


async def test_an_owner_that_fails_keeps_nobody_else_from_being_told(
    arrivals: BlobArrivals, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Owner(arrivals), Owner(arrivals)
    first.fails = True
    with caplog.at_level(logging.ERROR):
        await first.end()
        await second.end()
    assert "was not taken" in caplog.text


async def test_no_descriptors_are_no_error(arrivals: BlobArrivals, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", none)
    assert arrivals.take() is None


async def test_what_was_not_taken_here_is_not_begun(arrivals: BlobArrivals) -> None:
    with pytest.raises(RuntimeError, match="not taken here"):
        arrivals.begin(Arrival())


async def test_closing_ends_the_threads_and_the_task(arrivals: BlobArrivals) -> None:
    owner = Owner(arrivals)
    await trio.testing.wait_all_tasks_blocked()
    owner.arrival.stop()
    arrivals.close()
    await trio.testing.wait_all_tasks_blocked()
    assert not owner.ended.is_set() and arrivals.take() is None
    arrivals.close()
    owner.near.close()
    owner.far.close()
