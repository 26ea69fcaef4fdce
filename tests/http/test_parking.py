"""Idle connections in one epoll: answers by a shortcut, everything else handed to the connection's task."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from rs3d.clock import ManualClock
from rs3d.http import parking as parking_module
from rs3d.http.buffers import ReceiveBuffer, ReceiveBufferPool
from rs3d.http.deadlines import Deadline, Watchdog
from rs3d.http.limits import HttpLimits
from rs3d.http.observer import SilentObserver
from rs3d.http.parking import Arrival, Companion, Parking
from rs3d.http.shortcut import FileBody, Incoming, Source, Taken, Underway, Unfinished
from rs3d.http.transport import TransportInterrupted
from rs3d.http.turns import TURNS, TURNS_NS
from rs3d.kernels import smallwrites
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.types.watching import Watch

LIMITS = HttpLimits()
IDLE_S = LIMITS.idle_timeout_s


class Counter(SilentObserver):
    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.written: list[SmallWrite] = []
        self.cut: list[Taken] = []

    def shortcut_taken(self, taken: Taken, duration_ns: int) -> None:
        self.taken.append(taken)

    def writes_taken(self, writes: list[SmallWrite], now_ns: int) -> None:
        self.written += writes

    def shortcut_cut(self, taken: Taken, duration_ns: int) -> None:
        self.cut.append(taken)


class Body(Incoming):
    """The body of a request that begins with BODY."""

    def __init__(self, echo: Echo) -> None:
        super().__init__(5)
        self._echo = echo

    def begin(self, first: memoryview, source: Source) -> bool:
        self._echo.bodies.append((self, bytes(first), source))
        return self._echo.begins


@dataclass
class Echo:
    """A shortcut that answers what begins with GET by `body`, NEW and DEL (a small write) when it is told to, BODY when
    one was received, and fails on BUG."""

    body: bytes = b"pong"
    turns: list[str] = field(default_factory=list)
    file: FileBody | None = None
    release: Callable[[], None] | None = None
    underway: list[Underway] = field(default_factory=list)
    writes: list[SmallWrite] = field(default_factory=list)
    after_turn: Callable[[], object] = lambda: None
    begins: bool = True
    """Whether the body of a request is received by whoever makes the answer."""
    bodies: list[tuple[Incoming, bytes, Source]] = field(default_factory=list)

    def begin(self) -> None:
        self.turns.append("begin")

    def answer(self, data: bytearray, start: int, end: int) -> Taken | Underway | SmallWrite | Unfinished | None:
        if data.startswith(b"BUG", start, end):
            raise ZeroDivisionError
        if data.startswith(b"DEL", start, end):
            self.writes.append(smallwrites.delete(28, 1, b"k", bytes(16), bytes(64), lambda _: None))
            return self.writes[-1]
        if data.startswith(b"NEW", start, end):
            self.underway.append(Underway())
            return self.underway[-1]
        if data.startswith(b"BODY", start, end):
            return Body(self)
        if not data.startswith(b"GET", start, end):
            return None
        self.turns.append("answer")
        stop = data.index(b"\n", start, end) + 1
        if self.file is not None:
            return Taken([b"head "], stop, self.file.length, "GetObject", 200, self.file, release=self.release)
        return Taken([b"head ", self.body], stop, len(self.body), "GetObject", 200, release=self.release)

    def send(self) -> None:
        self.turns.append("send")

    def end(self) -> None:
        self.turns.append("end")
        self.after_turn()


@dataclass
class World:
    parking: Parking
    clock: ManualClock
    pool: ReceiveBufferPool
    observer: Counter
    echo: Echo
    near: socket.socket
    far: socket.socket
    deadline: Deadline
    draining: list[bool]
    arrivals: list[Arrival | BaseException] = field(default_factory=list)
    woken: trio.Event = field(default_factory=trio.Event)

    async def park(self) -> None:
        """Wait once, and keep what came."""
        self.deadline.fix(trio.current_time() + IDLE_S)
        try:
            arrival = await self.parking.wait(self.far, self.deadline, "peer", takes_shortcuts=True, limits=LIMITS)
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
async def world(
    *, may_take: bool = True, body: bytes = b"pong", companions: Sequence[Companion] = ()
) -> AsyncIterator[World]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    draining: list[bool] = []
    echo, observer, pool = Echo(body), Counter(), ReceiveBufferPool()
    clock = ManualClock()
    parking = Parking(
        pool=pool,
        clock=clock,
        observer=observer,
        watchdog=Watchdog(),
        find_shortcut=lambda: echo,
        may_take=lambda: may_take,
        is_draining=lambda: bool(draining),
        companions=companions,
    )
    made = World(parking, clock, pool, observer, echo, near, far, Deadline(), draining)
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parking.run)
            nursery.start_soon(made.park)
            await trio.testing.wait_all_tasks_blocked()
            assert len(parking) == 1
            yield made
            nursery.cancel_scope.cancel()
    assert len(parking) == 0
    assert parking.answering == 0
    assert pool.leased == 0


async def test_a_shortcut_answers_without_waking_the_task() -> None:
    async with world() as w:
        for _ in range(3):
            w.near.send(b"GET\n")
            assert await w.receive(9) == b"head pong"
        assert not w.woken.is_set()
        assert [taken.body_bytes for taken in w.observer.taken] == [4, 4, 4]
        assert w.echo.turns == ["begin", "answer", "end"] * 3


def count_waits(w: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Turns that there had been when the watching task went to the scheduler, from now on."""
    seen: list[int] = []
    watched = w.parking._sockets.fileno()

    async def noted(fd: int) -> None:
        if fd == watched:  # other servers of this process wait, too
            seen.append(w.echo.turns.count("begin"))
        await trio.lowlevel.wait_readable(fd)

    monkeypatch.setattr(parking_module, "wait_readable", noted)
    monkeypatch.setattr(parking_module, "epoll_watching", lambda fd: None)  # nobody waits in the loop's place
    return seen


