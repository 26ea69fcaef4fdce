"""A file read ahead by io_uring: several reads are under way while the consumer works on the piece before.

Optional, like the kernel that it rests on: `open_read_ahead` gives an ordinary source where rings cannot be made.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from rs3d.kernels import uring
from rs3d.rio.errors import StreamClosed
from rs3d.rio.layers import Buffer
from rs3d.rio.streams import ByteSource, Pieces, open_source, wait_readable

PIECE_BYTES: Final = 1 << 18
DEPTH: Final = 4


@dataclass(slots=True)
class _Read:
    offset: int
    buffer: bytearray
    result: int | None = None
    """Bytes, or -errno; None while it is under way."""


class RingSource:
    """A regular file from where its descriptor stands to its end. Errors are final. One task at a time.

    The descriptor stays the caller's, and is not moved. `close`, or the end of an `async with`, waits for reads that
    are under way: they write into this object's memory.
    """

    def __init__(self, descriptor: int, *, depth: int = DEPTH, piece_bytes: int = PIECE_BYTES) -> None:
        """
        Args:
            depth: reads under way at most.
            piece_bytes: of each of them: `depth` times this is the memory taken.

        Raises:
            OSError: no ring can be made (`rs3d.kernels.uring.probe`).
            ValueError: no depth, or empty pieces.
        """
        if depth < 1 or piece_bytes < 1:
            raise ValueError(f"{depth} reads of {piece_bytes} bytes give nothing")
        self._descriptor = descriptor
        self._depth = depth
        self._piece_bytes = piece_bytes
        self._offset = os.lseek(descriptor, 0, os.SEEK_CUR)
        self._ring = uring.Ring(depth)
        self._flying: deque[_Read] = deque()
        self._by_token: dict[int, _Read] = {}
        self._token = 0
        self._ready = memoryview(b"")
        self._at_end = False
        self._failure: BaseException | None = None

    async def receive_some(self, max_bytes: int | None = None) -> Buffer:
        """The next bytes; none at the end of the file.

        Raises:
            OSError: the device's. StreamClosed: it was closed, or cancelled while waiting.
        """
        if self._failure is not None:
            raise self._failure
        try:
            while not self._ready and not self._at_end:
                await self._advance()
        except BaseException as failure:
            self._failure = failure if isinstance(failure, Exception) else StreamClosed(reason="it was cancelled")
            raise
        count = len(self._ready) if max_bytes is None else min(max_bytes, len(self._ready))
        piece, self._ready = self._ready[:count], self._ready[count:]
        return piece

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return Pieces(self)

    def close(self) -> None:
        """Close the ring. *Blocks* for as long as the device needs for what is under way. Twice is harmless."""
        self._failure = self._failure or StreamClosed(reason="it was closed")
        self._ready = memoryview(b"")
        self._ring.close()

    async def __aenter__(self) -> RingSource:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _advance(self) -> None:
        """Have the next piece ready, or know that there is none."""
        self._start_reads()
        first = self._flying[0]
        await self._wait_for([first])
        self._flying.popleft()
        count = first.result or 0
        if count < 0:
            raise OSError(-count, os.strerror(-count))
        if count < self._piece_bytes:
            # The end, or a short answer: what was asked for behind it would leave a gap.
            await self._wait_for(list(self._flying))
            self._flying.clear()
            self._offset = first.offset + count
            self._at_end = count == 0
        self._ready = memoryview(first.buffer)[:count]

    def _start_reads(self) -> None:
        while len(self._flying) < self._depth:
            read = _Read(self._offset, bytearray(self._piece_bytes))
            self._token += 1
            self._ring.read(self._descriptor, read.buffer, read.offset, self._token)
            self._by_token[self._token] = read
            self._flying.append(read)
            self._offset += self._piece_bytes
        self._ring.submit()

    async def _wait_for(self, wanted: list[_Read]) -> None:
        while any(read.result is None for read in wanted):
            completions = self._ring.reap()
            for completion in completions:
                self._by_token.pop(completion.token).result = completion.result
            if not completions:
                await wait_readable(self._ring.event_fd)


@asynccontextmanager
async def open_read_ahead(
    path: str | os.PathLike[str], *, depth: int = DEPTH, piece_bytes: int = PIECE_BYTES
) -> AsyncIterator[ByteSource]:
    """A file to read, ahead where this machine can; closed at the end of the block."""
    async with open_source(path) as plain:
        if not uring.probe().works:
            yield plain
            return
        async with RingSource(plain.descriptor, depth=depth, piece_bytes=piece_bytes) as source:
            yield source
