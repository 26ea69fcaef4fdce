"""Body buffers: a fixed number of large ones, page-aligned, lent one by one, and small ones for those who come when
all are lent.

Nobody ever waits for a buffer: clients that send or receive slowly hold theirs for long, and the next body must get
through all the same, if in smaller steps. Both kinds are bounded, so is the memory that bodies in motion can take.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from types import TracebackType
from typing import Final, cast

from rs3d.errors import SlowDown

SMALL_BYTES: Final = 64 * 1024
"""One block of a blob's table: the least that can be verified by itself."""


HUGE_PAGE_BYTES: Final = 2 * 1024 * 1024
"""Of most systems; where it is another, buffers are as good as on other pages."""


def address_of(buffer: memoryview) -> int:
    """Where its first byte lies in memory."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class Lease:
    """A buffer lent to one user. `view` fails after the release, so a late user cannot see another's bytes."""

    __slots__ = ("_buffer", "_pool", "_view", "generation")

    def __init__(self, pool: BufferPool, buffer: memoryview | bytearray, generation: int) -> None:
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
            self._pool.take_back(self._buffer)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class ChunkMemory:
    """What bodies in chunks may take: each has to keep one chunk of the greatest size, and may keep what waits for its
    pins."""

    LIMIT_BYTES: Final = 64 * 1024 * 1024

    def __init__(self) -> None:
        self.reserved_bytes = 0

    def reserve(self, count: int) -> None:
        """Raises SlowDown when there is no more."""
        if self.reserved_bytes and self.reserved_bytes + count > self.LIMIT_BYTES:
            raise SlowDown(what="memory for the chunks of bodies")
        self.reserved_bytes += count

    def try_reserve(self, count: int) -> bool:
        """The same for what only makes things faster: half of it all is left to those who cannot do without."""
        if self.reserved_bytes + count > self.LIMIT_BYTES // 2:
            return False
        self.reserved_bytes += count
        return True

    def give_back(self, count: int) -> None:
        self.reserved_bytes -= count


class _Pages:
    """Memory for large buffers, two of a MiB in one huge page where the system has some: the kernel copies a body into
    one with a tenth less time, and pins it for a direct write in half of it."""

    __slots__ = ("_left", "_size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._left: list[memoryview] = []

    def take(self) -> memoryview:
        """A buffer, on pages; its first use makes them."""
        if not self._left:
            self._left = self._huge() if HUGE_PAGE_BYTES % self._size_bytes == 0 else [self._map(self._size_bytes)]
        return self._left.pop()

    def _huge(self) -> list[memoryview]:
        mapped = self._map(2 * HUGE_PAGE_BYTES)  # one lies whole in it; what lies beside it is never touched
        begin = -address_of(mapped) % HUGE_PAGE_BYTES
        with contextlib.suppress(OSError):  # a system without huge pages
            cast("mmap.mmap", mapped.obj).madvise(mmap.MADV_HUGEPAGE, begin, HUGE_PAGE_BYTES)
        starts = range(begin, begin + HUGE_PAGE_BYTES, self._size_bytes)
        return [mapped[start : start + self._size_bytes] for start in starts]

    @staticmethod
    def _map(size_bytes: int) -> memoryview:
        return memoryview(mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class BufferPool:
    """At most `count` buffers of `size_bytes`, made when first needed and kept, and `small_count` small ones, made
    anew."""

    def __init__(self, count: int, size_bytes: int, small_count: int) -> None:
        self.size_bytes = size_bytes
        self._count = count
        self._small_count = small_count
        self._small_bytes = min(SMALL_BYTES, size_bytes)
        self._pages = _Pages(size_bytes)
        self._free: list[memoryview] = []
        self._lent_large = 0
        self._lent_small = 0
        self._generation = 0

    @property
    def leased(self) -> int:
        """How many buffers are lent now."""
        return self._lent_large + self._lent_small

    def lease(self) -> Lease:
        """A buffer: a large one if there is one, else a small one. Its old contents are arbitrary.

        Raises:
            SlowDown: all are lent.
        """
        large = self.try_large()
        if large is not None:
            return large
        if self._lent_small >= self._small_count:
            raise SlowDown(what="buffers for bodies")
        self._lent_small += 1
        self._generation += 1
        return Lease(self, bytearray(self._small_bytes), self._generation)

    def try_large(self) -> Lease | None:
        """A large buffer if one is free: for a second one, that only makes things faster."""
        buffer = self.take_large()
        return None if buffer is None else Lease(self, buffer, self._generation)

    def take_large(self) -> memoryview | None:
        """The same without a `Lease`, for who gives it back by `take_back` and uses it no more: a request has many
        functions to run."""
        if self._lent_large >= self._count:
            return None
        self._lent_large += 1
        self._generation += 1
        return self._free.pop() if self._free else self._pages.take()

    def take_back(self, buffer: memoryview | bytearray) -> None:
        """Of a lease that is released, or by `take_large`."""
        if isinstance(buffer, bytearray):
            self._lent_small -= 1
        else:
            self._lent_large -= 1
            self._free.append(buffer)