def ask_again(w: World, times: int) -> None:
    """Have the client send its next request as soon as a turn ends, `times` times."""
    left = iter(range(times))
    w.echo.after_turn = lambda: w.near.send(b"GET\n") if next(left, None) is not None else None


async def test_what_comes_within_a_turn_is_answered_before_the_scheduler_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        seen = count_waits(w, monkeypatch)
        ask_again(w, 4)
        w.near.send(b"GET\n")
        assert await w.receive(45) == b"head pong" * 5
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [5]


async def test_other_tasks_run_after_some_turns_though_more_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        seen = count_waits(w, monkeypatch)
        ask_again(w, TURNS)
        w.near.send(b"GET\n")
        assert await w.receive(9 * (TURNS + 1)) == b"head pong" * (TURNS + 1)
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [TURNS, TURNS + 1]


async def test_other_tasks_run_after_some_time_though_more_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        seen = count_waits(w, monkeypatch)
        left = iter(range(2))

        def take_long() -> None:
            w.clock.advance(TURNS_NS / 1e9)
            if next(left, None) is not None:
                w.near.send(b"GET\n")

        w.echo.after_turn = take_long
        w.near.send(b"GET\n")
        assert await w.receive(27) == b"head pong" * 3
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [1, 2, 3]


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


LARGE = bytes(range(256)) * 8192


@dataclass
class OpenFile:
    body: FileBody
    closed: list[bool]

    def close(self) -> None:
        self.closed.append(True)


@pytest.fixture
def large_file(tmp_path: Path) -> Iterator[OpenFile]:
    """Two mebibytes in a file, from its second byte on."""
    path = tmp_path / "large"
    path.write_bytes(b"?" + LARGE)
    closed: list[bool] = []
    with path.open("rb") as opened:
        yield OpenFile(FileBody(opened.fileno(), 1, len(LARGE)), closed)


async def test_what_the_socket_does_not_take_at_once_follows_without_waking_the_task() -> None:
    async with world(body=LARGE) as w:
        for _ in range(2):
            w.near.send(b"GET\n")
            await trio.testing.wait_all_tasks_blocked()
            assert w.parking.is_answering(w.far.fileno()) and w.parking.answering == 1
            assert await w.receive(5 + len(LARGE)) == b"head " + LARGE
            await trio.testing.wait_all_tasks_blocked()
            assert not w.parking.is_answering(w.far.fileno())
        assert len(w.observer.taken) == 2 and not w.woken.is_set()


