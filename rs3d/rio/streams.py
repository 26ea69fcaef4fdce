"""The Trio face of rio: sources, sinks, bounded buffers, and the hop to a thread. The only file here that imports Trio.

A *source* has `receive_some`, a *sink* has `send_all`: Trio's own streams (sockets, pipes, processes) fit as they are.
`open_source` and `open_sink` make them of paths, `MemorySource` and `MemorySink` of bytes. Layered streams are in
`rs3d.rio.layered`, vectored ones in `rs3d.rio.vectored`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Protocol, TypeVar, runtime_checkable

import trio

from rs3d.rio.errors import StreamClosed, StreamDamaged
from rs3d.rio.layers import Buffer

T = TypeVar("T")

THREAD_BYTES: Final = 1 << 16
"""From here on work on bytes goes to a thread: a hop costs some 0.2 ms, as do 64 KiB of the slower codecs."""

RECEIVE_BYTES: Final = 1 << 16


@runtime_checkable
class ByteSource(Protocol):
    """Where bytes come from."""

    async def receive_some(self, max_bytes: int | None = None) -> Buffer:
        """At least one byte and at most `max_bytes`; none at the end."""
        ...


@runtime_checkable
class ByteSink(Protocol):
    """Where bytes go."""

    async def send_all(self, data: Buffer) -> None:
        """All of them; returns when the sink can take more (that is the backpressure). `data` is not kept."""
        ...


class MemorySource:
    """Bytes in memory.

    Args:
        piece_bytes: how many one call gives at most.
    """

    def __init__(self, data: Buffer, piece_bytes: int = RECEIVE_BYTES) -> None:
        self._view = memoryview(data).cast("B")
        self._piece_bytes = piece_bytes

    async def receive_some(self, max_bytes: int | None = None) -> Buffer:
        await trio.lowlevel.checkpoint()
        count = self._piece_bytes if max_bytes is None else min(max_bytes, self._piece_bytes)
        piece, self._view = self._view[:count], self._view[count:]
        return piece


class MemorySink:
    """Collects bytes. For what is known to be small."""

    def __init__(self) -> None:
        self._data = bytearray()

    async def send_all(self, data: Buffer) -> None:
        await trio.lowlevel.checkpoint()
        self._data += data

    def getvalue(self) -> bytes:
        """All that was sent so far."""
        return bytes(self._data)


class FileSource:
    """A file, read from where its descriptor stands, in threads. The descriptor stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: Final = descriptor

    async def receive_some(self, max_bytes: int | None = None) -> Buffer:
        count = RECEIVE_BYTES if max_bytes is None else max_bytes
        return await trio.to_thread.run_sync(os.read, self.descriptor, count)


