"""Waiting in the loop's place: requests are answered without the scheduler, and it is not kept from anything else."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from rs3d.http import loopwait
from rs3d.http import parking as parking_module
from rs3d.http.loopwait import LoopWait, epoll_watching
from rs3d.kernels.parkedsockets import ParkedSockets
from tests.http.test_parking import World, world


@dataclass
class Loop:
    """Stands for trio: an epoll, and a connection that is parked beside it."""

    sockets: ParkedSockets
    epoll: select.epoll
    near: socket.socket
    far: socket.socket
    turns: list[list[int]] = field(default_factory=list)

    def turn(self, ready: list[int]) -> None:
        self.turns.append(ready)
        self.near.recv(1)

    def is_nudged(self) -> bool:
        return bool(self.epoll.poll(0)) and self.sockets.turn() == []


@pytest.fixture
def loop() -> Iterator[Loop]:
    near, far = socket.socketpair()
    with near, far, select.epoll() as epoll:
        sockets = ParkedSockets(0)
        sockets.watch(near.fileno())
        epoll.register(sockets.fileno(), select.EPOLLIN)
        yield Loop(sockets, epoll, near, far)
        sockets.close()


def test_nothing_is_waited_for_while_tasks_can_run_or_nothing_was_answered_lately(loop: Loop) -> None:
    wait = LoopWait(loop.sockets, loop.epoll.fileno(), loop.turn)
    loop.far.send(b"x")
    wait.before_io_wait(60)
    wait.is_worthwhile = True
    wait.before_io_wait(0)
    assert loop.turns == []


def test_what_arrives_has_its_turns_until_time_is_up_and_then_the_loop_looks_at_its_clock(loop: Loop) -> None:
    wait = LoopWait(loop.sockets, loop.epoll.fileno(), loop.turn)
    wait.is_worthwhile = True
    loop.far.send(b"xyz")
    wait.before_io_wait(0.01)
    assert loop.turns == [[loop.near.fileno()]] * 3
    assert loop.is_nudged()


def test_a_timer_of_the_loops_does_not_make_the_next_wait_worthless(loop: Loop) -> None:
    wait = LoopWait(loop.sockets, loop.epoll.fileno(), loop.turn)
    wait.is_worthwhile = True
    wait.before_io_wait(0.01)
    assert wait.is_worthwhile and loop.turns == []
    assert loop.is_nudged()


def test_a_task_that_a_turn_wakes_ends_the_wait(loop: Loop) -> None:
    def turn(ready: list[int]) -> None:
        loop.turn(ready)
        wait.task_scheduled(trio.lowlevel.current_task())

    async def main() -> None:
        wait.before_io_wait(60)

    wait = LoopWait(loop.sockets, loop.epoll.fileno(), turn)
    wait.is_worthwhile = True
    loop.far.send(b"xyz")
    trio.run(main)
    assert len(loop.turns) == 1
    loop.near.recv(2)
    assert loop.is_nudged()


def test_others_are_looked_at_after_some_time_though_more_comes(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopwait, "BUSY_NS", 0)
    wait = LoopWait(loop.sockets, loop.epoll.fileno(), loop.turn)
    wait.is_worthwhile = True
    loop.far.send(b"xyz")
    wait.before_io_wait(60)
    assert len(loop.turns) == 1


def test_what_is_the_loops_own_ends_the_wait_and_the_next_one_is_not_begun(loop: Loop) -> None:
    wait = LoopWait(loop.sockets, loop.epoll.fileno(), loop.turn)
    wait.is_worthwhile = True
    loop.epoll.register(loop.far, select.EPOLLOUT)
    wait.before_io_wait(60)
    assert not wait.is_worthwhile and loop.turns == []


async def test_the_epoll_of_trio_is_found_by_what_it_watches() -> None:
    with select.epoll() as watched:
        assert epoll_watching(watched.fileno()) is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.wait_readable, watched.fileno())
            await trio.testing.wait_all_tasks_blocked()
            found = epoll_watching(watched.fileno())
            assert found is not None and os.readlink(f"/proc/self/fd/{found}") == "anon_inode:[eventpoll]"
            with select.epoll() as second:
                second.register(watched.fileno(), select.EPOLLIN)
                assert epoll_watching(watched.fileno()) is None
            nursery.cancel_scope.cancel()


def test_where_proc_is_closed_no_epoll_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> list[str]:
        raise PermissionError(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert epoll_watching(3) is None


def ask(w: World, times: int) -> None:
    """In a thread: the loop has nothing to do with the client."""
    w.near.setblocking(True)
    for _ in range(times):
        w.near.send(b"GET\n")
        assert w.near.recv(9, socket.MSG_WAITALL) == b"head pong"


async def test_requests_are_answered_without_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopwait, "BUSY_NS", 10**12)
    waits: list[int] = []

    async def noted(fd: int) -> None:
        waits.append(fd)
        await trio.lowlevel.wait_readable(fd)

    async with world() as w:
        monkeypatch.setattr(parking_module, "wait_readable", noted)
        await trio.to_thread.run_sync(ask, w, 1)
        before = len(waits)
        await trio.to_thread.run_sync(ask, w, 200)
        assert len(w.observer.taken) == 201
        assert len(waits) - before <= 3  # to begin with, and when the thread is over


async def test_timers_run_and_tasks_take_turns_while_requests_are_answered() -> None:
    slept = threading.Event()
    most = 50_000  # some seconds: timers that had to wait for a pause would come only then
    asked = 0

    def ask_until_slept(w: World) -> None:
        nonlocal asked
        while asked < most and not slept.is_set():
            ask(w, 1)
            asked += 1

    async with world() as w, trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, ask_until_slept, w)
        for _ in range(20):
            await trio.sleep(0.001)
        slept.set()
    assert len(w.observer.taken) == asked < most


async def test_a_request_for_the_task_wakes_it_though_others_are_answered_in_place() -> None:
    async with world() as w:
        await trio.to_thread.run_sync(ask, w, 3)
        w.near.send(b"PUT\n")
        await w.woken.wait()
        assert len(w.arrivals) == 1


async def test_nothing_waits_in_the_loops_place_when_the_server_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[trio.abc.Instrument] = []
    remove = trio.lowlevel.remove_instrument

    def noted(instrument: trio.abc.Instrument) -> None:
        removed.append(instrument)
        remove(instrument)

    monkeypatch.setattr(trio.lowlevel, "remove_instrument", noted)
    async with world() as w:
        await trio.to_thread.run_sync(ask, w, 1)
    assert [type(instrument) for instrument in removed] == [LoopWait]
