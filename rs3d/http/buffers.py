"""Receive buffers, leased while bytes are expected and given back while a connection is idle."""

from __future__ import annotations

from rs3d.http.limits import RECEIVE_BUFFER_BYTES
from rs3d.http.receivedfile import ReceivedFile


class ReceiveBuffer:
    """A fixed block of memory; `data[start:end]` was received and not yet taken.

    The bytearray is never resized, so `view` and slices of it stay valid for as long as the buffer is leased.
    """

    __slots__ = ("before", "data", "end", "start", "view")

    def __init__(self, data: bytearray | None = None) -> None:
        """Args:
        data: received already, all of it; None = an empty buffer.
        """
        self.data = bytearray(RECEIVE_BUFFER_BYTES) if data is None else data
        self.view = memoryview(self.data)
        self.start = 0
        self.end = 0 if data is None else len(data)
        self.before: ReceivedFile | None = None
        """What of the body comes between the head, which is here whole, and the bytes behind it."""

    def __len__(self) -> int:
        """Bytes received and not yet taken."""
        return self.end - self.start

    def room(self) -> memoryview:
        """The free space behind the received bytes, never empty for a reader that takes what it was given: the bytes
        are moved to the front when the space behind them is used up."""
        if self.end == len(self.data) and self.start:
            held = bytes(self.view[self.start : self.end])
            self.view[: len(held)] = held
            self.start, self.end = 0, len(held)
        return self.view[self.end :]

    def take_into(self, target: memoryview, maximum_bytes: int) -> int:
        """Move at most `maximum_bytes` received bytes into `target` and return their number."""
        count = min(self.end - self.start, len(target), maximum_bytes)
        target[:count] = self.view[self.start : self.start + count]
        self.start += count
        return count


class ReceiveBufferPool:
    """Keeps a few buffers for reuse: fresh memory would have to be cleared by the kernel for every request.

    Not for several threads: one event loop, one pool.
    """

    __slots__ = ("_free", "_kept", "leased")

    def __init__(self, kept: int = 64) -> None:
        """Args:
        kept: how many unused buffers stay allocated; 64 are 4 MiB, more than a worker's usual concurrency.
        """
        self._free: list[ReceiveBuffer] = []
        self._kept = kept
        self.leased = 0

    def lease(self) -> ReceiveBuffer:
        """An empty buffer, to be given back with `release`."""
        self.leased += 1
        return self._free.pop() if self._free else ReceiveBuffer()

    def lease_filled(self, data: bytearray, before: ReceivedFile | None = None) -> ReceiveBuffer:
        """A buffer of what was received elsewhere, of any length but none; to be given back like others.

        Args:
            before: see `ReceiveBuffer.before`; closed with the buffer, unless somebody took it.
        """
        self.leased += 1
        buffer = ReceiveBuffer(data)
        buffer.before = before
        return buffer

    def release(self, buffer: ReceiveBuffer) -> None:
        """Give a buffer back. No view of it may be used any more."""
        self.leased -= 1
        buffer.start = buffer.end = 0
        if buffer.before is not None:
            buffer.before.close()
            buffer.before = None
        if len(self._free) < self._kept and len(buffer.data) == RECEIVE_BUFFER_BYTES:
            self._free.append(buffer)
