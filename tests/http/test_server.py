"""The server on real sockets: accepting, sharing, draining, resets."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from rs3d.http import server as server_module
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import Buffer, Bytes, FileSpan, Request, Response, Stream
from rs3d.http.server import ServerControl, format_address, request_ids, serve
from tests.http.harness import HOST, answering, connected, echo, ignore, serving

GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


class Gate:
    """A handler that says when a request has come and waits to be let on."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.leave = trio.Event()

    async def __call__(self, request: Request) -> Response:
        self.entered.set()
        await self.leave.wait()
        return Response(status=200, body=Bytes(b"done"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_both_address_families_are_served_and_named(host: str) -> None:
    async def handler(request: Request) -> Response:
        return Response(status=200, body=Bytes(f"{request.peer} {request.local}".encode()))

    async with serving(handler, host=host) as served:
        client = served.connect()
        peer, local = (await client.get()).body.decode().split()
        shown = f"[{host}]" if ":" in host else host
        assert local == f"{shown}:{served.address[1]}"
        assert peer.startswith(f"{shown}:")


def test_addresses_are_written_one_way() -> None:
    assert format_address(("10.0.0.1", 80)) == "10.0.0.1:80"
    assert format_address(("2001:db8::1", 80, 0, 0)) == "[2001:db8::1]:80"
    assert format_address(("::ffff:10.0.0.1", 80, 0, 0)) == "10.0.0.1:80"
    assert format_address("") == "unix"


def test_request_ids_are_16_hexadecimal_digits_and_differ() -> None:
    one, other = request_ids(), request_ids()
    made = [one() for _ in range(1000)] + [other() for _ in range(1000)]
    assert len(set(made)) == 2000
    assert all(len(made_id) == 16 and int(made_id, 16) >= 0 for made_id in made)


async def test_sendfile_and_bytes_give_the_same_answer(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    path = tmp_path / "data"
    path.write_bytes(data)

    async def handler(request: Request) -> Response:
        if request.head.target == b"/bytes":
            return Response(status=200, body=Bytes(data))
        return Response(status=200, body=FileSpan(os.open(path, os.O_RDONLY), 0, len(data)))

    async with serving(handler) as served:
        client = served.connect()
        assert (await client.get(b"/bytes")).body == data
        assert (await client.get(b"/file")).body == data


async def test_a_large_body_is_received_from_a_socket() -> None:
    async def count(request: Request) -> Response:
        piece, total = memoryview(bytearray(1 << 20)), 0
        while received := await request.body.receive_into(piece):
            total += received
        return Response(status=200, body=Bytes(b"%d" % total))

    async with serving(count) as served, trio.open_nursery() as nursery:
        client = served.connect()
        head = b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 20000000\r\n\r\n"
        nursery.start_soon(client.send, head, b"x" * 20_000_000)
        assert (await client.answer()).body == b"20000000"


async def test_d7_a_failing_stream_is_seen_as_a_reset_by_a_real_client() -> None:
    async def failing() -> AsyncIterator[Buffer]:
        yield b"x" * 1000
        raise OSError("disk")

    async with serving(answering(lambda: Response(status=200, body=Stream(failing())))) as served:
        client = served.connect()
        await client.send(GET)
        assert await client.was_reset()


async def test_the_answer_to_an_unread_upload_reaches_a_client_that_keeps_sending() -> None:
    """Without the lingering close, a reset would overtake the answer."""
    async with serving(ignore) as served:
        client = served.connect()

        async def upload() -> None:
            await client.send(b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 8000000\r\n\r\n", b"x" * 8_000_000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload)
            assert (await client.answer()).body == b"ignored"
        client.transport.close()


async def test_connections_above_the_limit_get_503_and_far_above_it_a_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "REFUSING_CONNECTIONS", 1)
    async with serving(ignore, HttpLimits(connections=2)) as served:
        first, second = served.connect(), served.connect()
        assert (await first.get()).status == (await second.get()).status == 200
        third = served.connect()
        await trio.testing.wait_all_tasks_blocked(0.01)
        fourth = served.connect()
        assert await fourth.was_reset()
        answer = await third.get()
        assert (answer.status, answer.get(b"Retry-After")) == (503, b"1")
        assert await third.is_closed()
        third.transport.close()
        first.transport.close()
        while served.control.connection_count > 1:
            await trio.lowlevel.checkpoint()
        assert (await served.connect().get()).status == 200


async def test_drain_closes_idle_connections_and_finishes_busy_ones() -> None:
    gate = Gate()
    async with serving(gate) as served:
        idle, busy = served.connect(), served.connect()
        await busy.send(GET + GET)
        await gate.entered.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.control.drain, 5)
            assert await idle.is_closed()
            assert served.control.draining
            assert served.control.requests_in_flight == 1
            gate.leave.set()
            answer = await busy.answer()
            assert (answer.body, answer.get(b"Connection")) == (b"done", b"close")
            assert await busy.is_closed(), "a pipelined request was answered while draining"
            busy.transport.close()
        await served.ended.wait()


async def test_drain_leaves_the_listener_to_others() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    for _ in range(2):
        control = ServerControl()
        async with trio.open_nursery() as nursery:

            async def run(control: ServerControl = control) -> None:
                await serve([listener.socket], ignore, control=control)

            nursery.start_soon(run)
            stream = await trio.open_tcp_stream(*listener.socket.getsockname())
            await stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            await stream.aclose()
            await control.drain(1)
    await listener.aclose()


async def test_drain_resets_what_does_not_finish_in_time() -> None:
    gate = Gate()
    async with serving(gate) as served:
        client = served.connect()
        await client.send(GET)
        await gate.entered.wait()
        await served.control.drain(0.01)
        await served.ended.wait()
        assert await client.was_reset()


async def test_a_server_started_after_the_drain_ends_at_once() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    control = ServerControl()
    await control.drain(1)
    with trio.move_on_after(5) as patience:
        await serve([listener.socket], ignore, control=control)
    assert not patience.cancelled_caught
    await listener.aclose()


async def test_cancelling_the_server_resets_its_connections() -> None:
    gate = Gate()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await serve([listener.socket], gate)

        nursery.start_soon(run)
        stream = await trio.open_tcp_stream(*listener.socket.getsockname())
        await stream.send_all(GET)
        await gate.entered.wait()
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    await stream.aclose()
    await listener.aclose()


async def test_two_servers_share_a_listener(nursery: trio.Nursery) -> None:
    """As two worker processes do: both are woken, one gets the connection, the other must not mind."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    controls = [ServerControl(), ServerControl()]
    for control in controls:

        async def run(control: ServerControl = control) -> None:
            await serve([listener.socket], ignore, control=control)

        nursery.start_soon(run)
    streams = [await trio.open_tcp_stream(*listener.socket.getsockname()) for _ in range(40)]
    for stream in streams:
        await stream.send_all(GET)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    counts = [control.connection_count for control in controls]
    assert sum(counts) == 40
    assert min(counts) > 0, "one server took everything"
    for stream in streams:
        await stream.aclose()
    for control in controls:
        await control.drain(1)
    await listener.aclose()


async def test_running_out_of_descriptors_pauses_accepting_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    failed = trio.Event()

    class Notice(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            failed.set()

    notice = Notice()
    logging.getLogger("rs3d.http.server").addHandler(notice)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        async with serving(ignore) as served:
            await trio.testing.wait_all_tasks_blocked(0.01)
            connecting = socket.socket()
            connecting.setblocking(False)
            lowest_free = os.dup(connecting.fileno())
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            assert connecting.connect_ex(served.address) != 0
            with trio.fail_after(5):
                await failed.wait()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(connecting))
            await stream.send_all(GET)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            await stream.aclose()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        logging.getLogger("rs3d.http.server").removeHandler(notice)
    assert "accept failed" in caplog.text


async def test_a_client_that_gave_up_in_the_queue_does_not_stop_accepting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [errno.ECONNABORTED, errno.EAGAIN, errno.EPROTO]
    accept = socket.socket.accept

    def failing(listening: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise OSError(failures.pop(), "told by the test")
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", failing)
    async with serving(ignore) as served:
        assert (await served.connect().get()).status == 200
    assert failures == []
    assert caplog.records == [], "nothing that an operator could do anything about"


async def test_an_idle_connection_holds_no_buffer_and_costs_a_few_kib() -> None:
    async with serving(echo) as served:
        clients: list[socket.socket] = []
        host, port = served.address

        async def open_clients(count: int) -> None:
            for _ in range(count):
                client = socket.create_connection((host, port))
                client.sendall(GET)
                await trio.lowlevel.wait_readable(client.fileno())
                client.recv(65536)
                clients.append(client)

        await open_clients(20)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await open_clients(100)
        await trio.testing.wait_all_tasks_blocked(0.01)
        cost = (tracemalloc.get_traced_memory()[0] - before) / 100
        tracemalloc.stop()
        assert served.control.connection_count == 120
        for client in clients:
            client.close()
    assert cost < 8 * 1024, f"{cost:.0f} bytes a connection"


async def test_a_broken_server_ends_one_connection_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """The boundary for mistakes of the package itself: here, a renderer that raises."""

    def render(error: Exception, request: Request | None, request_id: str) -> Response:
        raise RuntimeError("renderer")

    async with connected(render=render) as world:
        await world.client.send(b"nonsense\r\n\r\n")
        assert await world.client.was_reset()
    assert "a connection failed" in caplog.text
