"""Requests whose bodies come behind their heads, where the connection is parked."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from rs3d.http.buffers import ReceiveBuffer
from rs3d.http.limits import RECEIVE_BUFFER_BYTES
from rs3d.http.shortcut import Taken, Underway, Unfinished
from rs3d.http.wire import CONTINUE
from rs3d.kernels.smallwrites import SmallWrite
from tests.http.test_parking import World, world

HEAD, BODY = b"PUT\n", b"0123456789"


class Waits:
    """The shortcut of a world, which takes HEAD and BODY when both are there."""

    def __init__(self, w: World, *, expects: bool = False, stop: int = len(HEAD + BODY)) -> None:
        self.asked: list[bytes] = []
        self.unfinished = Unfinished(stop, expects)
        w.echo.answer = self.answer  # type: ignore[method-assign]

    def answer(self, data: bytearray, start: int, end: int) -> Taken | Underway | SmallWrite | Unfinished | None:
        self.asked.append(bytes(data[start:end]))
        if end - start < self.unfinished.stop:
            return self.unfinished
        return Taken([b"done"], end, 0, "PutObject", 200)


async def handed_out(w: World) -> bytes:
    """What the connection's task was woken with."""
    with trio.fail_after(20):
        await w.woken.wait()
    (arrival,) = w.arrivals
    assert isinstance(arrival, ReceiveBuffer)
    return bytes(arrival.data)


async def test_it_is_asked_again_when_the_body_is_whole() -> None:
    async with world() as w:
        shortcut = Waits(w)
        for number in range(1, 3):
            for piece in (HEAD, BODY[:1], BODY[1:9], BODY[9:]):
                w.near.send(piece)
                await trio.testing.wait_all_tasks_blocked()
            assert await w.receive(4) == b"done"
            assert shortcut.asked == [HEAD, HEAD + BODY] * number and len(w.observer.taken) == number
        assert not w.woken.is_set() and w.parking.answering == 0


async def test_who_waits_for_it_is_told_to_go_on() -> None:
    async with world() as w:
        Waits(w, expects=True)
        w.near.send(HEAD)
        assert await w.receive(len(CONTINUE)) == CONTINUE
        w.near.send(BODY)
        assert await w.receive(4) == b"done"


async def test_what_comes_behind_the_body_goes_the_long_way_with_it() -> None:
    async with world() as w:
        shortcut = Waits(w, stop=len(HEAD + BODY) - 1)
        w.near.send(HEAD)
        await trio.testing.wait_all_tasks_blocked()
        shortcut.answer = lambda data, start, end: None  # type: ignore[method-assign]
        w.echo.answer = shortcut.answer  # type: ignore[method-assign]
        w.near.send(BODY)
        assert (await handed_out(w)).startswith(HEAD + BODY)


async def test_a_slow_one_is_the_long_ways(autojump_clock: trio.testing.MockClock) -> None:
    async with world() as w:
        Waits(w)
        w.near.send(HEAD + BODY[:3])
        await trio.testing.wait_all_tasks_blocked()
        assert w.deadline.expires <= w.parking._watchdog.now + 1
        assert w.parking.interrupt(w.far.fileno())  # as the watchdog does when that has passed, and who drains
        assert (await handed_out(w)).startswith(HEAD + BODY[:3])


@pytest.mark.parametrize("how", [socket.SHUT_WR, socket.SHUT_RDWR])
async def test_one_that_ends_is_the_long_ways(how: int) -> None:
    async with world() as w:
        Waits(w)
        w.near.send(HEAD + BODY[:3])
        await trio.testing.wait_all_tasks_blocked()
        w.near.shutdown(how)
        assert (await handed_out(w)).startswith(HEAD + BODY[:3])


async def test_one_that_would_not_fit_is_not_waited_for() -> None:
    async with world() as w:
        shortcut = Waits(w, stop=RECEIVE_BUFFER_BYTES + 1, expects=True)
        w.near.send(HEAD)
        assert (await handed_out(w)).startswith(HEAD)
        assert shortcut.asked == [HEAD]
        with pytest.raises(BlockingIOError):
            w.near.recv(1)


async def test_who_cannot_be_told_to_go_on_goes_the_long_way() -> None:
    async with world() as w:
        Waits(w, expects=True)
        with pytest.raises(BlockingIOError):
            while True:
                w.far.send(bytes(1024))
        w.near.send(HEAD)
        assert (await handed_out(w)).startswith(HEAD)


async def test_a_cancelled_one_holds_nothing() -> None:
    async with world() as w:
        Waits(w)
        w.near.send(HEAD)
        await trio.testing.wait_all_tasks_blocked()
        assert w.pool.leased == 1  # and the world looks when it has ended
