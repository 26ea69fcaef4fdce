"""TLS over a plain socket transport, by trio's SSLStream.

The certificates are asked for at each new connection, so that a reload changes nothing for those that are open.
"""

from __future__ import annotations

import os
import ssl
from typing import Final

import trio

from rs3d.http.buffers import ReceiveBuffer, ReceiveBufferPool
from rs3d.http.deadlines import Deadline
from rs3d.http.limits import RECEIVE_BUFFER_BYTES
from rs3d.http.messages import Buffer, Scheme
from rs3d.http.transport import More, SocketTransport

FILE_PIECE_BYTES: Final = 256 * 1024
"""Bytes of a file encrypted at a time: sixteen TLS records."""

_JOIN_BYTES: Final = 16 * 1024
"""Buffers up to this total are joined before encryption: head and small body share one record, which holds 16 KiB."""


class _CipherStream(trio.abc.Stream):
    """The encrypted side of the SSLStream: the socket transport in the shape of a trio stream."""

    def __init__(self, socket_transport: SocketTransport) -> None:
        self._transport = socket_transport

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._transport.send([data])

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._transport.receive_some(max_bytes or RECEIVE_BUFFER_BYTES)

    async def aclose(self) -> None:
        """Nothing: the transport is closed by its own methods, so that it can still be read while lingering."""


class TlsTransport:
    """A TLS connection on the server's side."""

    __slots__ = ("_socket", "_stream")

    def __init__(self, socket_transport: SocketTransport, context: ssl.SSLContext) -> None:
        """Args:
        socket_transport: owned from now on.
        context: a server context; TLS 1.2 at least, which `serve` sees to.
        """
        self._socket = socket_transport
        self._stream = trio.SSLStream(_CipherStream(socket_transport), context, server_side=True)

    @property
    def deadline(self) -> Deadline:
        return self._socket.deadline

    @property
    def peer(self) -> str:
        return self._socket.peer

    @property
    def local(self) -> str:
        return self._socket.local

    @property
    def scheme(self) -> Scheme:
        return Scheme.HTTPS

    async def open(self) -> None:
        await self._socket.open()
        await self._stream.do_handshake()

    async def receive_first(self, pool: ReceiveBufferPool) -> ReceiveBuffer | None:
        data = await self._receive(RECEIVE_BUFFER_BYTES)
        if not data:
            return None
        buffer = pool.lease()
        buffer.view[: len(data)] = data
        buffer.end = len(data)
        return buffer

    async def receive_into(self, buffer: memoryview) -> int:
        data = await self._receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send_now(self, buffers: list[Buffer]) -> list[Buffer]:
        return buffers

    async def send(self, buffers: list[Buffer], more: More = More.NO) -> None:
        if sum(map(len, buffers)) <= _JOIN_BYTES:
            buffers = [b"".join(buffers)]
        for buffer in buffers:
            # One encrypted copy of a piece exists at a time, not one of the whole body.
            for start in range(0, len(buffer), FILE_PIECE_BYTES):
                await self._stream.send_all(memoryview(buffer)[start : start + FILE_PIECE_BYTES])

    async def send_file(self, fd: int, offset: int, length: int) -> int:
        wanted = min(length, FILE_PIECE_BYTES)
        buffer = bytearray(wanted)
        try:
            count = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            # Not in the page cache: the disk is waited for in a thread.
            count = await trio.to_thread.run_sync(os.preadv, fd, [buffer], offset)
        if count:
            await self._stream.send_all(memoryview(buffer)[:count])
        return count

    def interrupt(self) -> None:
        self._socket.interrupt()

    async def finish_sending(self) -> None:
        # Sends close_notify and does not wait for the peer's; the cipher stream's aclose leaves the socket open.
        await self._stream.aclose()
        await self._socket.finish_sending()

    async def discard(self, buffer: memoryview) -> int:
        return await self._socket.receive_into(buffer)

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        self._socket.abort()

    async def _receive(self, maximum_bytes: int) -> bytes | bytearray:
        try:
            return await self._stream.receive_some(maximum_bytes)
        except trio.BrokenResourceError as error:
            if isinstance(error.__cause__, ssl.SSLEOFError):
                # Many clients close without close_notify. Framing tells whether something is missing.
                return b""
            raise


def require_modern_tls(context: ssl.SSLContext) -> ssl.SSLContext:
    """Raise the lowest protocol version of `context` to TLS 1.2 (RFC 8996 forbids what is older)."""
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
