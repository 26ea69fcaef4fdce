"""Bodies that threads take in from a socket, as they are and with a framing that they take away, in an engine over
memory, where each piece has to come by itself, and over a disk (the fixture `engine` looks for files without a row):
cancelled, given back too soon, and where the store wants to see each piece."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import trio

from rs3d.access.errors import SignatureDoesNotMatch
from rs3d.engine import StorageEngine
from tests.engine.socketbodies import DATA, FRAMED, Sent, in_chunks, plain
from tests.ownprocess import own_descriptors

Sockets = tuple[socket.socket, trio.SocketStream]
ways = pytest.mark.parametrize("way", [plain, in_chunks])


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(far))
    yield near, stream
    await stream.aclose()
    near.close()


async def put(engine: StorageEngine, sent: Sent, found: list[str]) -> None:
    found.append((await engine.put_object("bucket", "key", sent.source)).etag)


@ways
@pytest.mark.parametrize("is_lendable", [True, False])
async def test_the_body_is_the_same_by_threads_and_by_the_loop(
    engine: StorageEngine, sockets: Sockets, way: Callable[[socket.socket], Sent], is_lendable: bool
) -> None:
    near, far = sockets
    sent = way(near)
    sent.body.is_lendable = is_lendable
    found: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, engine, sent, found)
        await far.send_all(sent.wire + b"next")
    assert found == [hashlib.md5(DATA).hexdigest()]
    assert near.recv(100) == b"next"
    assert len(sent.body.lent) == is_lendable
    assert await engine.get_object("bucket", "key") == DATA


@ways
async def test_a_put_that_is_cancelled_stops_its_thread(
    engine: StorageEngine, sockets: Sockets, way: Callable[[socket.socket], Sent]
) -> None:
    near, far = sockets
    sent = way(near)
    before = len(own_descriptors())
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, engine, sent, [])
            await far.send_all(sent.wire[:100_000])
            while not sent.body.lent:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert len(sent.body.given_back) == 1
    runtime = engine._runtime
    while runtime.arrivals.outstanding or runtime.threads.outstanding:
        await trio.lowlevel.checkpoint()
    assert runtime.buffers.leased == 0
    assert len(own_descriptors()) <= before + 2  # the pool's threads may have opened their segment meanwhile


@ways
async def test_a_socket_that_is_wanted_back_is_given_back_and_the_loop_goes_on(
    engine: StorageEngine, sockets: Sockets, way: Callable[[socket.socket], Sent]
) -> None:
    near, far = sockets
    sent = way(near)
    found: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, engine, sent, found)
        await far.send_all(sent.wire[:100_000])
        while not sent.body.lent:
            await trio.lowlevel.checkpoint()
        sent.body.lent[0]()
        while not sent.body.given_back:
            await trio.lowlevel.checkpoint()
        await far.send_all(sent.wire[100_000:])
    assert found == [hashlib.md5(DATA).hexdigest()]
    assert len(sent.body.lent) == 1  # it is not lent again for this body
    assert not sent.body.given_back[0][1]
    assert await engine.get_object("bucket", "key") == DATA


@pytest.mark.parametrize("is_lendable", [True, False])
@pytest.mark.parametrize("at", [200, 3 * 65536 + 500, len(FRAMED) - 89])
async def test_a_chunk_that_was_not_signed_stores_nothing(
    engine: StorageEngine, sockets: Sockets, at: int, is_lendable: bool
) -> None:
    near, far = sockets
    sent = in_chunks(near)
    sent.body.is_lendable = is_lendable
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.send_all, FRAMED[:at] + bytes([FRAMED[at] ^ 1]) + FRAMED[at + 1 :])
            with pytest.raises(SignatureDoesNotMatch):
                await engine.put_object("bucket", "key", sent.source)
            nursery.cancel_scope.cancel()
    assert engine._runtime.buffers.leased == 0
