"""A connection in memory with a client that reads answers by itself, independent of the code under test."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import trio

from rs3d.clock import ManualClock
from rs3d.http.connection import Admission, Connection, Service
from rs3d.http.limits import HttpLimits
from rs3d.http.memory import MemoryTransport, memory_pair
from rs3d.http.messages import Buffer, Bytes, Handler, Render, Request, Response
from rs3d.http.observer import Exchange, SilentObserver
from rs3d.http.refusals import render_plain
from rs3d.http.server import ServerControl, Tls, new_service, serve
from rs3d.http.transport import SocketTransport

HOST = b"Host: store.example\r\n"


@dataclass
class Answer:
    """A response as the client saw it."""

    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes

    def get(self, name: bytes) -> bytes | None:
        found = [value for field_name, value in self.fields if field_name.lower() == name.lower()]
        assert len(found) <= 1, f"{name!r} occurs {len(found)} times"
        return found[0] if found else None


class Recorder(SilentObserver):
    """Keeps what the server reports."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def request_finished(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


class Carrier(Protocol):
    """What a client sends and receives through."""

    async def send(self, buffers: list[Buffer]) -> None: ...

    async def receive_into(self, buffer: memoryview) -> int: ...

    async def finish_sending(self) -> None: ...

    def close(self) -> None: ...


C = TypeVar("C", bound=Carrier)


class Client(Generic[C]):
    """Speaks HTTP through its side of a connection."""

    def __init__(self, transport: C) -> None:
        self.transport = transport
        self._pending = bytearray()

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.transport.send([piece])

    async def get(self, target: bytes = b"/", fields: bytes = b"") -> Answer:
        await self.send(b"GET " + target + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n")
        return await self.answer()

    async def answer(self, method: str = "GET") -> Answer:
        """The next response; a 100 is returned like any other."""
        head = await self._until(b"\r\n\r\n")
        lines = head[:-4].split(b"\r\n")
        version, status, _ = lines[0].split(b" ", 2)
        assert version == b"HTTP/1.1"
        fields = [(name, value) for name, value in (line.split(b": ", 1) for line in lines[1:])]
        answer = Answer(int(status), fields, b"")
        if method == "HEAD" or answer.status in (100, 204, 304):
            return answer
        if answer.get(b"Transfer-Encoding") == b"chunked":
            assert answer.get(b"Content-Length") is None
            while size := int(await self._until(b"\r\n"), 16):
                answer.body += await self._exactly(size)
                assert await self._exactly(2) == b"\r\n"
            assert await self._exactly(2) == b"\r\n"
        elif (length := answer.get(b"Content-Length")) is not None:
            answer.body = await self._exactly(int(length))
        else:
            answer.body = await self.rest()
        return answer

    async def rest(self) -> bytes:
        """Everything until the clean end of the connection."""
        while await self._more():
            pass
        rest, self._pending = bytes(self._pending), bytearray()
        return rest

    async def is_closed(self) -> bool:
        """Whether the connection ends cleanly here. Waits until it ends or bytes come."""
        return not self._pending and not await self._more()

    async def rest_or_reset(self) -> bytes:
        """Everything until the end of the connection, of either kind."""
        await self.was_reset()
        rest, self._pending = bytes(self._pending), bytearray()
        return rest

    async def was_reset(self) -> bool:
        """Whether the connection ends with an error. Waits until it ends; what came before it stays readable."""
        try:
            while await self._more():
                pass
        except trio.BrokenResourceError:
            return True
        return False

    async def close(self) -> None:
        await self.transport.finish_sending()

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._pending:
            assert await self._more(), f"the connection ended within {bytes(self._pending)!r}"
        end = self._pending.index(mark) + len(mark)
        taken = bytes(self._pending[:end])
        del self._pending[:end]
        return taken

    async def _exactly(self, count: int) -> bytes:
        while len(self._pending) < count:
            assert await self._more(), f"the connection ended {count - len(self._pending)} bytes early"
        taken = bytes(self._pending[:count])
        del self._pending[:count]
        return taken

    async def _more(self) -> int:
        piece = bytearray(65536)
        count = await self.transport.receive_into(memoryview(piece))
        self._pending += piece[:count]
        return count


@dataclass
class World:
    """One connection being served, and the means to look at its server."""

    client: Client[MemoryTransport]
    service: Service
    recorder: Recorder
    ended: trio.Event = field(default_factory=trio.Event)


async def echo(request: Request) -> Response:
    """Answers with the body of the request."""
    return Response(status=200, body=Bytes(await read_all(request)))


async def ignore(request: Request) -> Response:
    """Answers without looking at the body."""
    return Response(status=200, body=Bytes(b"ignored"))


async def read_all(request: Request, piece_bytes: int = 1000) -> bytes:
    body = bytearray()
    piece = memoryview(bytearray(piece_bytes))
    while count := await request.body.receive_into(piece):
        body += piece[:count]
    return bytes(body)


def answering(response: Callable[[], Response]) -> Handler:
    """A handler that gives a fresh `response()` to every request."""

    async def handler(request: Request) -> Response:
        return response()

    return handler


@asynccontextmanager
async def connected(
    handler: Handler = echo,
    limits: HttpLimits | None = None,
    render: Render = render_plain,
    admission: Admission = Admission.OPEN,
) -> AsyncIterator[World]:
    """A client connected to a connection that is being served. At the end every receive buffer must be back."""
    recorder = Recorder()
    clock = ManualClock()
    service = new_service(handler, limits or HttpLimits(), clock, render=render, observer=recorder)
    near, far = memory_pair()
    connection = Connection(far, service, admission)
    world = World(Client(near), service, recorder)

    async def run() -> None:
        await connection.run()
        world.ended.set()

    async with trio.open_nursery() as nursery:
        service.watchdog.members.add(connection)
        nursery.start_soon(service.watchdog.run)
        nursery.start_soon(run)
        yield world
        near.close()
        with trio.fail_after(1000):
            await world.ended.wait()
        nursery.cancel_scope.cancel()
    assert service.pool.leased == 0
    assert service.load.in_flight == 0


class Served:
    """A server on loopback sockets."""

    def __init__(self, listeners: Sequence[trio.SocketListener], control: ServerControl, recorder: Recorder) -> None:
        self.sockets = [listener.socket for listener in listeners]
        self.control = control
        self.recorder = recorder
        self.ended = trio.Event()
        self.clients: list[Client[SocketTransport]] = []

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.sockets[0].getsockname()[:2]
        return host, port

    def connect(self) -> Client[SocketTransport]:
        # Blocking, but only until the kernel has put the connection into the listener's queue: the server has not seen
        # it when this returns.
        client = Client(SocketTransport(socket.create_connection(self.address), "server", "client"))
        self.clients.append(client)
        return client


@asynccontextmanager
async def serving(
    handler: Handler = echo,
    limits: HttpLimits | None = None,
    tls: Tls | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Served]:
    """A server on a free port, drained at the end; every connection must have ended by then."""
    listeners = await trio.open_tcp_listeners(0, host=host)
    served = Served(listeners, ServerControl(), Recorder())

    async def run() -> None:
        await serve(served.sockets, handler, limits=limits, tls=tls, control=served.control, observer=served.recorder)
        served.ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield served
        for client in served.clients:
            client.transport.close()
        with trio.fail_after(10):
            await served.control.drain(timeout_s=1)
            await served.ended.wait()
    assert served.control.connection_count == 0
    for listener in listeners:
        await listener.aclose()
