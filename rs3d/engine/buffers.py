"""Body buffers: a fixed number, page-aligned, lent one by one. They bound the memory that bodies in motion can take."""

from __future__ import annotations

import mmap
from types import TracebackType

import trio


class Lease:
    """A buffer lent to one user. `view` fails after the release, so a late user cannot see another's bytes."""

    __slots__ = ("_buffer", "_pool", "_view", "generation")

    def __init__(self, pool: BufferPool, buffer: mmap.mmap, generation: int) -> None:
        self._pool = pool
        self._buffer = buffer
        self._view: memoryview | None = memoryview(buffer)
        self.generation = generation

    @property
    def view(self) -> memoryview:
        """The whole buffer, writable.

        Raises:
            ValueError: it was given back.
        """
        if self._view is None:
            raise ValueError("the buffer was given back to its pool")
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
    """At most `count` buffers of `size_bytes`, made when first needed."""

    def __init__(self, count: int, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._count = count
        self._free: list[mmap.mmap] = []
        self._made = 0
        self._generation = 0
        self._returned = trio.Semaphore(count)

    @property
    def leased(self) -> int:
        """How many buffers are lent now."""
        return self._count - self._returned.value

    async def lease(self) -> Lease:
        """A buffer; waits while all are lent. Its old contents are arbitrary."""
        await self._returned.acquire()
        return self._lend()

    def try_lease(self) -> Lease | None:
        """A buffer if one is free now: for a second one, so that two users with one each cannot wait for each other."""
        try:
            self._returned.acquire_nowait()
        except trio.WouldBlock:
            return None
        return self._lend()

    def _lend(self) -> Lease:
        self._generation += 1
        if self._free:
            buffer = self._free.pop()
        else:
            buffer = mmap.mmap(-1, self.size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._made += 1
        return Lease(self, buffer, self._generation)

    def _take_back(self, buffer: mmap.mmap) -> None:
        self._free.append(buffer)
        self._returned.release()
