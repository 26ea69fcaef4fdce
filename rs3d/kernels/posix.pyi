"""Linux system calls that Python 3.11 lacks, and transfers that finish what they start, without the GIL.

Every failure is an OSError with its errno, and with the path where a call has one. EINTR is handled here: Python's
signal handlers run, then the call goes on where it stopped. Calls marked *blocks* may wait for a device or a lock in
the kernel and belong in a thread; the others are safe on an event loop. Buffers are any contiguous bytes-like objects;
they stay pinned during the call and must not be changed by others. Source: the Linux manual pages, section 2.
"""

from collections.abc import Iterable
from typing import Final

from _typeshed import ReadableBuffer, StrOrBytesPath, WriteableBuffer

FALLOC_FL_KEEP_SIZE: Final[int]
FALLOC_FL_PUNCH_HOLE: Final[int]
"""Needs FALLOC_FL_KEEP_SIZE beside it."""
FALLOC_FL_ZERO_RANGE: Final[int]
SYNC_FILE_RANGE_WAIT_BEFORE: Final[int]
SYNC_FILE_RANGE_WRITE: Final[int]
SYNC_FILE_RANGE_WAIT_AFTER: Final[int]
RESOLVE_NO_XDEV: Final[int]
RESOLVE_NO_MAGICLINKS: Final[int]
RESOLVE_NO_SYMLINKS: Final[int]
RESOLVE_BENEATH: Final[int]
RESOLVE_IN_ROOT: Final[int]
RENAME_NOREPLACE: Final[int]
RENAME_EXCHANGE: Final[int]

# -- names and files

def openat2(dir_fd: int, path: StrOrBytesPath, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open a path under a directory, with the walk confined by `resolve` (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS, say).

    Args:
        dir_fd: the directory that relative paths start from.
        flags: os.O_*; O_CLOEXEC is always added.
        mode: permission bits; the kernel wants 0 unless the call can create a file.

    Returns:
        The new descriptor; the caller closes it.

    Raises:
        OSError: EXDEV for a path that leaves the directory, ELOOP for a forbidden symbolic link, ENOSYS before Linux
            5.6, and what open(2) knows; `filename` is the path.
        ValueError: the path holds a NUL.

    Blocking: as open(2).
    """

def renameat2(
    old_dir_fd: int, old_path: StrOrBytesPath, new_dir_fd: int, new_path: StrOrBytesPath, flags: int = 0
) -> None:
    """Rename in one step; with RENAME_NOREPLACE it fails (EEXIST) instead of replacing.

    Raises:
        OSError: with both paths; EINVAL where the file system does not know the flag.
        ValueError: a path holds a NUL.

    Blocking: as rename(2).
    """

def sync_file_range(fd: int, offset: int, length: int, flags: int) -> None:
    """Start (SYNC_FILE_RANGE_WRITE) or await the write-out of a range of pages.

    Early write-out for large bodies; **never a substitute for fdatasync**: neither metadata nor the device's cache is
    flushed. `length` 0 means to the end of the file. *Blocks* with a WAIT flag, or when the device's queue is full.
    """

def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Reserve, zero or release blocks of a file: mode 0 or FALLOC_FL_* bits.

    Raises:
        OSError: ENOSPC; EOPNOTSUPP where the file system cannot (nothing is emulated, unlike posix_fallocate).

    Blocking: *blocks* on the file system's journal.
    """

def clone_file(destination_fd: int, source_fd: int) -> None:
    """Make the destination share the source's blocks (FICLONE).

    Raises:
        OSError: EOPNOTSUPP or EXDEV where that is impossible.

    Blocking: *blocks* on the file system's journal.
    """

def clone_range(destination_fd: int, destination_offset: int, source_fd: int, source_offset: int, length: int) -> None:
    """Share a range of blocks (FICLONERANGE).

    Args:
        length: on a block boundary, as both offsets are, unless it reaches the source's end; 0 means to the end.

    Raises:
        OSError: EOPNOTSUPP, EXDEV or EINVAL where that is impossible.

    Blocking: *blocks* on the file system's journal.
    """

# -- transfers

def pread_into(fd: int, buffer: WriteableBuffer, offset: int) -> int:
    """Read at `offset` until the buffer is full or the file ends.

    Returns:
        Bytes read: fewer than len(buffer) only at the end of the file.

    Blocking: *blocks* on cold pages.
    """

def pwrite_all(fd: int, buffer: ReadableBuffer, offset: int) -> int:
    """Write the whole buffer at `offset`. Returns len(buffer).

    Raises:
        OSError: some of the bytes may have been written.

    Blocking: *blocks* when too many pages are dirty.
    """

def pwritev_all(fd: int, buffers: Iterable[ReadableBuffer], offset: int) -> int:
    """Write all buffers, one behind the other, at `offset`; any number up to 65,536, IOV_MAX at a time.

    Returns:
        The sum of their lengths.

    Raises:
        OSError: some of the bytes may have been written.
        ValueError: too many buffers.

    Blocking: *blocks* when too many pages are dirty.
    """

def sendfile(out_fd: int, in_fd: int, offset: int, length: int) -> int:
    """Send a range of a file to a socket until all is sent, the socket is full or the file ends.

    Neither descriptor's position matters or moves (the socket has none).

    Returns:
        Bytes sent: 0 only for `length` 0 or when the file ends at or before `offset`.

    Raises:
        BlockingIOError: nothing could be sent now, for a non-blocking socket.
        OSError: nothing was sent; the connection's or the file's error. An error after some bytes is met by the next
            call, so that the bytes sent are never miscounted.

    Blocking: with a non-blocking socket only on cold pages; a blocking socket *blocks*.
    """

def copy_file_range(in_fd: int, in_offset: int, out_fd: int, out_offset: int, length: int) -> int:
    """Copy between files inside the kernel (sharing blocks where the file system can).

    Returns:
        Bytes copied: fewer than `length` only at the end of the source.

    Raises:
        OSError: EXDEV or EOPNOTSUPP where the file systems cannot: copy by reading. Some bytes may have been copied.

    Blocking: *blocks*.
    """

# -- memory

def mlock(buffer: ReadableBuffer) -> None:
    """Keep the pages of a buffer out of swap. OSError ENOMEM beyond RLIMIT_MEMLOCK.

    Locks are by page and do not nest: unlocking a neighbour on the same page unlocks this too. Keep secrets in a
    mapping of their own.
    """

def munlock(buffer: ReadableBuffer) -> None:
    """Undo `mlock`, for the whole pages."""

def wipe(buffer: WriteableBuffer) -> None:
    """Overwrite a secret with zeros, in a way that no compiler drops."""

def resident_pages(buffer: ReadableBuffer) -> int:
    """How many pages of a mapping are in memory (mincore). The buffer must lie in mapped memory, as all buffers do."""

def store_u64_release(buffer: WriteableBuffer, offset: int, value: int) -> None:
    """Store a 64-bit word in shared memory: all that was written before is seen by whoever loads it with acquire.

    Args:
        buffer: a writable mapping, of a memfd say.
        offset: bytes; the word must lie on a multiple of 8 in memory.

    Raises:
        ValueError: outside the buffer, or not aligned.
        OverflowError: the value does not fit 64 bits.
    """

def load_u64_acquire(buffer: ReadableBuffer, offset: int) -> int:
    """Load a 64-bit word from shared memory; see `store_u64_release`."""

def add_u64(buffer: WriteableBuffer, offset: int, value: int) -> int:
    """Add to a 64-bit word in shared memory, modulo 2^64, atomically among processes. Returns the new value."""

# -- process

def set_parent_death_signal(signal_number: int) -> None:
    """Ask for a signal when the *thread* that started this process ends; 0 asks for none.

    Cleared by exec of a set-user-id program; set it after fork, then check that the parent is still the expected one.
    """

def forbid_dumps() -> None:
    """No core dumps and no ptrace by the same user, so that keys stay in memory (PR_SET_DUMPABLE 0); exec undoes it."""

def allows_dumps() -> bool:
    """Whether this process may be dumped."""

def selftest() -> int:
    """Known answers of the parts that compute; returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
