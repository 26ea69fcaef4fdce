"""A whole small body whose bytes are in memory, read on the loop from a file that is held open.

`BlobPieces` does the same for everything there is; this is what remains of it for one piece: a MiB that goes by empties
the caches, and code that they do not hold any more is the larger part of what such a reading takes.
"""

from __future__ import annotations

import trio

from rs3d.engine.buffers import Lease
from rs3d.engine.runtime import Runtime
from rs3d.types.objects import Extent


class HeldBody:
    """The one piece of a body, in a leased buffer. As `BlobPieces` for its readers."""

    __slots__ = ("_is_taken", "_lease", "_view")

    def __init__(self, view: memoryview, lease: Lease) -> None:
        self._view = view
        self._lease = lease
        self._is_taken = False

    def single(self) -> memoryview | None:
        """The piece, until it was asked for with `next`."""
        return None if self._is_taken else self._view

    async def next(self) -> memoryview | None:
        """The piece, valid until the next call; then None."""
        if self._is_taken:
            self.close()
            return None
        self._is_taken = True
        return self._view

    async def read_all(self, length: int) -> bytes:
        """Everything as one bytes object."""
        return bytes(self._view[:length])

    def close(self) -> None:
        """Give the buffer back. Twice is harmless."""
        self._view.release()
        self._lease.release()


async def read_held(runtime: Runtime, extent: Extent) -> HeldBody | None:
    """All of `extent`, whose blob is no longer than a piece, checked; None where a thread has to look first: it has
    layers, was not read before, is not in memory, or is damaged.

    Cancellation: nothing was read.
    """
    info = runtime.blobs.remembered(extent.blob)
    if info is None or not info.recipe.is_plain or info.stored_bytes > runtime.config.piece_bytes:
        return None
    if runtime.turn.is_over(extent.length):
        await trio.lowlevel.checkpoint()
    else:
        await trio.lowlevel.checkpoint_if_cancelled()
    lease = runtime.buffers.try_large()
    if lease is None:
        return None
    view = lease.view[: extent.length]
    if runtime.open_files.read_now(extent, view):
        return HeldBody(view, lease)
    view.release()
    lease.release()
    return None
