"""Connections that change the worker: to whom, when, and that nothing of them is lost on the way."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from rs3d.http.balance import ConnectionBoard, make_board
from rs3d.http.handover import FEW, HABIT, OTHERWISE, SETTLING_NS, Handover, make_inbox
from rs3d.http.limits import HttpLimits
from rs3d.http.observer import SilentObserver
from rs3d.http.server import ServerControl, serve
from rs3d.http.shortcut import Taken
from rs3d.kernels import smallwrites
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.stores.outcomes import nothing_done, put_outcome
from tests.http.harness import echo

WRITE = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
REMOVE = b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"
READ = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LONG = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
WORKERS = 3


@pytest.fixture
def fd() -> Iterator[int]:
    made = make_board()
    yield made
    os.close(made)


def boards(fd: int, *connections: int) -> list[ConnectionBoard]:
    made = [ConnectionBoard(fd, slot) for slot in range(len(connections))]
    for board, count in zip(made, connections, strict=True):
        board.publish(count)
    return made


# ------------------------------------------------------------------------------------------------------------- to whom


def test_few_connections_go_to_the_first_who_lives(fd: int) -> None:
    first, second, third = boards(fd, 3, 4, 5)
    assert [board.first_of_few(12) for board in (first, second, third)] == [0, 0, 0]
    assert second.first_of_few(11) is None
    first.leave()
    assert third.first_of_few(12) == 1


def test_the_emptiest_is_one_that_is_not_fuller_afterwards(fd: int) -> None:
    first, second, third = boards(fd, 4, 2, 3)
    assert (first.emptier(), second.emptier(), third.emptier()) == (1, None, None)
    second.publish(0)
    assert (first.emptier(), second.emptier(), third.emptier()) == (1, None, 1)
    second.leave()
    assert (first.emptier(), third.emptier()) == (None, None)


@pytest.mark.parametrize(
    ("writes", "reads", "of_second", "of_first"),
    [
        (HABIT, 0, 0, None),
        (HABIT, OTHERWISE, 0, None),
        (HABIT, OTHERWISE + 1, None, None),
        (OTHERWISE + 1, HABIT, None, None),
        (OTHERWISE, HABIT, 2, 2),
        (0, HABIT, 2, 2),
    ],
)
def test_who_writes_goes_to_the_first_and_who_reads_to_the_emptiest(
    fd: int, writes: int, reads: int, of_second: int | None, of_first: int | None
) -> None:
    first, second, _ = boards(fd, 4, 4, 1)
    pairs = [make_inbox() for _ in range(WORKERS)]
    outboxes = {slot: outbox for slot, (_, outbox) in enumerate(pairs)}
    for slot, board, expected in ((1, second, of_second), (0, first, of_first)):
        others = {place: outbox for place, outbox in outboxes.items() if place != slot}
        handover = Handover(board, pairs[slot][0], others, FEW)
        assert handover.place_for(writes, reads, 1) == expected
        assert handover.place_for(writes, reads, SETTLING_NS) == (expected if reads < HABIT else None)
        assert handover.place_for(writes, reads, SETTLING_NS + 1) == expected
        assert Handover(board, pairs[slot][0], others, 8).place_for(HABIT, 0, 1) is None, "more than one may have"
    for inbox, outbox in pairs:
        inbox.close()
        outbox.close()


def test_an_inbox_that_is_full_takes_nothing_and_one_without_writers_ends(fd: int) -> None:
    board, _ = boards(fd, 0, 0)
    inbox, outbox = make_inbox()
    near, far = socket.socketpair()
    with near, far:
        handover = Handover(board, inbox, {1: outbox}, FEW)
        sent = 0
        while handover.send(1, far):
            sent += 1
        assert sent
        far.close()
        arrived = handover.receive()
        assert len(arrived) == sent
        near.send(b"x")
        assert arrived[0].recv(2) == b"x"
        for connected in arrived:
            connected.close()
        assert near.recv(1) == b""
        assert handover.receive() == []
        outbox.close()
        with pytest.raises(EOFError):
            handover.receive()
    inbox.close()


# ---------------------------------------------------------------------------------------------------------------- when


class Committed:
    """A shortcut that answers GET at once, PUT and DELETE as small writes, which it commits when they are sent, or
    later, when it is told to `hold` them."""

    def __init__(self) -> None:
        self.hold = False
        self._begun: list[SmallWrite] = []

    def begin(self) -> None:
        return

    def end(self) -> None:
        return

    def answer(self, data: bytearray, start: int, end: int) -> Taken | SmallWrite | None:
        if data[start:end] == WRITE:
            fields = (27, 1, b"k", bytes(16), False, bytes(32), None, None, None, b"", 0, 0)
            self._begun.append(smallwrites.put(*fields, lambda _: None))
            return self._begun[-1]
        if data[start:end] == REMOVE:
            self._begun.append(smallwrites.delete(28, 1, b"k", bytes(16), bytes(64), lambda _: None))
            return self._begun[-1]
        if not data.startswith(b"GET", start, end):
            return None
        return Taken([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], end, 0, "GetObject", 200)

    def send(self) -> None:
        if not self.hold:
            self.commit()

    def commit(self) -> None:
        begun, self._begun = self._begun, []
        for write in begun:
            write.take(put_outcome(3, bytes(16), True, False, 5, "etag") if write.is_put else nothing_done("null"))
        smallwrites.answer(begun, b"", lambda: "ID", b"\r\n\r\n")
        begun[0].finish(begun)


class Gauge(SilentObserver):
    """How many connections a worker opened, and took over."""

    def __init__(self) -> None:
        self.opened = self.taken_over = self.closed = 0

    def connection_opened(self, peer: str) -> None:
        self.opened += 1

    def connection_taken_over(self, peer: str) -> None:
        self.taken_over += 1

    def connection_closed(self, peer: str) -> None:
        self.closed += 1


@dataclass
class Workers:
    """Some that listen on one port each: a test says where its connections begin."""

    ports: list[int] = field(default_factory=list)
    controls: list[ServerControl] = field(default_factory=list)
    gauges: list[Gauge] = field(default_factory=list)
    shortcuts: list[Committed] = field(default_factory=list)

    @property
    def counts(self) -> list[int]:
        return [control.connection_count for control in self.controls]

    async def connect(self, worker: int) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.ports[worker])
        await ask(stream, LONG)
        return stream


@asynccontextmanager
async def workers(fd: int, limits: HttpLimits | None = None) -> AsyncIterator[Workers]:
    limits, inboxes, made = limits or HttpLimits(), [make_inbox() for _ in range(WORKERS)], Workers()
    async with trio.open_nursery() as nursery:
        for slot in range(WORKERS):
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            board, gauge = ConnectionBoard(fd, slot), Gauge()
            control, shortcut = ServerControl(board), Committed()
            outboxes = {place: outbox for place, (_, outbox) in enumerate(inboxes) if place != slot}
            handover = Handover(board, inboxes[slot][0], outboxes, limits.connections)

            async def run(
                sock: trio.socket.SocketType = listener.socket,
                control: ServerControl = control,
                gauge: Gauge = gauge,
                shortcut: Committed = shortcut,
                handover: Handover = handover,
            ) -> None:
                with sock:
                    await serve(
                        [sock],
                        echo,
                        control=control,
                        observer=gauge,
                        limits=limits,
                        find_shortcut=lambda: shortcut,
                        handover=handover,
                    )

            nursery.start_soon(run)
            made.ports.append(listener.socket.getsockname()[1])
            made.controls.append(control)
            made.gauges.append(gauge)
            made.shortcuts.append(shortcut)
        yield made
        for control in made.controls:
            await control.drain(1)
    for gauge in made.gauges:
        assert gauge.closed == gauge.opened + gauge.taken_over
    for inbox, outbox in inboxes:
        inbox.close()
        outbox.close()


async def ask(stream: trio.SocketStream, request: bytes, times: int = 1) -> None:
    for _ in range(times):
        await stream.send_all(request)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            got = await stream.receive_some()
            assert got, "the connection was closed"
            answer += got
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 204 "))


async def test_connections_that_write_gather_and_those_that_read_are_spread(fd: int) -> None:
    with trio.fail_after(20):
        async with workers(fd) as w:
            streams = [await w.connect(slot) for slot in (0, 1, 1, 2)]
            for stream in streams:
                await ask(stream, WRITE, HABIT - 1)
            assert w.counts == [1, 2, 1]
            for stream in streams:
                await ask(stream, WRITE)
            await trio.testing.wait_all_tasks_blocked()
            assert w.counts == [4, 0, 0]
            for stream in streams:
                await ask(stream, WRITE, 2 * HABIT)
            assert w.counts == [4, 0, 0]
            while w.counts != [2, 1, 1]:  # one after the other, when the board counts the one before
                for stream in streams:
                    await ask(stream, READ, HABIT)
            for stream in streams:
                await ask(stream, READ, 2 * HABIT)
            assert w.counts == [2, 1, 1]
            assert [gauge.opened for gauge in w.gauges] == [1, 2, 1]
            assert [gauge.taken_over for gauge in w.gauges] == [3, 1, 1]
            for stream in streams:
                await stream.aclose()


async def test_connections_that_delete_are_spread(fd: int) -> None:
    with trio.fail_after(20):
        async with workers(fd) as w:
            streams = [await w.connect(1) for _ in range(3)]
            while w.counts != [1, 1, 1]:
                for stream in streams:
                    await ask(stream, REMOVE, HABIT)
            for stream in streams:
                await ask(stream, REMOVE, 2 * HABIT)
            assert w.counts == [1, 1, 1]
            for stream in streams:
                await stream.aclose()


async def test_connections_that_put_large_bodies_gather(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rs3d.http.connection.LARGE_BODY_BYTES", 8)
    put, small = (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        for body in (b"8 of\r\n\r\n", b"7 o\r\n\r\n")
    )
    with trio.fail_after(20):
        async with workers(fd, HttpLimits(connections=3)) as w:
            streams = [await w.connect(slot) for slot in (0, 1, 2)]
            for stream in streams:
                await ask(stream, small, 2)
            assert w.counts == [1, 1, 1]
            for stream in streams:
                await ask(stream, put)
                await ask(stream, LONG)
            assert w.counts == [3, 0, 0]
            for stream in streams:
                await ask(stream, put, 4)
            assert w.counts == [3, 0, 0]
            streams.append(await w.connect(1))  # one too many
            await ask(streams[-1], put, 4)
            assert w.counts == [3, 1, 0]
            for stream in streams:
                await stream.aclose()


async def test_what_a_client_does_between_long_requests_is_no_habit(fd: int) -> None:
    async with workers(fd) as w:
        stream = await w.connect(1)
        for _ in range(4):
            await ask(stream, WRITE, HABIT - 1)
            await ask(stream, LONG)
        assert w.counts == [0, 1, 0]
        await ask(stream, WRITE, HABIT)
        await ask(stream, LONG)
        assert w.counts == [1, 0, 0]
        await stream.aclose()


@pytest.mark.parametrize("behind", [WRITE, LONG])
async def test_what_was_sent_before_the_hand_over_is_answered_after_it(fd: int, behind: bytes) -> None:
    async with workers(fd) as w:
        stream = await w.connect(2)
        await ask(stream, WRITE, HABIT - 1)
        w.shortcuts[2].hold = True
        await stream.send_all(WRITE)
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(behind)  # into the socket, where nobody looks until the write has ended
        await trio.testing.wait_all_tasks_blocked()
        assert w.counts == [0, 0, 1]
        w.shortcuts[2].commit()
        answers = b""
        with trio.fail_after(5):
            while answers.count(b"\r\n\r\n") < 2:
                got = await stream.receive_some()
                assert got
                answers += got
        assert w.counts == [1, 0, 0]
        await stream.aclose()


async def test_many_connections_stay_where_they_are(fd: int) -> None:
    async with workers(fd, HttpLimits(connections=3)) as w:
        streams = [await w.connect(slot) for slot in (1, 1, 2, 2)]
        for stream in streams:
            await ask(stream, WRITE, HABIT)
        assert w.counts == [0, 2, 2]
        await streams.pop().aclose()
        await trio.testing.wait_all_tasks_blocked()
        await ask(streams[0], WRITE, HABIT)
        await trio.testing.wait_all_tasks_blocked()
        assert w.counts == [1, 1, 1]
        for stream in streams:
            await stream.aclose()


async def test_who_drains_hands_nothing_over_and_gets_nothing(fd: int) -> None:
    async with workers(fd) as w:
        stream, other = await w.connect(1), await w.connect(2)
        await ask(stream, WRITE, HABIT - 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.controls[0].drain, 1)
            await trio.testing.wait_all_tasks_blocked()
            await ask(other, WRITE, HABIT)
            await trio.testing.wait_all_tasks_blocked()
            assert w.counts == [0, 2, 0], "the first who lives is the second now"
            nursery.start_soon(w.controls[1].drain, 1)
            await trio.testing.wait_all_tasks_blocked()
        assert w.counts == [0, 0, 0]
        for ended in (stream, other):
            assert await ended.receive_some() == b""
            await ended.aclose()


async def test_a_connection_in_the_inbox_of_a_dead_worker_waits_for_its_successor(fd: int) -> None:
    first, second = boards(fd, 0, 1)
    inbox, outbox = make_inbox()
    sender = Handover(second, inbox, {0: outbox}, FEW)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream(*listener.socket.getsockname())
    accepted = await listener.accept()
    assert sender.send(0, accepted.socket._sock)  # type: ignore[attr-defined]
    await accepted.aclose()
    await client.send_all(READ)
    control, shortcut = ServerControl(first), Committed()
    async with trio.open_nursery() as nursery:
        handover = Handover(first, inbox, {}, FEW)

        async def run() -> None:
            await serve([listener.socket], echo, control=control, find_shortcut=lambda: shortcut, handover=handover)

        nursery.start_soon(run)
        with trio.fail_after(5):
            assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")
            await ask(client, LONG)
        assert control.connection_count == 1
        await client.aclose()
        await control.drain(1)
    inbox.close()
    outbox.close()
    await listener.aclose()
