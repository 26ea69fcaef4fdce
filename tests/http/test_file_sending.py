"""Long parts of files are sent by threads: the same bytes, and the same ends of a connection, as from the loop."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from rs3d.errors import ObjectDamaged
from rs3d.http import sending as sending_module
from rs3d.http import server as server_module
from rs3d.http import transport as transport_module
from rs3d.http.filesending import FileSenders
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import FdOwnership, FileSpan, FileSpans, Request, Response, SendOutcome
from rs3d.http.transport import SocketTransport, TransportInterrupted
from rs3d.kernels import splice
from tests.http.harness import HOST, Client, Served, serving

MIB = 1 << 20
DATA = random.Random(8).randbytes(12 * MIB + 5)
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
QUICK_LIMITS = HttpLimits(stall_timeout_s=0.05, rate_grace_s=0.05)


@pytest.fixture(scope="module")
def file(module_path: Path) -> Iterator[int]:
    path = module_path / "data"
    path.write_bytes(DATA)
    descriptor = os.open(path, os.O_RDONLY)
    path.unlink()
    yield descriptor
    os.close(descriptor)


class Sendings:
    """Counts what threads send."""

    def __init__(self) -> None:
        self.begun = 0
        self.pauses: list[splice.Pause] = []
        self.at_once = 0
        self.most_at_once = 0


@pytest.fixture
def sendings(monkeypatch: pytest.MonkeyPatch) -> Sendings:
    seen = Sendings()
    lock = threading.Lock()

    class Counted:
        def __init__(self) -> None:
            self._sender = splice.FileSender()
            self.stop = self._sender.stop
            self.rearm = self._sender.rearm

        def send(self, socket_fd: int, file_fd: int, offset: int, length: int, patience_ns: int) -> splice.Sent:
            with lock:
                seen.begun += 1
                seen.at_once += 1
                seen.most_at_once = max(seen.most_at_once, seen.at_once)
            try:
                sent = self._sender.send(socket_fd, file_fd, offset, length, patience_ns)
                seen.pauses.append(sent.pause)
                return sent
            finally:
                with lock:
                    seen.at_once -= 1

    monkeypatch.setattr("rs3d.http.filesending.FileSender", Counted)
    return seen


def few(monkeypatch: pytest.MonkeyPatch, count: int, patience_s: float) -> None:
    monkeypatch.setattr(server_module, "FileSenders", lambda: FileSenders(count, patience_s))


def whole(file: int, length: int = len(DATA)) -> Response:
    return Response(status=200, body=FileSpan(file, 0, length, FdOwnership.BORROWED))


async def begin(served: Served) -> Client[SocketTransport]:
    """A client that has asked and reads nothing."""
    client = served.connect()
    await client.send(GET)
    return client


async def until(holds: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not holds():  # noqa: ASYNC110 - threads, which set no event of this loop
            await trio.sleep(0.001)


async def test_a_long_file_is_sent_by_a_thread_byte_for_byte(
    file: int, sendings: Sendings, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 1, 60.0)

    async def handler(request: Request) -> Response:
        parts = ((3, 2 * MIB), (5 * MIB + 1, 100), (0, len(DATA)))
        return Response(
            status=200, body=FileSpans(tuple(FileSpan(file, *part, FdOwnership.BORROWED) for part in parts))
        )

    async with serving(handler) as served:
        client = served.connect()
        for _ in range(2):
            expected = DATA[3 : 3 + 2 * MIB] + DATA[5 * MIB + 1 : 5 * MIB + 101] + DATA
            assert (await client.get()).body == expected
    assert sendings.pauses == [splice.Pause.DONE] * 4  # what is short is the loop's


async def test_a_short_file_is_sent_by_the_loop(file: int, sendings: Sendings) -> None:
    async def handler(request: Request) -> Response:
        return whole(file, MIB - 1)

    async with serving(handler) as served:
        assert (await served.connect().get()).body == DATA[: MIB - 1]
    assert sendings.begun == 0


async def test_more_bodies_than_threads_are_sent_beside_one_that_is_not_read(
    file: int, sendings: Sendings, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 1, 60.0)

    async def handler(request: Request) -> Response:
        return whole(file)

    async with serving(handler) as served:
        silent = await begin(served)
        await until(lambda: sendings.at_once == 1)
        async with trio.open_nursery() as nursery:
            for _ in range(3):

                async def read() -> None:
                    assert (await served.connect().get()).body == DATA

                nursery.start_soon(read)
        assert sendings.most_at_once == 1
        assert (await silent.answer()).body == DATA


async def test_a_client_that_does_not_read_gives_the_thread_back_and_still_gets_its_body(
    file: int, sendings: Sendings, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 1, 0.001)

    async def handler(request: Request) -> Response:
        return whole(file)

    async with serving(handler) as served:
        silent = await begin(served)
        await until(lambda: sendings.pauses == [splice.Pause.SLOW])
        assert (await silent.answer()).body == DATA
        assert sendings.begun == 1  # the rest, and all that this client asks for later, is the loop's
        assert (await silent.get()).body == DATA
        assert sendings.begun == 1


async def test_a_client_that_takes_much_between_long_waits_keeps_its_thread(
    file: int, sendings: Sendings, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 1, 0.001)
    monkeypatch.setattr(transport_module, "QUICK_BYTES", 0)

    async def handler(request: Request) -> Response:
        return whole(file)

    async with serving(handler) as served:
        waiting = await begin(served)
        await until(lambda: splice.Pause.SLOW in sendings.pauses)
        assert (await waiting.answer()).body == DATA
        assert (await waiting.get()).body == DATA
    assert sendings.begun > 1


async def test_what_a_client_has_left_of_a_file_for_long_is_looked_at_again(
    file: int, sendings: Sendings, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 1, 0.001)
    monkeypatch.setattr(sending_module, "LOOK_AGAIN_S", 0.0)
    looks: list[tuple[int, int, int]] = []

    async def look_again(offset: int, length: int) -> int:
        await trio.lowlevel.checkpoint()
        looks.append((offset, length, min(length, 3 * MIB // (1 + len(looks) % 2))))
        return looks[-1][2]

    async def handler(request: Request) -> Response:
        return Response(status=200, body=FileSpan(file, 5, len(DATA) - 5, FdOwnership.BORROWED, look_again))

    async with serving(handler) as served:
        waiting = await begin(served)
        await until(lambda: splice.Pause.SLOW in sendings.pauses)
        assert (await waiting.answer()).body == DATA[5:]
    assert len(looks) > 2
    for (offset, length, good), (next_offset, next_length, _) in pairwise(looks):
        assert offset < next_offset <= offset + good  # nothing is sent that was not looked at
        assert offset + length == next_offset + next_length == len(DATA)


async def test_what_is_sent_within_a_moment_is_not_looked_at_again(file: int) -> None:
    async def look_again(offset: int, length: int) -> int:
        raise AssertionError("nothing has waited")

    async def handler(request: Request) -> Response:
        return Response(status=200, body=FileSpan(file, 0, MIB, FdOwnership.BORROWED, look_again))

    async with serving(handler) as served:
        assert (await served.connect().get()).body == DATA[:MIB]


async def test_a_file_that_is_not_good_any_more_cuts_the_connection(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending_module, "LOOK_AGAIN_S", 0.0)

    async def look_again(offset: int, length: int) -> int:
        if offset > 2 * MIB:
            raise ObjectDamaged(bucket="bucket", key="key", blob="blob", reason="a byte has changed")
        return min(MIB, length)

    async def handler(request: Request) -> Response:
        return Response(status=200, body=FileSpan(file, 0, len(DATA), FdOwnership.BORROWED, look_again))

    async with serving(handler) as served:
        client = await begin(served)
        assert await client.was_reset()
        assert served.recorder.exchanges[0].outcome is SendOutcome.CUT
        assert 2 * MIB < served.recorder.exchanges[0].bytes_out <= 3 * MIB


@pytest.mark.parametrize("patience_s", [0.001, 0.1])
async def test_a_client_that_does_not_read_is_cut_as_by_the_loop(
    file: int, sendings: Sendings, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    few(monkeypatch, 1, patience_s)

    async def handler(request: Request) -> Response:
        return whole(file)

    async with serving(handler, QUICK_LIMITS) as served:
        silent = await begin(served)
        await until(lambda: served.recorder.exchanges)
        assert served.recorder.exchanges[0].outcome is SendOutcome.CUT
        assert 0 < served.recorder.exchanges[0].bytes_out < len(DATA)
        assert await silent.was_reset()


async def test_a_client_that_leaves_ends_the_sending(file: int, sendings: Sendings) -> None:
    async def handler(request: Request) -> Response:
        return whole(file)

    async with serving(handler) as served:
        leaving = await begin(served)
        await until(lambda: sendings.at_once == 1)
        leaving.transport.abort()
        await until(lambda: served.recorder.exchanges)
        assert served.recorder.exchanges[0].outcome is SendOutcome.CUT
    assert sendings.at_once == 0


async def test_a_drain_that_has_waited_long_enough_stops_the_threads(
    file: int, sendings: Sendings, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 4, 60.0)
    others = set(threading.enumerate())

    async def handler(request: Request) -> Response:
        return whole(file)

    async with serving(handler) as served:
        silent = await begin(served)
        await until(lambda: sendings.at_once == 1)
        await served.control.drain(timeout_s=0.01)
        await until(served.ended.is_set)
        assert sendings.pauses == [splice.Pause.STOPPED]
        assert served.recorder.exchanges[0].outcome is SendOutcome.CUT
        assert 0 < served.recorder.exchanges[0].bytes_out < len(DATA)
        assert await silent.was_reset()
    await until(lambda: not [one for one in set(threading.enumerate()) - others if one.name.startswith("sender-")])


async def test_a_drain_lets_a_body_come_to_its_end(file: int, sendings: Sendings) -> None:
    async def handler(request: Request) -> Response:
        return whole(file)

    async with serving(handler) as served, trio.open_nursery() as nursery:
        client = await begin(served)
        await until(lambda: sendings.at_once == 1)
        nursery.start_soon(served.control.drain, 10)
        answer = await client.answer()
        assert answer.body == DATA


async def test_an_interrupt_ends_the_wait_of_a_thread(file: int, sendings: Sendings) -> None:
    near, far = socket.socketpair()
    senders = FileSenders(1, 60.0)
    transport = SocketTransport(near, "peer", "local", senders)
    sent = 0

    async def interrupt(ended: trio.Event) -> None:
        await trio.lowlevel.wait_readable(far)  # the thread may take its time to begin
        while not ended.is_set():  # one that comes before the socket is full only ends that call
            await trio.sleep(0.001)
            transport.interrupt()

    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupt, ended)
        with trio.fail_after(10), pytest.raises(TransportInterrupted):
            while sent < len(DATA):
                sent += await transport.send_file(file, sent, len(DATA) - sent)
        ended.set()
    transport.close()
    far.close()
    senders.close()
    assert 0 < sent < len(DATA)


async def test_a_file_that_is_shorter_than_said_cuts_the_connection(module_path: Path, sendings: Sendings) -> None:
    path = module_path / "short"
    path.write_bytes(DATA[: 2 * MIB])

    async def handler(request: Request) -> Response:
        return Response(status=200, body=FileSpan(os.open(path, os.O_RDONLY), 0, 4 * MIB))

    async with serving(handler) as served:
        client = await begin(served)
        assert await client.was_reset()
        assert served.recorder.exchanges[0].bytes_out == 2 * MIB
    assert splice.Pause.END in sendings.pauses


async def test_without_threads_to_be_had_the_loop_sends(
    file: int, sendings: Sendings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("rs3d.http.filesending.Sender", refused)

    async def handler(request: Request) -> Response:
        return whole(file)

    async with serving(handler) as served:
        assert (await served.connect().get()).body == DATA
    assert sendings.begun == 0
