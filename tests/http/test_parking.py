"""Idle connections in one epoll: answers by a shortcut, everything else handed to the connection's task."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from rs3d.clock import ManualClock
from rs3d.http.buffers import ReceiveBuffer, ReceiveBufferPool
from rs3d.http.deadlines import Deadline, Watchdog
from rs3d.http.observer import SilentObserver
from rs3d.http.parking import Arrival, Parking, Unsent
from rs3d.http.shortcut import Taken
from rs3d.http.transport import TransportInterrupted

IDLE_S = 120.0


class Counter(SilentObserver):
    def __init__(self) -> None:
        self.taken: list[Taken] = []

    def shortcut_taken(self, taken: Taken, duration_ns: int) -> None:
        self.taken.append(taken)


@dataclass
class Echo:
    """A shortcut that answers what begins with GET by `body`, and fails on BUG."""

    body: bytes = b"pong"
    turns: list[str] = field(default_factory=list)

    def begin(self) -> None:
        self.turns.append("begin")

    def answer(self, data: bytearray, start: int, end: int) -> Taken | None:
        if data.startswith(b"BUG", start, end):
            raise ZeroDivisionError
        if not data.startswith(b"GET", start, end):
            return None
        self.turns.append("answer")
        return Taken([b"head ", self.body], data.index(b"\n", start, end) + 1, len(self.body), "GetObject", 200)

    def end(self) -> None:
        self.turns.append("end")


@dataclass
class World:
    parking: Parking
    pool: ReceiveBufferPool
    observer: Counter
    echo: Echo
    near: socket.socket
    far: socket.socket
    deadline: Deadline
    arrivals: list[Arrival | BaseException] = field(default_factory=list)
    woken: trio.Event = field(default_factory=trio.Event)

    async def park(self) -> None:
        """Wait once, and keep what came."""
        self.deadline.fix(trio.current_time() + IDLE_S)
        try:
            arrival = await self.parking.wait(
                self.far, self.deadline, "peer", takes_shortcuts=True, idle_timeout_s=IDLE_S
            )
            self.arrivals.append(arrival)
            if isinstance(arrival, ReceiveBuffer):
                self.arrivals[-1] = arrival
                self.pool.release(arrival)
        except (TransportInterrupted, trio.BrokenResourceError) as error:
            self.arrivals.append(error)
        self.woken.set()

    async def receive(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            await trio.lowlevel.wait_readable(self.near)
            got += self.near.recv(count - len(got))
        return got


@asynccontextmanager
async def world(*, may_take: bool = True, body: bytes = b"pong") -> AsyncIterator[World]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    echo, observer, pool = Echo(body), Counter(), ReceiveBufferPool()
    parking = Parking(
        pool=pool,
        clock=ManualClock(),
        observer=observer,
        watchdog=Watchdog(),
        find_shortcut=lambda: echo,
        may_take=lambda: may_take,
    )
    made = World(parking, pool, observer, echo, near, far, Deadline())
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parking.run)
            nursery.start_soon(made.park)
            await trio.testing.wait_all_tasks_blocked()
            assert len(parking) == 1
            yield made
            nursery.cancel_scope.cancel()
    assert len(parking) == 0
    assert pool.leased == 0


async def test_a_shortcut_answers_without_waking_the_task() -> None:
    async with world() as w:
        for _ in range(3):
            w.near.send(b"GET\n")
            assert await w.receive(9) == b"head pong"
        assert not w.woken.is_set()
        assert [taken.body_bytes for taken in w.observer.taken] == [4, 4, 4]
        assert w.echo.turns == ["begin", "answer", "end"] * 3


async def test_each_answer_moves_the_idle_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with world() as w:
        before = w.deadline.expires
        w.parking._watchdog.now = trio.current_time() + 50
        w.near.send(b"GET\n")
        await w.receive(9)
        assert w.deadline.expires >= before + 50


@pytest.mark.parametrize("sent", [b"PUT\n", b"GET\nGET\n", b"BUG\n"])
async def test_everything_else_wakes_the_task_with_its_bytes(sent: bytes) -> None:
    async with world() as w:
        w.near.send(sent)
        await w.woken.wait()
        assert isinstance(w.arrivals[0], ReceiveBuffer)
        assert bytes(w.arrivals[0].data[: len(sent)]) == sent
        assert w.observer.taken == []


async def test_no_shortcut_is_taken_while_none_may_be() -> None:
    async with world(may_take=False) as w:
        w.near.send(b"GET\n")
        await w.woken.wait()
        assert isinstance(w.arrivals[0], ReceiveBuffer) and w.echo.turns == []


async def test_the_end_of_the_stream_is_told() -> None:
    async with world() as w:
        w.near.shutdown(socket.SHUT_WR)
        await w.woken.wait()
        assert w.arrivals == [None]


async def test_an_interrupt_wakes_the_task_and_only_a_parked_one() -> None:
    async with world() as w:
        assert w.parking.interrupt(w.far.fileno())
        assert not w.parking.interrupt(w.far.fileno())
        await w.woken.wait()
        assert isinstance(w.arrivals[0], TransportInterrupted)


async def test_what_the_socket_does_not_take_is_left_to_the_task() -> None:
    body = bytes(range(256)) * 8192
    async with world(body=body) as w:
        w.near.send(b"GET\n")
        await w.woken.wait()
        (unsent,) = w.arrivals
        assert isinstance(unsent, Unsent)
        rest = b"".join(bytes(piece) for piece in unsent.rest)
        sent = await w.receive(5 + len(body) - len(rest))
        assert sent + rest == b"head " + body
        assert w.observer.taken == []


async def test_a_peer_that_left_before_its_answer_is_a_broken_connection() -> None:
    async with world() as w:
        w.near.send(b"GET\n")
        w.near.close()
        await w.woken.wait()
        assert isinstance(w.arrivals[0], trio.BrokenResourceError)


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    async with world() as w:
        other, peer = socket.socketpair()
        with other, peer, trio.move_on_after(0.01):
            await w.parking.wait(other, Deadline(), "peer", takes_shortcuts=True, idle_timeout_s=IDLE_S)
        assert len(w.parking) == 1
