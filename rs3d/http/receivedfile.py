"""The beginning of a body that was received, and written to a file, by somebody who could not go on with it: the long
way reads it as if it had just come (`shortcut.Incoming`). Seldom: a slow client's first long body, a refused commit."""

from __future__ import annotations

import os

import trio


class ReceivedFile:
    """The first bytes of a body, in order, each once. Holds the descriptor until `close`."""

    __slots__ = ("_fd", "_length", "_offset")

    def __init__(self, fd: int, length: int) -> None:
        """Args:
        fd: of a file that begins with the `length` bytes, readable; this one's from here on.
        """
        self._fd = fd
        self._length = length
        self._offset = 0

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return self._length - self._offset

    async def read_into(self, buffer: memoryview) -> int:
        """The next bytes, read by a thread; at least one, of which there must be some.

        Raises:
            OSError: they cannot be read, or are there no more.
        """
        part = buffer[: self.left]
        count = await trio.to_thread.run_sync(os.preadv, self._fd, [part], self._offset)
        if not count:
            raise OSError("the file of a body that was received is cut")
        self._offset += count
        return count

    def close(self) -> None:
        """Twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
