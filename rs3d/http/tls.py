"""TLS over a plain socket transport: the SSL object of the standard library between two memory buffers.

Not trio's SSLStream: that hands out one record of 16 KiB a call, each through the scheduler, and copies it once more.
Here one system call brings up to 64 KiB of records, which are decrypted straight into the caller's buffer.

The certificates are asked for at each new connection, so that a reload changes nothing for those that are open.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

import trio

from rs3d.http.buffers import ReceiveBuffer, ReceiveBufferPool
from rs3d.http.deadlines import Deadline
from rs3d.http.limits import RECEIVE_BUFFER_BYTES
from rs3d.http.messages import Buffer, Scheme
from rs3d.http.transport import More, SocketTransport

PIECE_BYTES: Final = 256 * 1024
"""Bytes encrypted at a time: sixteen TLS records. One encrypted copy of a piece exists, not one of the whole body."""

_JOIN_BYTES: Final = 16 * 1024
"""Buffers up to this total are joined before encryption: head and small body share one record, which holds 16 KiB."""


class TlsTransport:
    """A TLS connection on the server's side."""

    __slots__ = ("_incoming", "_outgoing", "_socket", "_tls", "deadline", "local", "peer", "scheme")

    def __init__(self, socket_transport: SocketTransport, context: ssl.SSLContext) -> None:
        """Args:
        socket_transport: owned from now on.
        context: a server context; TLS 1.2 at least, which `require_modern_tls` sees to.
        """
        self._socket = socket_transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.deadline: Deadline = socket_transport.deadline
        self.peer = socket_transport.peer
        self.local = socket_transport.local
        self.scheme = Scheme.HTTPS

    @property
    def parkable(self) -> socket.socket | None:
        return None  # decrypted bytes may wait here while the socket is silent

    async def open(self) -> None:
        await self._socket.open()
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise trio.BrokenResourceError("the client left within the handshake") from None
            except ssl.SSLError as error:
                # The alert tells the client what was wrong; whether it is still there does not matter.
                self._socket.send_now([self._outgoing.read()])
                raise trio.BrokenResourceError(str(error)) from error
            else:
                break
        if self._tls.version() != "TLSv1.3":
            await self._flush()
        # After a TLS 1.3 handshake only session tickets are left to send. They wait for the first response: a client
        # that sends its request and closes its side without reading would answer them with a reset.

    async def receive_first(self, pool: ReceiveBufferPool) -> ReceiveBuffer | None:
        while True:
            if self._incoming.pending or self._tls.pending():
                buffer = pool.lease()
                try:
                    count = self._read(buffer.view)
                except BaseException:
                    pool.release(buffer)
                    raise
                if count:
                    buffer.end = count
                    return buffer
                pool.release(buffer)
                if count == 0:
                    return None
            await self._flush()
            if not await self._fill():
                return None

    async def receive_into(self, buffer: memoryview) -> int:
        while True:
            count = self._read(buffer)
            if count is not None:
                return count
            await self._flush()
            if not await self._fill():
                return 0

    def send_now(self, buffers: list[Buffer]) -> list[Buffer]:
        return buffers

    async def send(self, buffers: list[Buffer], more: More = More.NO) -> None:
        if len(buffers) > 1 and sum(map(len, buffers)) <= _JOIN_BYTES:
            buffers = [b"".join(buffers)]
        for buffer in buffers:
            view = memoryview(buffer)
            for start in range(0, len(view), PIECE_BYTES):
                await self._send_piece(view[start : start + PIECE_BYTES])

    async def send_file(self, fd: int, offset: int, length: int) -> int:
        buffer = bytearray(min(length, PIECE_BYTES))
        try:
            count = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            # Not in the page cache: the disk is waited for in a thread.
            count = await trio.to_thread.run_sync(os.preadv, fd, [buffer], offset)
        await self._send_piece(memoryview(buffer)[:count])
        return count

    def lend(self, stop: Callable[[], None]) -> int | None:
        return None

    def give_back(self, received_bytes: int, waited_s: float, *, is_slow: bool) -> None:
        raise RuntimeError("nothing was lent")

    def interrupt(self) -> None:
        self._socket.interrupt()

    async def finish_sending(self) -> None:
        # Sends close_notify. The peer's own is not waited for (RFC 8446, 6.1), which the SSL object calls an error.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()
        await self._socket.finish_sending()

    async def discard(self, buffer: memoryview) -> int:
        return await self._socket.receive_into(buffer)

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        self._socket.abort()

    def _read(self, buffer: memoryview) -> int | None:
        """Decrypt what was received into `buffer`, as far as it goes.

        Returns:
            The number of bytes; 0 at the end of the stream; None when not even one record is complete.
        """
        total = 0
        while total < len(buffer):
            try:
                # typeshed knows only the form of this method that returns bytes.
                count = cast(int, self._tls.read(len(buffer) - total, cast(bytearray, buffer[total:])))
            except ssl.SSLWantReadError:
                return total or None
            except ssl.SSLEOFError:
                # Many clients close without close_notify. Framing tells whether something is missing.
                return total
            except ssl.SSLError as error:
                if total:
                    # The next call meets the same error.
                    return total
                raise trio.BrokenResourceError(str(error)) from error
            if count == 0:
                break
            total += count
        return total

    async def _send_piece(self, piece: memoryview) -> None:
        while len(piece):
            try:
                # One record a call; memory takes all of it.
                piece = piece[self._tls.write(piece) :]
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(str(error)) from error
        await self._flush()

    async def _flush(self) -> None:
        """Send what the SSL object wants sent."""
        if self._outgoing.pending:
            await self._socket.send([self._outgoing.read()])

    async def _fill(self) -> bool:
        """Wait for records and give them to the SSL object. False at the end of the stream."""
        data = await self._socket.receive_some(RECEIVE_BUFFER_BYTES)
        if data:
            self._incoming.write(data)
        return bool(data)


def require_modern_tls(context: ssl.SSLContext) -> ssl.SSLContext:
    """Raise the lowest protocol version of `context` to TLS 1.2 (RFC 8996 forbids what is older)."""
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
