"""Bodies that a socket delivers, as they are or in signed chunks, for tests of intakes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from rs3d.access.chunksignature import ChunkSigner
from rs3d.access.sigv4 import CredentialScope, PayloadMode, SignatureForm, VerifiedSignature
from rs3d.errors import IncompleteBody
from rs3d.http.messages import Head
from rs3d.s3.awschunked import AwsChunkedSource
from rs3d.types.objects import Checksum
from tests.engine.bodies import noise

DATA = noise(7 * 65536 + 11)
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


class HttpBody(SocketSource):
    """What an aws-chunked source has below it."""

    async def receive_into(self, buffer: memoryview) -> int:
        return await super().receive_into(buffer[:10_000])


@dataclass(frozen=True)
class Sent:
    """A body of DATA: its bytes on the wire, what is at the socket, and what the engine is given."""

    wire: bytes
    body: SocketSource
    source: SocketSource | AwsChunkedSource


def plain(near: socket.socket) -> Sent:
    body = SocketSource(near, len(DATA))
    return Sent(DATA, body, body)


def in_chunks(near: socket.socket) -> Sent:
    body = HttpBody(near, len(FRAMED))
    return Sent(FRAMED, body, AwsChunkedSource(body, REQUEST, len(DATA), Head("PUT", b"/", (1, 1), ())))
