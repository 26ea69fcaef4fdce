"""Parked connections with a small write under way: answered together, one by one, or not at all."""

from __future__ import annotations

import math
import socket

import pytest
import trio
import trio.testing

from rs3d.http import parking as parking_module
from rs3d.http.buffers import ReceiveBuffer
from rs3d.http.deadlines import Deadline
from rs3d.http.turns import GATHER_NS
from rs3d.kernels import smallwrites
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.stores.outcomes import nothing_done
from tests.http.test_parking import LIMITS, World, world

ANSWER = b"HTTP/1.1 204 No Content\r\nx-amz-request-id: ID"


async def begin(w: World) -> SmallWrite:
    w.near.send(b"DEL\n")
    await trio.testing.wait_all_tasks_blocked()
    assert w.parking.is_answering(w.far.fileno())
    return w.echo.writes[-1]


def end(*writes: SmallWrite) -> None:
    for write in writes:
        write.take(nothing_done("null"))
    smallwrites.answer(list(writes), b"", lambda: "ID", b"")
    writes[0].finish(list(writes))


async def test_a_write_is_answered_when_it_has_ended_and_the_connection_stays_parked() -> None:
    async with world() as w:
        for _ in range(2):
            write = await begin(w)
            assert w.parking.answering == 1 and w.deadline.expires == math.inf and write.request == b"DEL\n"
            end(write)
            assert await w.receive(len(ANSWER)) == ANSWER
            assert w.parking.answering == 0 and not w.parking.is_answering(w.far.fileno())
            assert w.deadline.expires < math.inf
        w.near.send(b"GET\n")
        assert await w.receive(9) == b"head pong"
        assert not w.woken.is_set() and w.observer.written == w.echo.writes and w.pool.leased == 0


async def test_what_comes_behind_a_write_is_looked_at_after_it() -> None:
    async with world() as w:
        write = await begin(w)
        w.near.send(b"GET\n")
        await trio.testing.wait_all_tasks_blocked()
        assert "answer" not in w.echo.turns
        end(write)
        assert await w.receive(len(ANSWER) + 9) == ANSWER + b"head pong"


async def test_a_write_that_failed_goes_the_long_way_whole_and_those_with_it_are_answered() -> None:
    async with world() as w:
        failed = await begin(w)
        near, far = socket.socketpair()
        with near, far:
            far.setblocking(False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: w.parking.wait(far, Deadline(), "", takes_shortcuts=True, limits=LIMITS))
                near.send(b"DEL\n")
                await trio.testing.wait_all_tasks_blocked()
                other = w.echo.writes[-1]
                other.take(nothing_done("null"))
                smallwrites.answer([failed, other], b"", lambda: "ID", b"")
                failed.finish([failed, other])
                assert near.recv(1000) == ANSWER and w.observer.written == [other]
                nursery.cancel_scope.cancel()
        await w.woken.wait()
        (arrival,) = w.arrivals
        assert isinstance(arrival, ReceiveBuffer) and bytes(arrival.data[:4]) == b"DEL\n"
        assert w.parking.answering == 0


async def test_a_client_that_leaves_during_its_write_is_noticed_with_the_answer() -> None:
    async with world() as w:
        write = await begin(w)
        w.near.close()
        await trio.testing.wait_all_tasks_blocked()
        turns = len(w.echo.turns)
        await trio.testing.wait_all_tasks_blocked()
        assert len(w.echo.turns) == turns
        end(write)
        await w.woken.wait()
        assert isinstance(w.arrivals[0], trio.BrokenResourceError) and w.observer.written == []
        assert w.parking.answering == 0


async def test_an_interrupt_cuts_a_write_whose_answer_goes_to_nobody() -> None:
    async with world() as w:
        write = await begin(w)
        fd = w.far.fileno()
        assert w.parking.interrupt(fd)
        await w.woken.wait()
        assert isinstance(w.arrivals[0], trio.BrokenResourceError) and w.parking.answering == 0
        assert write.fd == -1
        end(write)  # whoever has that descriptor by now gets nothing
        w.near.setblocking(False)
        with pytest.raises(BlockingIOError):
            w.near.recv(100)
        assert not w.observer.written and not w.observer.taken


async def test_a_draining_server_ends_the_connection_behind_a_write() -> None:
    async with world() as w:
        write = await begin(w)
        w.draining.append(True)
        end(write)
        assert await w.receive(len(ANSWER)) == ANSWER
        await w.woken.wait()
        assert w.arrivals == [None]


async def test_what_a_socket_does_not_take_of_an_answer_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        write = await begin(w)
        monkeypatch.setattr(parking_module, "send_answers", lambda writes: None)
        end(write)
        assert await w.receive(len(ANSWER)) == ANSWER
        assert [(taken.operation, taken.status) for taken in w.observer.taken] == [("DeleteObject", 204)]
        assert w.observer.written == [] and w.parking.answering == 0 and not w.woken.is_set()


async def test_what_comes_while_writes_begin_is_looked_at_before_they_are_sent() -> None:
    async with world() as w:
        near, far = socket.socketpair()
        with near, far:
            far.setblocking(False)
            sent = [b"DEL\n", b"GET\n"]
            w.echo.after_turn = lambda: sent and near.send(sent.pop())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: w.parking.wait(far, Deadline(), "", takes_shortcuts=True, limits=LIMITS))
                await trio.testing.wait_all_tasks_blocked()
                await begin(w)
                assert w.echo.turns == ["begin", "end", "begin", "answer", "end", "begin", "end", "send"]
                assert near.recv(100) == b"head pong" and len(w.echo.writes) == 2
                nursery.cancel_scope.cancel()


async def test_writes_are_sent_when_others_go_on_coming() -> None:
    async with world() as w:
        near, far = socket.socketpair()
        with near, far:
            far.setblocking(False)

            def come_again() -> None:
                w.clock.advance(GATHER_NS / 4e9)
                near.send(b"GET\n")

            w.echo.after_turn = come_again
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: w.parking.wait(far, Deadline(), "", takes_shortcuts=True, limits=LIMITS))
                await trio.testing.wait_all_tasks_blocked()
                w.near.send(b"DEL\n")
                with trio.move_on_after(0.05):
                    await w.woken.wait()
                w.echo.after_turn = lambda: None
                assert w.echo.turns.index("send") == 2 + 3 * 4
                nursery.cancel_scope.cancel()
