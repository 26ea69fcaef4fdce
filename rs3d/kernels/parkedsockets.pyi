"""Sockets that wait for their next request, watched by one epoll, and files on their way out through some of them.

A socket takes a MiB in three or four parts. A loop that sends them itself comes back for each through code that no
cache holds any more: that was half of what such an answer cost. Here it begins an answer and hears of it again when all
of it was sent, or failed. No variants. Oracle: `os.sendfile` (`tests/kernels/test_parkedsockets.py`).
"""

from typing import NamedTuple, final

from _typeshed import ReadableBuffer

class Sent(NamedTuple):
    """How the sending of a file's rest ended."""

    error: int
    """0, or errno: of the socket or the file; ENODATA where the file ended before all was sent."""
    took_ns: int
    """From the end of `begin` until its last byte was handed to the socket, or it failed."""

@final
class ParkedSockets:
    """For one loop. Sockets stay the caller's: non-blocking, and open for as long as they are watched.

    Holds two descriptors until `close` or the object's end.

    Raises:
        OSError: no descriptors are left.
        ValueError: a negative time.
    """

    def __init__(self, linger_ns: int) -> None:
        """Args:
        linger_ns: how long the end of a sending may wait in `wait` for something else to be told with.
        """

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
    @property
    def sending(self) -> bool:
        """Whether files are on their way, or have come to their end and nobody has asked for it."""
    @property
    def has_slept(self) -> bool:
        """Whether there was a moment in the last `wait` in which nothing was ready."""
    def close(self) -> None:
        """Watch nothing, send nothing. Afterwards only `forget` and `closed` are of use; twice is harmless."""

    def fileno(self) -> int:
        """A descriptor that is readable while `turn` has something to do."""

    def watch(self, socket_fd: int) -> None:
        """Tell when something arrives on this socket, or its connection has ended. OSError when it is watched."""

    def watch_for_room(self, socket_fd: int) -> None:
        """Tell of a watched socket, from now on, when it takes bytes, and not of what arrives."""

    def watch_again(self, socket_fd: int) -> None:
        """Tell of a watched socket, from now on, as `watch` does."""

    def look_away(self, socket_fd: int) -> None:
        """Watch it no more. OSError for one that is not watched."""

    def nudge(self) -> None:
        """Make the descriptor readable until the next turn."""

    def begin(self, socket_fd: int, head: ReadableBuffer, file_fd: int, offset: int, length: int) -> int:
        """Send a head and `length` bytes of a file behind it: what the socket takes now, the rest in turns.

        Args:
            socket_fd: a watched one. Until the file is sent nothing that arrives is told of.
            file_fd: stays open until `sent` says that all was sent, or `forget` is called.

        Returns:
            Bytes sent. Fewer than the head has: nothing was left to the turns. Fewer than all: the rest of the file is.

        Raises:
            OSError: the socket's error or the file's, ENODATA where it ended already. Something may have been sent.
            ValueError: a negative number, or a file is on its way to this socket.

        Blocking: loop-safe for what is in the page cache.
        """

    def turn(self) -> list[int]:
        """Go on with files whose sockets take bytes, up to some MiB in all. Never waits.

        Returns:
            Sockets that there is something to do about: first those whose file has come to its end, until `sent` was
            asked, then the others that are ready, up to 64. A socket may be in both.
        """

    def wait(self, loop_fd: int, patience_ns: int) -> list[int] | None:
        """Turns for as long as nothing but files is to be gone on with. *Blocks*, without the GIL.

        Args:
            loop_fd: an epoll that watches this one's descriptor, and everything else that the loop waits for.

        Returns:
            As `turn`; None when something else became ready, or, with a nudge, when so much was sent that it may have,
            or time was up.
        """

    def sent(self, socket_fd: int) -> Sent | None:
        """How a file's way to this socket has ended; once. None when it has not, or there was none."""

    def moved(self) -> list[tuple[int, int]]:
        """Sockets that files are on their way to, by number, and the bytes that each took since the last call."""

    def forget(self, socket_fd: int) -> None:
        """Nothing more is sent to this socket, nor told of a file; harmless where there is none. It stays watched."""

def selftest() -> int:
    """A file that is sent through a socket, in memory. Returns the number of checks.

    Raises:
        RuntimeError: it was done otherwise than asked.
    """