class FileSink:
    """A file, written from where its descriptor stands, in threads. Not synced; the descriptor stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: Final = descriptor

    async def send_all(self, data: Buffer) -> None:
        await trio.to_thread.run_sync(self._write, memoryview(data).cast("B"))

    def _write(self, view: memoryview) -> None:
        while view:
            view = view[os.write(self.descriptor, view) :]


@asynccontextmanager
async def open_source(path: str | os.PathLike[str]) -> AsyncIterator[FileSource]:
    """A file to read; closed at the end of the block."""
    async with await trio.open_file(path, "rb", buffering=0) as file:
        yield FileSource(file.fileno())


@asynccontextmanager
async def open_sink(path: str | os.PathLike[str]) -> AsyncIterator[FileSink]:
    """A file to write, made or emptied; closed at the end of the block."""
    async with await trio.open_file(path, "wb", buffering=0) as file:
        yield FileSink(file.fileno())


async def on_thread(work: Callable[[], T], size_bytes: int) -> T:
    """Run work on so many bytes where it belongs: here when it is short, in a thread when it is not.

    Cancellation: not delivered while a thread is at work, because it uses the caller's buffers.
    """
    if size_bytes < THREAD_BYTES:
        await trio.lowlevel.checkpoint()
        return work()
    return await trio.to_thread.run_sync(work)


# -------------------------------------------------------------------------------------------------- bounded buffers


class Lease:
    """A buffer lent to one user; a context manager. `view` fails after the release."""

    __slots__ = ("_buffer", "_pool", "_view")

    def __init__(self, pool: BufferPool, buffer: bytearray) -> None:
        self._pool = pool
        self._buffer = buffer
        self._view: memoryview | None = memoryview(buffer)

    @property
    def view(self) -> memoryview:
        """The whole buffer, writable; old contents are arbitrary.

        Raises:
            StreamClosed: it was given back.
        """
        if self._view is None:
            raise StreamClosed(reason="the buffer was given back to its pool")
        return self._view

    def release(self) -> None:
        """Give the buffer back. Doing it twice is harmless."""
        view, self._view = self._view, None
        if view is not None:
            view.release()
            self._pool._take_back(self._buffer)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class BufferPool:
    """At most `count` buffers of `buffer_bytes` each, made when first needed: what streams in motion may take.

    Backpressure: `lease` waits while all are lent, first come, first served. May be shared by any number of streams of
    one Trio run: readers wait for a buffer, writers never do, so that whoever copies from one to the other goes on. A
    reader of a reader needs a pool of its own.
    """

    def __init__(self, buffer_bytes: int = 1 << 16, count: int = 16) -> None:
        """
        Raises:
            ValueError: no buffers, or empty ones.
        """
        if buffer_bytes < 1 or count < 1:
            raise ValueError(f"{count} buffers of {buffer_bytes} bytes are no pool")
        self.buffer_bytes: Final = buffer_bytes
        self.count: Final = count
        self._free: list[bytearray] = []
        self._left = trio.Semaphore(count)
        self._made = 0

    @property
    def lent(self) -> int:
        """Buffers in use now."""
        return self.count - self._left.value

    @property
    def made(self) -> int:
        """Buffers that exist: what the pool has taken of memory so far."""
        return self._made

    async def lease(self) -> Lease:
        """A buffer; waits while all are lent."""
        await self._left.acquire()
        return self._lend()

    def try_lease(self) -> Lease | None:
        """A buffer if one is free now."""
        try:
            self._left.acquire_nowait()
        except trio.WouldBlock:
            return None
        return self._lend()

    def _lend(self) -> Lease:
        if self._free:
            return Lease(self, self._free.pop())
        self._made += 1
        return Lease(self, bytearray(self.buffer_bytes))

    def _take_back(self, buffer: bytearray) -> None:
        self._free.append(buffer)
        self._left.release()


# ------------------------------------------------------------------------------------------------ readers and writers


class StreamReader:
    """Reads from a source through one buffer of a pool. Errors are final. One task at a time.

    The buffer is taken when there is something to hold back, and returned as soon as that has been handed out.
    """

    def __init__(self, source: ByteSource, pool: BufferPool) -> None:
        self._source = source
        self._pool = pool
        self._lease: Lease | None = None
        self._first = 0
        self._end = 0
        self._at_end = False
        self._failure: BaseException | None = None
        self.bytes_read = 0
        """Bytes handed out."""

    async def receive_some(self, max_bytes: int | None = None) -> Buffer:
        """The next bytes, as a source gives them; none at the end. A reader is a source itself."""
        if self._first == self._end and not await self._fill():
            return b""
        lease = self._held()
        count = self._end - self._first if max_bytes is None else min(max_bytes, self._end - self._first)
        piece = bytes(lease.view[self._first : self._first + count])
        self._advance(count)
        return piece

    async def read_into(self, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` as far as one read of the source goes. Returns bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if not view or (self._first == self._end and not await self._fill()):
            return 0
        count = min(len(view), self._end - self._first)
        view[:count] = self._held().view[self._first : self._first + count]
        self._advance(count)
        return count

    async def read_exactly(self, count: int) -> bytes:
        """So many bytes.

        Raises:
            StreamDamaged: the source ends before.
        """
        whole = bytearray(count)
        filled = 0
        while filled < count:
            got = await self.read_into(memoryview(whole)[filled:])
            if not got:
                raise StreamDamaged(
                    layer="source", offset=self.bytes_read, reason=f"{count - filled} bytes are missing"
                )
            filled += got
        return bytes(whole)

    async def read_to_end(self, limit_bytes: int = 64 << 20) -> bytes:
        """All the rest, in memory.

        Raises:
            StreamDamaged: there is more than `limit_bytes`.
        """
        return await read_to_end(self, limit_bytes)

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return Pieces(self)

    def close(self) -> None:
        """Give back the buffer. The source stays the caller's."""
        self._first = self._end = 0
        self._failure = self._failure or StreamClosed(reason="it was closed")
        self._give_back()

    async def __aenter__(self) -> StreamReader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _fill(self) -> bool:
        if self._failure is not None:
            raise self._failure
        if self._at_end:
            return False
        lease = self._lease = await self._pool.lease()
        try:
            piece = await self._source.receive_some(len(lease.view))
        except BaseException as failure:
            self._failure = failure if isinstance(failure, Exception) else StreamClosed(reason="it was cancelled")
            self._give_back()
            raise
        self._first, self._end = 0, len(piece)
        lease.view[: len(piece)] = piece
        if not piece:
            self._at_end = True
            self._give_back()
        return bool(piece)

    def _held(self) -> Lease:
        if self._lease is None:
            raise StreamClosed(reason="it was closed")
        return self._lease

    def _advance(self, count: int) -> None:
        self._first += count
        self.bytes_read += count
        if self._first == self._end:
            self._give_back()

    def _give_back(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()


class StreamWriter:
    """Writes to a sink through one buffer of a pool: small writes are gathered, large ones pass through.

    Errors are final. One task at a time. A writer is a sink itself. `finalize` (or the end of an `async with` that did
    not fail) sends the rest; what was not flushed before a failure is lost.
    """

    def __init__(self, sink: ByteSink, pool: BufferPool) -> None:
        self._sink = sink
        self._pool = pool
        self._lease: Lease | None = None
        self._filled = 0
        self._failure: BaseException | None = None
        self.bytes_written = 0
        """Bytes taken."""

    async def write_all(self, data: Buffer) -> None:
        """Take all of `data`; waits while the sink is full. `data` is not kept."""
        self._check()
        view = memoryview(data).cast("B")
        self.bytes_written += len(view)
        while view:
            if self._lease is None:
                # Nothing is gained by gathering what is large; and to wait for a buffer, while the reader that feeds
                # this writer holds one, might be to wait for ever.
                lease = self._pool.try_lease() if len(view) < self._pool.buffer_bytes else None
                if lease is None:
                    await self._send(view)
                    return
                self._lease = lease
            room = self._lease.view[self._filled :]
            count = min(len(room), len(view))
            room[:count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == len(self._lease.view):
                await self.flush()

    async def send_all(self, data: Buffer) -> None:
        """As `write_all`."""
        await self.write_all(data)

    async def flush(self) -> None:
        """Send what was gathered."""
        self._check()
        lease = self._lease
        if lease is None:
            return
        try:
            await self._send(lease.view[: self._filled])
        finally:
            self._lease, self._filled = None, 0
            lease.release()

    async def finalize(self) -> int:
        """Send the rest; nothing can be written afterwards. Returns all bytes written."""
        await self.flush()
        self._failure = StreamClosed(reason="it was finished")
        return self.bytes_written

    async def __aenter__(self) -> StreamWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._failure is None:
            await self.finalize()
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    async def _send(self, view: memoryview) -> None:
        try:
            await self._sink.send_all(view)
        except BaseException as failure:
            # How much went out is unknown, so nothing more may.
            self._failure = failure if isinstance(failure, Exception) else StreamClosed(reason="it was cancelled")
            raise

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


class Pieces:
    """The pieces of a source to its end, as an asynchronous iterator. Not a generator: it may be left at any time."""

    __slots__ = ("_source",)

    def __init__(self, source: ByteSource) -> None:
        self._source = source

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self

    async def __anext__(self) -> Buffer:
        piece = await self._source.receive_some()
        if not len(piece):
            raise StopAsyncIteration
        return piece


async def read_to_end(source: ByteSource, limit_bytes: int = 64 << 20) -> bytes:
    """All that a source gives, in memory.

    Raises:
        StreamDamaged: more than `limit_bytes`.
    """
    whole = bytearray()
    async for piece in Pieces(source):
        if len(whole) + len(piece) > limit_bytes:
            raise StreamDamaged(layer="source", offset=limit_bytes, reason=f"there are more than {limit_bytes} bytes")
        whole += piece
    return bytes(whole)


# ---------------------------------------------------------------------------------------------- readiness, for others


def socket_of(source: ByteSource) -> int | None:
    """The descriptor of a Trio socket stream, non-blocking; None for any other source."""
    return source.socket.fileno() if isinstance(source, trio.SocketStream) else None


async def wait_readable(descriptor: int) -> None:
    """Until a pipe, socket or terminal can be read."""
    await trio.lowlevel.wait_readable(descriptor)


async def wait_writable(descriptor: int) -> None:
    """Until a pipe, socket or terminal can be written."""
    await trio.lowlevel.wait_writable(descriptor)


async def run_blocking(work: Callable[[], T]) -> T:
    """A call that waits for a device, in a thread; not cancelled while it is there."""
    return await trio.to_thread.run_sync(work)
