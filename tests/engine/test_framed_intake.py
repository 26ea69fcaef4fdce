"""Bodies whose framing threads take away, in an engine over memory, where each piece has to come by itself, and over a
disk (the fixture `engine` looks for files without a row)."""

from __future__ import annotations

import hashlib
import socket

import pytest
import trio

from rs3d.access.chunksignature import ChunkSigner
from rs3d.access.errors import SignatureDoesNotMatch
from rs3d.access.sigv4 import CredentialScope, PayloadMode, SignatureForm, VerifiedSignature
from rs3d.engine import StorageEngine
from rs3d.http.messages import Head
from rs3d.s3.awschunked import AwsChunkedSource
from tests.engine.bodies import noise
from tests.engine.test_intake import SocketSource, descriptors, sockets

__all__ = ["sockets"]  # a fixture

DATA = noise(7 * 65536 + 11)
Sockets = tuple[socket.socket, trio.SocketStream]
SCOPE = CredentialScope("20261130", "us-east-1")
REQUEST = VerifiedSignature(
    SignatureForm.HEADER, "key", SCOPE, "20261130T000000Z", "0" * 64, PayloadMode.STREAMING_SIGNED, "", bytes(32)
)


def framed(data: bytes, chunk_bytes: int = 8192) -> bytes:
    signer = ChunkSigner(REQUEST.signing_key, REQUEST.timestamp, SCOPE, REQUEST.signature)
    chunks = [data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes)]
    pieces = [
        b"%x;chunk-signature=%b\r\n%b\r\n" % (len(chunk), signer.sign_chunk(chunk).encode(), chunk)
        for chunk in [*chunks, b""]
    ]
    return b"".join(pieces)


FRAMED = framed(DATA)


class HttpBody(SocketSource):
    """What an aws-chunked source has below it."""

    async def receive_into(self, buffer: memoryview) -> int:
        return await super().receive_into(buffer[:10_000])


def source_of(near: socket.socket) -> tuple[HttpBody, AwsChunkedSource]:
    body = HttpBody(near, len(FRAMED))
    return body, AwsChunkedSource(body, REQUEST, len(DATA), Head("PUT", b"/", (1, 1), ()))


async def put(engine: StorageEngine, source: AwsChunkedSource, found: list[str]) -> None:
    found.append((await engine.put_object("bucket", "key", source)).etag)


@pytest.mark.parametrize("is_lendable", [True, False])
async def test_the_body_is_the_same_by_threads_and_by_the_loop(
    engine: StorageEngine, sockets: Sockets, is_lendable: bool
) -> None:
    near, far = sockets
    body, source = source_of(near)
    body.is_lendable = is_lendable
    found: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, engine, source, found)
        await far.send_all(FRAMED + b"next")
    assert found == [hashlib.md5(DATA).hexdigest()]
    assert near.recv(100) == b"next"
    assert len(body.lent) == is_lendable
    assert await engine.get_object("bucket", "key") == DATA


async def test_a_socket_that_is_wanted_back_is_given_back_and_the_loop_goes_on(
    engine: StorageEngine, sockets: Sockets
) -> None:
    near, far = sockets
    body, source = source_of(near)
    found: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, engine, source, found)
        await far.send_all(FRAMED[:100_000])
        while not body.lent:
            await trio.lowlevel.checkpoint()
        body.lent[0]()
        while not body.given_back:
            await trio.lowlevel.checkpoint()
        await far.send_all(FRAMED[100_000:])
    assert found == [hashlib.md5(DATA).hexdigest()]
    assert len(body.lent) == 1  # it is not lent again for this body
    assert await engine.get_object("bucket", "key") == DATA


async def test_a_put_that_is_cancelled_stops_its_thread(engine: StorageEngine, sockets: Sockets) -> None:
    near, far = sockets
    body, source = source_of(near)
    before = descriptors()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, engine, source, [])
            await far.send_all(FRAMED[:100_000])
            while not body.lent:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert len(body.given_back) == 1
    runtime = engine._runtime
    while runtime.arrivals.outstanding or runtime.threads.outstanding:
        await trio.lowlevel.checkpoint()
    assert runtime.buffers.leased == 0
    assert descriptors() <= before + 2  # the pool's threads may have opened their segment meanwhile


@pytest.mark.parametrize("is_lendable", [True, False])
@pytest.mark.parametrize("at", [200, 3 * 65536 + 500, len(FRAMED) - 89])
async def test_a_chunk_that_was_not_signed_stores_nothing(
    engine: StorageEngine, sockets: Sockets, at: int, is_lendable: bool
) -> None:
    near, far = sockets
    body, source = source_of(near)
    body.is_lendable = is_lendable
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.send_all, FRAMED[:at] + bytes([FRAMED[at] ^ 1]) + FRAMED[at + 1 :])
            with pytest.raises(SignatureDoesNotMatch):
                await engine.put_object("bucket", "key", source)
            nursery.cancel_scope.cancel()
    assert engine._runtime.buffers.leased == 0
