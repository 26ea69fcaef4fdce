"""Connections without a network: a transport over two byte arrays.

Made for tests of everything above HTTP, and kept beside the real transports because it must behave as they do:
deadlines, interruptions, resets and the end of a stream included.
"""

from __future__ import annotations

import enum
import os
import socket
from collections.abc import Callable

import trio

from rs3d.http.buffers import ReceiveBuffer, ReceiveBufferPool
from rs3d.http.deadlines import Deadline
from rs3d.http.messages import Buffer, Scheme
from rs3d.http.transport import More, TransportInterrupted

CAPACITY_BYTES = 256 * 1024
"""What one direction holds before its sender has to wait: of the order of a socket's buffers."""


class End(enum.Enum):
    """How one direction of a connection stands."""

    OPEN = "open"
    CLOSED = "closed"
    """A clean end follows the bytes."""
    RESET = "reset"
    """Bytes not yet received are lost; both sides see an error."""


class _Pipe:
    """One direction: bytes, how they end, and an event for whoever waits for a change."""

    __slots__ = ("_changed", "data", "end")

    def __init__(self) -> None:
        self.data = bytearray()
        self.end = End.OPEN
        self._changed = trio.Event()

    def change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def changed(self) -> None:
        await self._changed.wait()


class MemoryTransport:
    """One side of a connection in memory; `memory_pair` makes two. Implements `Transport`."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, peer: str, local: str) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._interrupted = False
        self._waiting = False
        self.deadline = Deadline()
        self.peer = peer
        self.local = local

    @property
    def scheme(self) -> Scheme:
        return Scheme.HTTP

    @property
    def received_bytes(self) -> int:
        """Bytes that have arrived here and were not received yet."""
        return len(self._incoming.data)

    @property
    def parkable(self) -> socket.socket | None:
        return None

    async def open(self) -> None:
        return

    async def receive_first(self, pool: ReceiveBufferPool) -> ReceiveBuffer | None:
        await self._until_received()
        buffer = pool.lease()
        buffer.end = self._take(buffer.view)
        if buffer.end:
            return buffer
        pool.release(buffer)
        return None

    async def receive_into(self, buffer: memoryview) -> int:
        await self._until_received()
        count = self._take(buffer)
        self.deadline.moved(count)
        return count

    def send_now(self, buffers: list[Buffer]) -> list[Buffer]:
        return buffers

    async def send(self, buffers: list[Buffer], more: More = More.NO) -> None:
        for buffer in buffers:
            await self._send_one(memoryview(buffer).cast("B"))

    async def send_file(self, fd: int, offset: int, length: int) -> int:
        data = os.pread(fd, min(length, CAPACITY_BYTES), offset)
        await self._send_one(memoryview(data))
        return len(data)

    def lend(self, stop: Callable[[], None]) -> int | None:
        return None

    def give_back(self, received_bytes: int, waited_s: float, *, is_slow: bool) -> None:
        raise RuntimeError("nothing was lent")

    def interrupt(self) -> None:
        if self._waiting:
            self._interrupted = True
            self._incoming.change()
            self._outgoing.change()

    async def finish_sending(self) -> None:
        if self._outgoing.end is End.RESET:
            raise trio.BrokenResourceError("reset")
        self._outgoing.end = End.CLOSED
        self._outgoing.change()

    async def discard(self, buffer: memoryview) -> int:
        return await self.receive_into(buffer)

    def close(self) -> None:
        if self._outgoing.end is End.OPEN:
            self._outgoing.end = End.CLOSED
        if self._incoming.end is End.OPEN:
            # As with a socket: what the peer sends to a closed connection is answered by a reset.
            self._incoming.end = End.RESET
        self._outgoing.change()
        self._incoming.change()

    def abort(self) -> None:
        if self._outgoing.end is End.OPEN:
            self._outgoing.data.clear()
            self._outgoing.end = End.RESET
        self.close()

    def _take(self, buffer: memoryview) -> int:
        data = self._incoming.data
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        del data[:count]
        self._incoming.change()
        return count

    async def _until_received(self) -> None:
        while not self._incoming.data and self._incoming.end is End.OPEN:
            await self._wait(self._incoming)
        if self._incoming.end is End.RESET:
            raise trio.BrokenResourceError("reset by the peer")

    async def _send_one(self, data: memoryview) -> None:
        while len(data):
            if self._outgoing.end is not End.OPEN:
                raise trio.BrokenResourceError("reset by the peer")
            room = CAPACITY_BYTES - len(self._outgoing.data)
            if room <= 0:
                await self._wait(self._outgoing)
                continue
            piece = data[:room]
            self._outgoing.data += piece
            self._outgoing.change()
            self.deadline.moved(len(piece))
            data = data[room:]

    async def _wait(self, pipe: _Pipe) -> None:
        self.deadline.begin_wait()
        self._waiting = True
        try:
            await pipe.changed()
        finally:
            self._waiting = False
            self.deadline.end_wait()
        if self._interrupted:
            self._interrupted = False
            raise TransportInterrupted


def memory_pair(
    client: str = "192.0.2.1:50000", server: str = "198.51.100.1:80"
) -> tuple[MemoryTransport, MemoryTransport]:
    """Two connected transports: the client's side and the server's side.

    Args:
        client, server: their addresses, `ip:port`.
    """
    upward, downward = _Pipe(), _Pipe()
    return (
        MemoryTransport(downward, upward, peer=server, local=client),
        MemoryTransport(upward, downward, peer=client, local=server),
    )