async def test_a_file_follows_its_head(large_file: OpenFile) -> None:
    async with world() as w:
        w.echo.file = large_file.body
        for number in range(1, 3):
            closed = trio.Event()
            w.echo.release = closed.set
            w.near.send(b"GET\n")
            assert await w.receive(5 + len(LARGE)) == b"head " + LARGE
            await closed.wait()
            assert len(w.observer.taken) == number and w.parking.answering == 0
        assert not w.woken.is_set()


async def test_a_file_follows_a_head_that_the_socket_did_not_take_at_once(large_file: OpenFile) -> None:
    async with world() as w:
        w.echo.file = large_file.body
        closed = trio.Event()
        w.echo.release = closed.set
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += w.far.send(bytes(1024))
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
        assert w.parking.answering == 1
        assert await w.receive(filled + 5 + len(LARGE)) == bytes(filled) + b"head " + LARGE
        await closed.wait()
        assert len(w.observer.taken) == 1


async def test_the_pace_of_a_file_is_bounded_by_what_has_left_when_deadlines_are_looked_at(
    large_file: OpenFile, mock_clock: trio.testing.MockClock
) -> None:
    async with world() as w:
        look = w.parking._watchdog.look
        w.echo.file = large_file.body
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
        for taken in (True, False):
            look()
            expected = trio.current_time() + LIMITS.stall_timeout_s
            assert w.deadline.expires == pytest.approx(expected)
            mock_clock.jump(20)
            if taken:  # the bytes fill the budget again, and the wait begins anew
                await w.receive(len(LARGE) // 2)
                await trio.testing.wait_all_tasks_blocked()
        look()
        assert w.deadline.expires == pytest.approx(expected)


async def test_a_request_behind_one_for_a_file_is_looked_at_when_that_was_sent(large_file: OpenFile) -> None:
    async with world() as w:
        w.echo.file = large_file.body
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
        assert w.echo.turns.count("answer") == 1
        assert await w.receive(2 * (5 + len(LARGE))) == (b"head " + LARGE) * 2


async def test_a_buffer_is_given_back_when_the_last_of_it_was_sent() -> None:
    async with world(body=LARGE) as w:
        returned: list[bool] = []
        w.echo.release = lambda: returned.append(True)
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
        assert w.parking.is_answering(w.far.fileno()) and not returned
        assert await w.receive(5 + len(LARGE)) == b"head " + LARGE
        await trio.testing.wait_all_tasks_blocked()
        assert returned == [True]


async def test_a_file_that_shrank_cuts_the_connection(large_file: OpenFile) -> None:
    async with world() as w:
        w.echo.file = large_file.body._replace(length=len(LARGE) + 1)
        w.echo.release = large_file.close
        w.near.send(b"GET\n")
        await w.receive(5 + len(LARGE))
        await w.woken.wait()
        assert isinstance(w.arrivals[0], trio.BrokenResourceError)
        assert large_file.closed == [True] and len(w.observer.cut) == 1


async def test_an_interrupt_of_an_answer_cuts_it(large_file: OpenFile) -> None:
    async with world() as w:
        w.echo.file = large_file.body
        w.echo.release = large_file.close
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
        w.parking._watchdog.look()
        assert w.deadline.expires < trio.current_time() + LIMITS.stall_timeout_s + 1
        w.parking.interrupt(w.far.fileno())
        await w.woken.wait()
        assert isinstance(w.arrivals[0], trio.BrokenResourceError)
        assert large_file.closed == [True] and len(w.observer.cut) == 1


async def test_a_client_that_leaves_within_its_answer_cuts_it(large_file: OpenFile) -> None:
    async with world() as w:
        w.echo.file = large_file.body
        w.echo.release = large_file.close
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
        w.near.close()
        await w.woken.wait()
        assert isinstance(w.arrivals[0], trio.BrokenResourceError)
        assert large_file.closed == [True] and w.observer.taken == []


async def test_a_cancelled_answer_is_closed(large_file: OpenFile) -> None:
    async with world() as w:
        w.echo.file = large_file.body
        w.echo.release = large_file.close
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
    assert large_file.closed == [True] and len(w.observer.cut) == 1


async def test_while_draining_an_answer_ends_first_and_the_connection_after_it(large_file: OpenFile) -> None:
    async with world() as w:
        w.echo.file = large_file.body
        w.echo.release = large_file.close
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
        w.draining.append(True)
        assert await w.receive(5 + len(LARGE)) == b"head " + LARGE
        await w.woken.wait()
        assert w.arrivals == [None]


async def test_bytes_behind_a_request_for_a_file_send_both_the_long_way(large_file: OpenFile) -> None:
    async with world() as w:
        w.echo.file = large_file.body
        w.echo.release = large_file.close
        w.near.send(b"GET\nGET\n")
        await w.woken.wait()
        assert isinstance(w.arrivals[0], ReceiveBuffer)
        assert large_file.closed == [True]


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
            await w.parking.wait(other, Deadline(), "peer", takes_shortcuts=True, limits=LIMITS)
        assert len(w.parking) == 1


STORED = Taken([b"stored"], 4, 0, "PutObject", 200, received_bytes=1)


async def test_an_answer_under_way_is_sent_when_it_is_made_and_the_connection_stays_parked() -> None:
    async with world() as w:
        for number in range(2):
            w.near.send(b"NEW\n")
            await trio.testing.wait_all_tasks_blocked()
            assert w.parking.answering == 1
            assert w.parking.is_answering(w.far.fileno())
            assert w.deadline.expires == math.inf
            w.echo.underway[number].finish(STORED)
            assert await w.receive(6) == b"stored"
            assert w.parking.answering == 0
        w.near.send(b"GET\n")
        assert await w.receive(9) == b"head pong"
        assert not w.woken.is_set()
        assert [taken.operation for taken in w.observer.taken] == ["PutObject", "PutObject", "GetObject"]


async def test_what_comes_behind_an_answer_under_way_is_looked_at_after_it() -> None:
    async with world() as w:
        w.near.send(b"NEW\n")
        await trio.testing.wait_all_tasks_blocked()
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
        assert "answer" not in w.echo.turns
        w.echo.underway[0].finish(STORED)
        assert await w.receive(15) == b"storedhead pong"


async def test_a_request_whose_answer_could_not_be_made_goes_the_long_way_whole() -> None:
    async with world() as w:
        w.near.send(b"NEW\n")
        await trio.testing.wait_all_tasks_blocked()
        w.near.send(b"more")
        await trio.testing.wait_all_tasks_blocked()
        w.echo.underway[0].finish(None)
        await w.woken.wait()
        (arrival,) = w.arrivals
        assert isinstance(arrival, ReceiveBuffer) and bytes(arrival.data[:4]) == b"NEW\n"


async def test_a_client_that_leaves_while_its_answer_is_under_way_is_noticed_with_the_answer() -> None:
    async with world() as w:
        w.near.send(b"NEW\n")
        await trio.testing.wait_all_tasks_blocked()
        w.near.close()
        await trio.testing.wait_all_tasks_blocked()
        turns = len(w.echo.turns)
        await trio.testing.wait_all_tasks_blocked()
        assert len(w.echo.turns) == turns  # an end that is known is not told of again and again
        w.echo.underway[0].finish(STORED)
        await w.woken.wait()
        assert isinstance(w.arrivals[0], trio.BrokenResourceError)


async def test_an_interrupt_cuts_an_answer_under_way_and_its_end_is_no_matter_any_more() -> None:
    async with world() as w:
        w.near.send(b"NEW\n")
        await trio.testing.wait_all_tasks_blocked()
        assert w.parking.interrupt(w.far.fileno())
        await w.woken.wait()
        assert isinstance(w.arrivals[0], trio.BrokenResourceError)
        w.echo.underway[0].finish(STORED)
        assert w.observer.taken == []


async def test_a_draining_server_ends_the_connection_behind_an_answer_that_was_under_way() -> None:
    async with world() as w:
        w.near.send(b"NEW\n")
        await trio.testing.wait_all_tasks_blocked()
        w.draining.append(True)
        w.echo.underway[0].finish(STORED)
        assert await w.receive(6) == b"stored"
        await w.woken.wait()
        assert w.arrivals == [None]


async def incoming(w: World, sent: bytes) -> tuple[Incoming, Source]:
    """A body on its way, of which some has come."""
    w.near.send(b"BODY\n" + sent)
    await trio.testing.wait_all_tasks_blocked()
    begun, first, source = w.echo.bodies[-1]
    assert first == sent
    assert w.parking.answering == 1 and w.parking.is_answering(w.far.fileno())
    return begun, source


async def test_a_body_is_received_by_whoever_makes_the_answer_and_the_connection_stays_parked() -> None:
    async with world() as w:
        for number in range(2):
            begun, source = await incoming(w, b"some")
            w.near.send(b" more")
            rest = bytearray(5)
            assert source.receive(memoryview(rest)) == 5 and rest == b" more"
            w.near.send(b"GET\n")  # seen by nobody before the answer
            await trio.testing.wait_all_tasks_blocked()
            begun.finish(STORED)
            assert await w.receive(15) == b"storedhead pong"
            assert w.parking.answering == 0
            assert len(w.observer.taken) == 2 * (number + 1)
        assert not w.woken.is_set()


async def test_a_body_that_nobody_can_receive_now_goes_the_long_way() -> None:
    async with world() as w:
        w.echo.begins = False
        w.near.send(b"BODY\nsome")
        await w.woken.wait()
        arrived = w.arrivals[0]
        assert isinstance(arrived, ReceiveBuffer)
        assert bytes(arrived.data[:9]) == b"BODY\nsome"


async def test_what_was_received_of_a_body_goes_the_long_way_as_if_it_had_just_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    came: list[bytes] = []
    release = ReceiveBufferPool.release

    def seen(pool: ReceiveBufferPool, buffer: ReceiveBuffer) -> None:
        came.append(bytes(buffer.view[buffer.start : buffer.end]))
        release(pool, buffer)

    async with world() as w:
        begun, source = await incoming(w, b"some")
        w.near.send(b" more")
        rest = bytearray(100_000)
        w.near.shutdown(socket.SHUT_WR)
        assert source.receive(memoryview(rest)) == 5
        begun.received = b"some" + rest[:5]
        monkeypatch.setattr(ReceiveBufferPool, "release", seen)
        begun.finish(None)
        await w.woken.wait()
        assert came[-1] == b"BODY\nsome more"
        assert w.observer.taken == [] and w.parking.answering == 0


async def test_an_interrupt_stops_a_receiving_and_lets_the_long_way_say_why() -> None:
    async with world() as w:
        begun, source = await incoming(w, b"some")
        assert w.parking.interrupt(w.far.fileno())
        assert source.receive(memoryview(bytearray(5))) == 0
        assert not w.woken.is_set()
        begun.received = b"some"
        begun.finish(None)
        await w.woken.wait()
        assert isinstance(w.arrivals[0], ReceiveBuffer)


async def test_an_interrupt_stops_whom_the_socket_was_lent_to() -> None:
    async with world() as w:
        stops: list[None] = []
        begun, source = await incoming(w, b"some")
        assert source.lend(lambda: stops.append(None)) == w.far.fileno()
        assert w.parking.interrupt(w.far.fileno()) and len(stops) == 1
        source.give_back(is_slow=True)
        assert w.parking.interrupt(w.far.fileno()) and len(stops) == 1
        begun.finish(STORED)
        assert await w.receive(6) == b"stored"
        assert w.deadline.lags and not w.woken.is_set()


@pytest.mark.parametrize("answer", [None, STORED])
async def test_a_cancelled_connection_waits_for_the_thread_that_receives_from_it(answer: Taken | None) -> None:
    async with world() as w:
        other, peer = socket.socketpair()
        peer.setblocking(False)
        with other, peer:
            async with trio.open_nursery() as nursery:

                async def park() -> None:
                    arrived = await w.parking.wait(peer, Deadline(), "peer", takes_shortcuts=True, limits=LIMITS)
                    assert (arrived is None) == (answer is not None)
                    if arrived is not None:
                        w.pool.release(arrived)

                nursery.start_soon(park)
                await trio.testing.wait_all_tasks_blocked()
                other.send(b"BODY\n")
                await trio.testing.wait_all_tasks_blocked()
                begun, _, source = w.echo.bodies[-1]
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                assert w.parking.is_answering(peer.fileno())
                assert source.receive(memoryview(bytearray(5))) == 0
                begun.finish(answer)
        assert not w.parking.is_answering(peer.fileno()) and w.parking.answering == 0
        assert len(w.parking) == 1


@pytest.mark.parametrize("how", ["cancelled", "interrupted"])
async def test_a_body_that_waits_for_a_thread_is_handed_out_within_the_stop(how: str) -> None:
    async with world() as w:
        other, peer = socket.socketpair()
        peer.setblocking(False)
        arrived: list[bytes] = []
        with other, peer:
            async with trio.open_nursery() as nursery:

                async def park() -> None:
                    buffer = await w.parking.wait(peer, Deadline(), "peer", takes_shortcuts=True, limits=LIMITS)
                    assert buffer is not None
                    arrived.append(bytes(buffer.view[: buffer.end]))
                    w.pool.release(buffer)

                nursery.start_soon(park)
                await trio.testing.wait_all_tasks_blocked()
                other.send(b"BODY\nsome")
                await trio.testing.wait_all_tasks_blocked()
                begun, first, source = w.echo.bodies[-1]
                begun.received = first
                source.lend(lambda: begun.finish(None))
                if how == "cancelled":
                    nursery.cancel_scope.cancel()
                else:
                    assert w.parking.interrupt(peer.fileno())
        assert arrived == [b"BODY\nsome"] and w.parking.answering == 0 and len(w.parking) == 1


async def test_a_client_that_let_a_thread_wait_gets_no_other() -> None:
    async with world() as w:
        begun, _ = await incoming(w, b"")
        begun.finish(STORED)
        await w.receive(6)
        w.deadline.lags = True
        w.near.send(b"BODY\n")
        await w.woken.wait()
        assert len(w.echo.bodies) == 1


class Beside:
    """A companion with a descriptor of its own."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.came: list[bytes] = []
        self.on_come: Callable[[], None] = lambda: None
        self.has_ended = False

    def __call__(self, watch: Watch) -> Callable[[], None]:
        end = watch(self.far.fileno(), self.come)

        def leave() -> None:
            end()
            end()  # harmless
            self.has_ended = True

        self.end = end
        return leave

    def come(self) -> None:
        self.came.append(self.far.recv(100))
        self.on_come()

    def close(self) -> None:
        self.near.close()
        self.far.close()


async def test_what_comes_beside_the_connections_is_read_without_a_turn_of_theirs() -> None:
    with contextlib.closing(Beside()) as beside:
        async with world(companions=(beside,)) as w:
            for number in range(3):
                beside.near.send(b"%d" % number)
                await trio.testing.wait_all_tasks_blocked()
                w.near.send(b"GET\n")
                assert await w.receive(9) == b"head pong"
            assert beside.came == [b"0", b"1", b"2"]
            assert w.echo.turns == ["begin", "answer", "end"] * 3
            beside.end()
            beside.near.send(b"unread")
            await trio.testing.wait_all_tasks_blocked()
            assert len(beside.came) == 3
        assert beside.has_ended


async def test_what_comes_beside_the_connections_comes_before_their_requests() -> None:
    """A request that follows from an answer to another connection is decided with what that answer told of."""
    with contextlib.closing(Beside()) as beside:
        async with world(companions=(beside,)) as w:
            beside.on_come = lambda: w.echo.turns.append("beside")
            w.near.send(b"GET\n")
            beside.near.send(b"x")
            assert await w.receive(9) == b"head pong"
            assert w.echo.turns == ["beside", "begin", "answer", "end"]
