"""Bytes between descriptors without passing through Python: file to file by the cheapest way, socket to file by a pipe,
file to socket for as long as the socket takes.

`posix.sendfile`, `posix.copy_file_range` and `posix.clone_range` are the single system calls. Here are the ways that
combine several. Counts are exact: of bytes that are in the destination, at the offsets asked for; no descriptor's own
position is used or moved, but a socket's. Errors are OSError with errno. The GIL is dropped in every call; EINTR is
handled. Nothing here is durable before the destination's fdatasync.

Variants, for `copy_range`: `auto`, or one method as a demand (`clone`, `copy_file_range`, `splice`, `buffer`: OSError
where the file systems cannot). `RS3D_KERNEL_SPLICE` or `use_variant` chooses. Source: ioctl_ficlonerange(2),
copy_file_range(2), splice(2).
"""

import enum
from types import TracebackType
from typing import NamedTuple, Self, final

class Method(enum.Enum):
    """How bytes got from one file to another, cheapest first."""

    CLONE = "clone"
    """The files share blocks now."""
    COPY_FILE_RANGE = "copy_file_range"
    """The file system copied, perhaps on the server or by sharing."""
    SPLICE = "splice"
    """The kernel copied, by way of a pipe."""
    BUFFER = "buffer"
    """Read and written again."""

class Copied(NamedTuple):
    """What `copy_range` did."""

    copied_bytes: int
    method: Method
    """The last method that moved something, or that found the source's end."""

class Stop(enum.Enum):
    """Why `receive` returned."""

    DONE = "done"
    """All bytes asked for are in the file."""
    END = "end"
    """The source ended before."""
    WAIT = "wait"
    """The source has nothing now: wait until it is readable, then go on behind the bytes received."""

class Received(NamedTuple):
    """What `SplicePipe.receive` did."""

    received_bytes: int
    stop: Stop

def copy_range(in_fd: int, in_offset: int, out_fd: int, out_offset: int, length: int) -> Copied:
    """Copy a range between files: clone it, else copy_file_range, else splice, else read and write. *Blocks.*

    A method that the file systems do not have hands over to the next, behind what is copied already. An answer of "no
    more bytes" is believed of the last method only, because some file systems give it for what they cannot copy.

    Args:
        in_fd, out_fd: open for reading and for writing; the ranges must not overlap if it is one file.
        in_offset, out_offset, length: in bytes.

    Returns:
        Bytes copied, fewer than `length` only where the source ends; and how.

    Raises:
        OSError: some of the bytes may have been copied.
        ValueError: a negative number.
    """

@final
class SplicePipe:
    """A pipe that carries bytes from a socket into a file, page by page, past this process's memory.

    One thread at a time. Holds two descriptors; `close`, a `with` block or the object's end closes them.

    Raises:
        OSError: no descriptors are left.
    """

    @property
    def capacity_bytes(self) -> int:
        """What one round moves at most: 1 MiB, unless an operator set a lower limit for pipes."""
    @property
    def held_bytes(self) -> int:
        """Taken from a source and not written, after a write failed. Such a pipe can only be closed."""
    def receive(self, in_fd: int, out_fd: int, offset: int, length: int) -> Received:
        """Move bytes from a stream into a file until all have come, the stream ends or it has none for now.

        Args:
            in_fd: a socket or pipe; non-blocking, or this waits for it.
            out_fd: a file open for writing, without O_APPEND.
            offset: where the first byte goes.
            length: how many to move.

        Returns:
            Bytes moved, all of them in the file; and why it stopped. Nothing is in the pipe then.

        Raises:
            OSError: the file's error, with the bytes lost counted in `held_bytes`; or the socket's, with none lost.
            ValueError: a negative number, or a pipe that is closed or holds bytes.
            RuntimeError: another thread is inside.

        Blocking: *blocks* as writing to the file does.
        """

    def close(self) -> None:
        """Close both ends. RuntimeError while a transfer runs."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

class Pause(enum.Enum):
    """Why `FileSender.send` returned."""

    DONE = "done"
    """All bytes asked for were handed to the socket."""
    END = "end"
    """The file ended before."""
    SLOW = "slow"
    """The socket was waited for as long as was said."""
    STOPPED = "stopped"
    """By `stop`."""
    FAILED = "failed"
    """The socket or the file failed after bytes were sent; the next call says how."""

class Sent(NamedTuple):
    """What `FileSender.send` did."""

    sent_bytes: int
    waited_ns: int
    """Of it, for the socket to take more."""
    pause: Pause

@final
class FileSender:
    """Sends parts of files to non-blocking sockets, in a thread of the caller's, and can be stopped from another.

    One sending at a time. Holds one descriptor until the object's end.

    Raises:
        OSError: no descriptors are left.
    """

    def send(self, socket_fd: int, file_fd: int, offset: int, length: int, patience_ns: int) -> Sent:
        """Send from a file's offset on by sendfile, and whenever the socket takes no more, wait until it does.

        Args:
            socket_fd: connected and non-blocking; open, as the file is, until this returns.
            length: how many bytes to send.
            patience_ns: how long all waits may take together.

        Raises:
            OSError: the socket's error or the file's, and nothing was sent.
            ValueError: a negative number.
            RuntimeError: another thread is inside.

        Blocking: *blocks* as long as the socket takes bytes, for `patience_ns` while it does not, and as reading does
        for what is not in the page cache.
        """

    def stop(self) -> None:
        """Make `send` return within a few MiB: the one under way, or else those to come until `rearm`. Any thread."""

    def rearm(self) -> None:
        """Forget `stop`. RuntimeError while a sending runs."""

def variant() -> str:
    """The variant in use."""

def variants() -> tuple[str, ...]:
    """All variants; whether the file systems can do one shows only when it is used."""

def use_variant(name: str) -> None:
    """Choose from now on, in the whole process. Raises ValueError for an unknown name."""

def selftest() -> int:
    """Copies between two files in memory. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
