"""io_uring by raw system calls: reads, writes and syncs of files that complete in the background.

    ring = Ring(64)
    ring.read(fd, buffer, 0, token=7)
    ring.submit()
    await trio.lowlevel.wait_readable(ring.event_fd)
    for token, result in ring.reap(): ...              # result: bytes moved, or -errno

Optional: kernels before 5.6, containers and hardened hosts do not have it (`probe`). A ring is bounded by its entries,
so its completions can never overflow. Buffers are pinned from the call that names them until their completion is
reaped, and must not be touched in between. One thread at a time; every call that enters the kernel drops the GIL. A
ring does not survive fork. For reads that the page cache answers, preadv is cheaper (twice here): a ring pays where
many requests wait for a device at once. Source: io_uring(7), io_uring_setup(2), io_uring_enter(2). Oracle: os.pread and
os.pwrite, in the tests.
"""

import enum
from types import TracebackType
from typing import Final, NamedTuple, Self, final

from _typeshed import ReadableBuffer, WriteableBuffer

ENTRIES_LIMIT: Final[int]
"""Most entries of a ring (4,096)."""
REQUEST_LIMIT_BYTES: Final[int]
"""Most bytes of one request (1 GiB)."""

class Start(enum.Enum):
    """Where requests begin."""

    INLINE = "inline"
    """In the submitting thread, as far as that needs no waiting: `submit` copies what the page cache has."""
    WORKER = "worker"
    """In the kernel's worker threads: `submit` never copies, so an event loop may call it."""

class Sync(enum.Enum):
    """What `Ring.fsync` makes durable."""

    DATA = "data"
    """As fdatasync(2)."""
    ALL = "all"
    """As fsync(2)."""

class Completion(NamedTuple):
    """A request that has ended."""

    token: int
    """The caller's number of the request."""
    result: int
    """Bytes moved, perhaps fewer than asked; 0 for a sync or at the end of a file; -errno for a failure."""

class Probe(NamedTuple):
    """What `probe` found."""

    works: bool
    reason: str
    """Why not; empty where it works."""

def probe() -> Probe:
    """Whether this kernel, and what confines this process, let rings be made. Makes one and closes it."""

@final
class Ring:
    """A ring and its eventfd.

    Args:
        entries: most requests in flight, 1 to ENTRIES_LIMIT; rounded up to a power of two.
        start: where requests begin.

    Raises:
        OSError: ENOSYS, EPERM or EOPNOTSUPP where `probe` says no; ENOMEM, EMFILE.
        ValueError: another number of entries.
    """

    def __init__(self, entries: int = 64, start: Start = ...) -> None: ...
    @property
    def event_fd(self) -> int:
        """Readable when completions have come since the last `reap`. Belongs to the ring. ValueError once closed."""
    @property
    def entries(self) -> int: ...
    @property
    def in_flight(self) -> int:
        """Requests whose completion was not reaped yet, submitted or not."""
    @property
    def queued(self) -> int:
        """Requests that wait for `submit`."""
    @property
    def closed(self) -> bool: ...
    def read(self, fd: int, buffer: WriteableBuffer, offset: int, token: int) -> None:
        """Queue a read into `buffer`. Does not enter the kernel.

        Raises:
            BlockingIOError: as many requests are in flight as the ring has entries: reap first.
            BufferError: the buffer is read-only.
            ValueError: a negative offset, a buffer beyond REQUEST_LIMIT_BYTES, or the ring is closed.
            RuntimeError: another thread is inside.
        """

    def write(self, fd: int, buffer: ReadableBuffer, offset: int, token: int) -> None:
        """Queue a write of `buffer`. Raises as `read`."""

    def fsync(self, fd: int, sync: Sync, token: int) -> None:
        """Queue a sync. It covers writes that have completed before it was submitted, not those in flight beside it."""

    def submit(self) -> int:
        """Hand over what is queued. Returns how many requests the kernel took; the rest stay for the next call.

        Raises:
            OSError: EAGAIN or EBUSY when memory is short or completions wait to be reaped; nothing is lost.
            ValueError, RuntimeError: as `read`.
        """

    def reap(self) -> list[Completion]:
        """Take the completions that are there, as they came, and release their buffers. Never waits."""

    def wait(self, wanted: int = 1) -> list[Completion]:
        """Submit, and take completions until there are `wanted` or nothing is in flight. *Blocks*: for threads, tests.

        Raises:
            OSError, ValueError, RuntimeError: as `submit`.
        """

    def close(self) -> None:
        """Cancel what is in flight, wait for its end, release all buffers, close ring and eventfd. *Blocks.*

        The end of a ring object, or of a `with` block, does the same.

        Raises:
            OSError: requests cannot be waited for; their buffers are never released then.
            RuntimeError: another thread is inside.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

def selftest() -> int:
    """A write and a read of a file in memory; where rings cannot be made, that none is. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
