"""O_DIRECT for large bodies: aligned buffers, transfers whose odd bytes take the page cache, and a probe of that cache.

Variants: `auto` (direct where the file system allows it), `direct` (a demand: OSError where it refuses), `buffered`
(never). `RS3D_KERNEL_DIRECTIO` or `use_variant` chooses for files opened afterwards. `posix.fallocate` reserves blocks.

Errors are OSError with errno. The GIL is dropped in every transfer; EINTR is handled. Buffers are any contiguous ones,
which must be left alone until the call returns; a DirectFile takes only aligned ones past the page cache. Source:
open(2) "O_DIRECT", statx(2), preadv2(2).
"""

import enum
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self, final

from _typeshed import ReadableBuffer, WriteableBuffer

DEFAULT_ALIGN_BYTES: Final[int]
"""Assumed where the kernel does not tell a file's alignment (4,096)."""
VECTORS_MAX: Final[int]
"""Most buffers in one call (65,536)."""

class Access(enum.Enum):
    """What a DirectFile is for."""

    READ = "read"
    WRITE = "write"

@final
class AlignedBuffer:
    """Writable memory at an aligned address, zeroed; a buffer (`memoryview(it)`), freed with its last view.

    Args:
        size_bytes: at least 1.
        align_bytes: a power of two from 512 to 65,536.

    Raises:
        ValueError: other sizes.
        MemoryError: there is no such piece of memory.
    """

    def __init__(self, size_bytes: int, align_bytes: int = ...) -> None: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def align_bytes(self) -> int: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def direct_alignment(fd: int) -> tuple[int, int] | None:
    """What statx(2) says direct I/O on this file needs (Linux 6.1, and the file system's support).

    Returns:
        Alignment of memory, and of offsets and lengths, in bytes; (0, 0) if the file cannot; None if it is not told.

    Raises:
        OSError: as statx(2).
    """

def read_nowait(fd: int, buffer: WriteableBuffer, offset: int) -> int:
    """Read what the page cache has, without waiting for a device (RWF_NOWAIT): loop-safe.

    Returns:
        Bytes read; fewer than asked where the cache or the file ends, 0 only at the end of the file or for no buffer.

    Raises:
        BlockingIOError: the first page is not in the cache.
        OSError: EOPNOTSUPP where the file system does not know the flag; what preadv2(2) knows.
        ValueError: a negative offset.
    """

def pread_resident(fd: int, length: int, offset: int) -> bytes | None:
    """As pread(2), of bytes that are all in the page cache (RWF_NOWAIT): loop-safe. For small reads: the lock of the
    interpreter is kept.

    Returns:
        The bytes, fewer than `length` only where the file ends; None when some are not in the cache.

    Raises:
        OSError: EOPNOTSUPP where the file system does not know the flag; what preadv2(2) knows.
        ValueError: a negative offset or length.
    """

def write_past_cache(fd: int, data: ReadableBuffer, offset: int) -> int:
    """One pwrite(2), past the page cache where that can be: of bytes for an aligned offset, the longest whole part; of
    bytes at an odd address a MiB at most, copied to an even one first. Everything else, and all where the file system
    refuses, goes through the cache. *Blocks.*

    O_DIRECT is set on the open file description for the time of the call: nobody else may be using it then.

    Returns:
        Bytes written; fewer than given where the next call has to write what is left.

    Raises:
        OSError: as pwrite(2).
        ValueError: a negative offset.
    """

@final
class DirectFile:
    """Transfers past the page cache on a file that is open already. One thread at a time.

    Args:
        fd: an ordinary descriptor of a regular file, which stays the caller's and must outlive this object; opened for
            reading and writing where `access` is WRITE. Odd bytes go through it.
        access: READ or WRITE; decides which call may be used.

    A second description of the file is opened with O_DIRECT through /proc/self/fd, so that the permission bits are
    checked again. `close`, a `with` block or the object's end closes it. Direct writes are no more durable than others:
    `fdatasync(fd)` is still the caller's, and covers both ways.

    Raises:
        OSError: the file could not be opened a second time, for another reason than that the file system refuses
            O_DIRECT; with variant `direct`, for that reason too.
    """

    def __init__(self, fd: int, access: Access) -> None: ...
    def close(self) -> None:
        """Close the second description; nothing can be transferred any more. RuntimeError while a transfer runs."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    @property
    def is_direct(self) -> bool:
        """Whether aligned bytes go past the page cache. Becomes False when the file system refuses a transfer."""
    @property
    def align_bytes(self) -> int:
        """What buffers' addresses, offsets and lengths have to be multiples of to go past the page cache."""
    @property
    def direct_bytes(self) -> int:
        """How many bytes went past the page cache."""
    def read_into(self, buffers: Iterable[WriteableBuffer], offset: int) -> int:
        """Fill buffers, one after the other, from `offset`. *Blocks.*

        Returns:
            Bytes read; fewer than asked only at the end of the file.

        Raises:
            OSError: some of the bytes may have been read.
            ValueError: opened for writing, closed, a negative offset, or too many buffers.
            RuntimeError: another thread is inside.
        """

    def write_all(self, buffers: Iterable[ReadableBuffer], offset: int) -> int:
        """Write buffers, one after the other, at `offset`. *Blocks.*

        Returns:
            The sum of their lengths.

        Raises:
            OSError: some of the bytes may have been written.
            ValueError: opened for reading, closed, a negative offset, or too many buffers.
            RuntimeError: another thread is inside.
        """

def variant() -> str:
    """The variant for files opened from now on."""

def variants() -> tuple[str, ...]:
    """All variants."""

def use_variant(name: str) -> None:
    """Choose for the files opened from now on, in the whole process. Raises ValueError for an unknown name."""

def selftest() -> int:
    """Buffers are aligned and empty; what is written is read. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
