"""What a connection needs from the thing that carries its bytes, and the plain socket that gives it.

The socket is driven directly (`recv_into`, `sendmsg`, `sendfile` on a non-blocking descriptor, waiting only after
EAGAIN): trio's own socket methods pass through the scheduler for each call, even one that could be served at once.
"""

from __future__ import annotations

import enum
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

from rs3d.http.buffers import ReceiveBuffer, ReceiveBufferPool
from rs3d.http.deadlines import Deadline
from rs3d.http.filesending import FileSenders, Sender
from rs3d.http.messages import Buffer, Scheme
from rs3d.kernels.splice import Pause, Sent

TURN_BYTES: Final = 1 << 20
"""Bytes one connection may move without giving way to others: about a quarter of a millisecond of copying."""

FILE_TURN_BYTES: Final = 4 << 20
"""The same of files, which are not copied: about a millisecond, if the socket takes so much at once."""

QUICK_BYTES: Final = 16 << 20
"""A client that takes fewer while a thread waits for it, which is for `PATIENCE_S` at most, is not given another."""

ASIDE_BYTES: Final = 1 << 20
"""Parts of files from this size on are sent by a thread, if one is free: the way there and back costs two turns of the
loop, sending a MiB to a near client up to seven."""

NEAR_ROUND_TRIP_US: Final = 100
"""Up to this a client is near: on this machine, or beside it."""

NEAR_SEND_BYTES: Final = 1 << 20
"""What is asked for as the send buffer of a near client, which the kernel doubles: a MiB with its head is taken at
once. With `net.core.wmem_max` as it is by default 208 KiB are had. The kernel's own choice grows to 4 MiB, which such
a client needs at no speed: on its way through so much memory a MiB took half as much time again, on both sides."""

_MIN_ROUND_TRIP: Final = struct.Struct("@I")
_MIN_ROUND_TRIP_OFFSET: Final = 148
"""Of `tcpi_min_rtt` in `struct tcp_info` (linux/tcp.h), in µs."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class TransportInterrupted(Exception):
    """The wait of a transport was ended by `interrupt`: past its deadline, or draining. The transport stays usable."""


class More(enum.Enum):
    """Whether more bytes follow at once, so that a half-filled packet should wait for them."""

    NO = "no"
    YES = "yes"


class Transport(Protocol):
    """A connection's two byte streams. One task uses it; `interrupt` may come from any task of the same loop.

    Every waiting method raises TransportInterrupted when interrupted, and trio.BrokenResourceError when the peer has
    gone. Cancelled receives have taken nothing. The waits obey `deadline`.
    """

    @property
    def deadline(self) -> Deadline: ...

    @property
    def peer(self) -> str: ...

    @property
    def local(self) -> str: ...

    @property
    def scheme(self) -> Scheme: ...

    @property
    def parkable(self) -> socket.socket | None:
        """The socket, where its readability alone says that a request comes: it may wait in `parking`."""
        ...

    async def open(self) -> None:
        """Make the connection usable (the TLS handshake). Before everything else."""
        ...

    async def receive_first(self, pool: ReceiveBufferPool) -> ReceiveBuffer | None:
        """Wait without holding a buffer, then lease one and receive into it. None at the end of the stream."""
        ...

    async def receive_into(self, buffer: memoryview) -> int:
        """Receive 1 to len(buffer) bytes; 0 at the end of the stream."""
        ...

    def send_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Send what can be sent without waiting.

        Returns:
            What is left to send, to be passed to `send`; empty when all of it was handed over.
        """
        ...

    async def send(self, buffers: list[Buffer], more: More = More.NO) -> None:
        """Send all bytes of all buffers. They must not change before this returns."""
        ...

    async def send_file(self, fd: int, offset: int, length: int) -> int:
        """Send at most `length` bytes of a file.

        Returns:
            The number sent, at least 1; 0 when the file has ended before `offset + 1`.
        """
        ...

    def lend(self, stop: Callable[[], None]) -> int | None:
        """See `types.body.Direct`: for the bytes of the stream, whatever they are. `interrupt` calls `stop`."""
        ...

    def give_back(self, received_bytes: int, waited_s: float, *, is_slow: bool) -> None:
        """See `types.body.Direct`."""
        ...

    def interrupt(self) -> None:
        """Make the current wait, if there is one, raise TransportInterrupted. Loop-safe."""
        ...

    async def finish_sending(self) -> None:
        """Tell the peer that no byte will follow. Receiving goes on."""
        ...

    async def discard(self, buffer: memoryview) -> int:
        """Receive raw bytes that nobody will read, after `finish_sending`; 0 at the end of the stream."""
        ...

    def close(self) -> None:
        """Close. Bytes already handed to the kernel are still delivered. Idempotent."""
        ...

    def abort(self) -> None:
        """Close with a reset: the peer must see an error, not an end. Idempotent."""
        ...


