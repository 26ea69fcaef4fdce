"""Bodies that threads take in from a socket, in an engine over memory and over a disk (the fixture `engine` looks for
files without a row): cancelled, given back too soon, and where the store wants to see each piece."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import trio

from rs3d.engine import StorageEngine
from rs3d.errors import IncompleteBody
from rs3d.types.objects import Checksum
from tests.engine.bodies import noise
from tests.ownprocess import own_descriptors

DATA = noise(5 * 65536 + 11)


class SocketSource:
    """A body that a socket delivers; how often it was lent, and what was said of it afterwards."""

    def __init__(self, near: socket.socket, length: int) -> None:
        self._near = near
        self.declared_bytes = length
        self.is_lendable = True
        self.received_bytes = 0
        self.lent: list[Callable[[], None]] = []
        self.given_back: list[tuple[int, bool]] = []

    @property
    def direct(self) -> SocketSource:
        return self

    @property
    def framed(self) -> None:
        return None

    def lend(self, stop: Callable[[], None]) -> int | None:
        if not self.is_lendable:
            return None
        self.lent.append(stop)
        return self._near.fileno()

    def give_back(self, received_bytes: int, waited_s: float, *, is_slow: bool) -> None:
        assert waited_s >= 0
        self.given_back.append((received_bytes, is_slow))
        self.received_bytes += received_bytes

    def whole(self) -> memoryview | None:
        return None

    async def receive_into(self, buffer: memoryview) -> int:
        assert len(self.lent) == len(self.given_back), "a thread is at the socket"
        left = self.declared_bytes - self.received_bytes
        if not left:
            return 0
        while True:
            try:
                count = self._near.recv_into(buffer[:left])
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._near)
                continue
            if not count:
                raise IncompleteBody(declared_bytes=self.declared_bytes, received_bytes=self.received_bytes)
            self.received_bytes += count
            return count

    def trailing_checksums(self) -> Sequence[Checksum]:
        return ()


@pytest.fixture
async def sockets() -> AsyncIterator[tuple[socket.socket, trio.SocketStream]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(far))
    yield near, stream
    await stream.aclose()
    near.close()


def descriptors() -> int:
    return len(own_descriptors())


async def put(engine: StorageEngine, source: SocketSource, found: list[str]) -> None:
    found.append((await engine.put_object("bucket", "key", source)).etag)


@pytest.mark.parametrize("is_lendable", [True, False])
async def test_the_body_is_the_same_by_threads_and_by_the_loop(
    engine: StorageEngine, sockets: tuple[socket.socket, trio.SocketStream], is_lendable: bool
) -> None:
    near, far = sockets
    source = SocketSource(near, len(DATA))
    source.is_lendable = is_lendable
    found: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, engine, source, found)
        await far.send_all(DATA + b"next")
    assert found == [hashlib.md5(DATA).hexdigest()]
    assert near.recv(100) == b"next"
    assert len(source.lent) == is_lendable
    assert await engine.get_object("bucket", "key") == DATA


async def test_a_put_that_is_cancelled_stops_its_thread(
    engine: StorageEngine, sockets: tuple[socket.socket, trio.SocketStream]
) -> None:
    near, far = sockets
    source = SocketSource(near, len(DATA))
    before = descriptors()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, engine, source, [])
            await far.send_all(DATA[:100_000])
            while not source.lent:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert len(source.given_back) == 1
    runtime = engine._runtime
    while runtime.arrivals.outstanding or runtime.threads.outstanding:
        await trio.lowlevel.checkpoint()
    assert runtime.buffers.leased == 0
    assert descriptors() <= before + 2  # the pool's threads may have opened their segment meanwhile


async def test_a_socket_that_is_wanted_back_is_given_back_and_the_loop_goes_on(
    engine: StorageEngine, sockets: tuple[socket.socket, trio.SocketStream]
) -> None:
    near, far = sockets
    source = SocketSource(near, len(DATA))
    found: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, engine, source, found)
        await far.send_all(DATA[:100_000])
        while not source.lent:
            await trio.lowlevel.checkpoint()
        source.lent[0]()
        while not source.given_back:
            await trio.lowlevel.checkpoint()
        await far.send_all(DATA[100_000:])
    assert found == [hashlib.md5(DATA).hexdigest()]
    assert len(source.lent) == 1  # it is not lent again for this body
    assert not source.given_back[0][1]
