"""Many buffers in one system call: `writev` and `readv` on descriptors, finished whatever the kernel takes at once.

Descriptors of regular files are worked on in threads, pipes and sockets on the loop (they are made non-blocking). The
descriptor stays the caller's, and its position is the file's own. Source: writev(2), readv(2).
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rs3d.rio.errors import LayersRefused, StreamClosed
from rs3d.rio.layers import Buffer
from rs3d.rio.streams import run_blocking, wait_readable, wait_writable

VECTORS_AT_ONCE: Final = min(os.sysconf("SC_IOV_MAX"), 1024)


@dataclass(frozen=True, slots=True)
class IoVec:
    """One buffer of several; not copied."""

    view: memoryview

    @classmethod
    def new(cls, buffer: Buffer) -> IoVec:
        """A buffer to write from."""
        return cls(memoryview(buffer).cast("B").toreadonly())

    @classmethod
    def new_mut(cls, buffer: bytearray | memoryview) -> IoVec:
        """A buffer to read into.

        Raises:
            LayersRefused: it cannot be written.
        """
        view = memoryview(buffer).cast("B")
        if view.readonly:
            raise LayersRefused(reason="a buffer to read into has to be writable")
        return cls(view)


class _Vectored:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._failure: BaseException | None = None
        self._in_threads = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not self._in_threads:
            os.set_blocking(descriptor, False)

    async def _run(
        self,
        views: list[memoryview],
        step: Callable[[list[memoryview]], int],
        ready: Callable[[int], Awaitable[None]],
    ) -> int:
        """Bring all views to their end, or to the end of the file. Returns bytes."""
        if self._failure is not None:
            raise self._failure
        done = 0
        try:
            while views:
                try:
                    if self._in_threads:
                        count = await run_blocking(functools.partial(step, views[:VECTORS_AT_ONCE]))
                    else:
                        count = step(views[:VECTORS_AT_ONCE])
                except BlockingIOError:
                    await ready(self._descriptor)
                    continue
                if not count:
                    break
                done += count
                views = advanced(views, count)
        except BaseException as failure:
            self._failure = failure if isinstance(failure, Exception) else StreamClosed(reason="it was cancelled")
            raise
        return done


def advanced(views: list[memoryview], count: int) -> list[memoryview]:
    """What is left of the views when `count` bytes of them are done."""
    left = list(views)
    while left and count >= len(left[0]):
        count -= len(left[0])
        del left[0]
    if count:
        left[0] = left[0][count:]
    return left


class VectoredWriter(_Vectored):
    """Gathers buffers into one call. Errors are final. One task at a time."""

    async def write_vectored(self, vectors: Sequence[IoVec]) -> int:
        """Write all of them, in order. Returns the sum of their lengths.

        Raises:
            OSError: some of the bytes may have been written; nothing more is.
        """
        views = [vector.view for vector in vectors if len(vector.view)]
        return await self._run(views, lambda some: os.writev(self._descriptor, some), wait_writable)


class VectoredReader(_Vectored):
    """Scatters one call into buffers. Errors are final. One task at a time."""

    async def read_vectored(self, vectors: Sequence[IoVec]) -> int:
        """Fill them in order, as far as there are bytes. Returns how many; fewer than asked for only at the end.

        Raises:
            LayersRefused: a buffer is read-only.
            OSError: as readv(2).
        """
        if any(vector.view.readonly for vector in vectors):
            raise LayersRefused(reason="a buffer to read into has to be made by IoVec.new_mut")
        views = [vector.view for vector in vectors if len(vector.view)]
        return await self._run(views, lambda some: os.readv(self._descriptor, some), wait_readable)