class SocketTransport:
    """A plain TCP connection."""

    __slots__ = (
        "_fd",
        "_lent",
        "_sender",
        "_senders",
        "_socket",
        "_turn_bytes",
        "deadline",
        "local",
        "peer",
        "scheme",
    )

    def __init__(self, connected: socket.socket, peer: str, local: str, senders: FileSenders | None = None) -> None:
        """Args:
        connected: a connected socket; the transport owns it and makes it non-blocking.
        peer, local: the two addresses as `ip:port`.
        senders: threads for long parts of files; None = the loop sends all.
        """
        self._senders = senders
        """None also from when a thread had to wait for the client for too long."""
        self._sender: Sender | None = None
        self._lent: Callable[[], None] | None = None
        """Makes a thread that receives give the socket back."""
        connected.setblocking(False)
        self._socket = connected
        self._fd = connected.fileno()
        self._turn_bytes = 0
        self.deadline = Deadline()
        self.peer = peer
        self.local = local
        self.scheme = Scheme.HTTP

    @property
    def parkable(self) -> socket.socket | None:
        return self._socket

    async def open(self) -> None:
        if self._socket.family in (socket.AF_INET, socket.AF_INET6):
            # Answers are written whole; waiting for more bytes (Nagle) would only delay their last packet.
            try:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if round_trip_us(self._socket) <= NEAR_ROUND_TRIP_US:
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NEAR_SEND_BYTES)
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    async def receive_first(self, pool: ReceiveBufferPool) -> ReceiveBuffer | None:
        while True:
            # Waiting first: the next request of a client is practically never there yet when its last answer leaves.
            # The deadline is a fixed one here and needs no notice of the wait.
            self._turn_bytes = 0
            try:
                await wait_readable(self._fd)
            except trio.ClosedResourceError:
                raise TransportInterrupted from None
            buffer = pool.lease()
            try:
                count = self._socket.recv_into(buffer.data)
            except BlockingIOError:
                pool.release(buffer)
                continue
            except BaseException as error:
                pool.release(buffer)
                if isinstance(error, OSError):
                    raise trio.BrokenResourceError(str(error)) from error
                raise
            if count == 0:
                pool.release(buffer)
                return None
            buffer.end = count
            return buffer

    async def receive_into(self, buffer: memoryview) -> int:
        while True:
            try:
                count = self._socket.recv_into(buffer)
            except BlockingIOError:
                await self._wait(wait_readable)
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            self.deadline.moved(count)
            self._turn_bytes += count
            if self._turn_bytes >= TURN_BYTES and count:
                await self._give_way_after_receive()
            return count

    async def receive_some(self, maximum_bytes: int) -> bytes:
        """Receive into new memory, allocated only when bytes are there: an idle TLS connection holds none."""
        while True:
            await self._wait(wait_readable)
            try:
                data = self._socket.recv(maximum_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            self.deadline.moved(len(data))
            return data

    def send_now(self, buffers: list[Buffer]) -> list[Buffer]:
        try:
            count = self._socket.sendmsg(buffers)
        except BlockingIOError:
            return buffers
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error
        return rest_of(buffers, count)

    async def send(self, buffers: list[Buffer], more: More = More.NO) -> None:
        flags = socket.MSG_MORE if more is More.YES else 0
        while True:
            try:
                count = self._socket.sendmsg(buffers, (), flags)
            except BlockingIOError:
                await self._wait(wait_writable)
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            self.deadline.moved(count)
            self._turn_bytes += count
            buffers = rest_of(buffers, count)
            if not buffers:
                return
            if self._turn_bytes >= TURN_BYTES:
                self._turn_bytes = 0
                await checkpoint()

    async def send_file(self, fd: int, offset: int, length: int) -> int:
        senders = self._senders
        if senders is not None and length >= ASIDE_BYTES:
            # The thread would send what a task that was cancelled does not want sent.
            await trio.lowlevel.checkpoint_if_cancelled()
            sender = senders.take()
            if sender is not None:
                sent = await self._send_aside(sender, fd, offset, length)
                if sent.sent_bytes or sent.pause is Pause.END:
                    return sent.sent_bytes
        while True:
            try:
                count = os.sendfile(self._fd, fd, offset, min(length, FILE_TURN_BYTES))
            except BlockingIOError:
                await self._wait(wait_writable)
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            self.deadline.moved(count)
            self._turn_bytes += count
            if self._turn_bytes >= FILE_TURN_BYTES:
                self._turn_bytes = 0
                await checkpoint()
            return count

    async def _send_aside(self, sender: Sender, fd: int, offset: int, length: int) -> Sent:
        """Have a thread send. The waits of it count for the deadline when it is back; it is back soon enough."""
        self._turn_bytes = 0
        self._sender = sender
        try:
            sent = await sender.send(self._fd, fd, offset, length)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error
        finally:
            self._sender = None
        self.deadline.waited(sent.waited_ns / 1e9)
        self.deadline.moved(sent.sent_bytes)
        if sent.pause is Pause.SLOW and sent.sent_bytes < QUICK_BYTES:
            self._senders = None
        elif sent.pause is Pause.STOPPED and not sent.sent_bytes:
            await trio.lowlevel.checkpoint_if_cancelled()
            raise TransportInterrupted
        return sent

    def lend(self, stop: Callable[[], None]) -> int | None:
        if self.deadline.lags or self.deadline.has_passed:
            return None
        self._turn_bytes = 0
        self._lent = stop
        return self._fd

    def give_back(self, received_bytes: int, waited_s: float, *, is_slow: bool) -> None:
        self._lent = None
        self.deadline.waited(waited_s)
        self.deadline.moved(received_bytes)
        self.deadline.lags = is_slow

    def interrupt(self) -> None:
        if self._sender is not None:
            self._sender.stop()
        elif self._lent is not None:
            self._lent()
        elif self._fd >= 0:
            notify_closing(self._fd)

    async def finish_sending(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def discard(self, buffer: memoryview) -> int:
        return await self.receive_into(buffer)

    def close(self) -> None:
        if self._fd >= 0:
            # The number may name another connection's descriptor after this; -1 names none.
            self._fd = -1
            self._socket.close()

    def abort(self) -> None:
        if self._fd >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.close()

    async def _wait(self, wait: Callable[[int], Awaitable[None]]) -> None:
        self._turn_bytes = 0
        if self.deadline.has_passed:
            raise TransportInterrupted
        self.deadline.begin_wait()
        try:
            await wait(self._fd)
        except trio.ClosedResourceError:
            raise TransportInterrupted from None
        finally:
            self.deadline.end_wait()

    async def _give_way_after_receive(self) -> None:
        """Let others run. Shielded, because the bytes received would be lost with a cancelled call."""
        self._turn_bytes = 0
        await trio.lowlevel.cancel_shielded_checkpoint()


def round_trip_us(connected: socket.socket) -> int:
    """The shortest round trip of a TCP connection so far, as the kernel knows it since the handshake.

    Raises:
        OSError: the connection has ended.
    """
    found = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_ROUND_TRIP_OFFSET + _MIN_ROUND_TRIP.size)
    return int(_MIN_ROUND_TRIP.unpack_from(found, _MIN_ROUND_TRIP_OFFSET)[0])


def rest_of(buffers: list[Buffer], sent: int) -> list[Buffer]:
    """What of `buffers` follows the first `sent` bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []
