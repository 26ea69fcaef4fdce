"""The system calls that the store makes on its files, as one thin layer that tests can put something under.

`SystemFiles` is the real body: one method, one system call. The crash and fault tests put a recording or failing body
in its place, so everything in `stores` that touches a file goes through a `Files` (kernels that map or send excepted).

Names are relative to an open directory where `directory` is given. OSError passes through unchanged; the caller maps
it, for only the caller knows what it means. All methods block.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final, Protocol

from rs3d.kernels import directio, posix

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

PAGE_BYTES = 4096
"""What the kernel reads of a file at least, so that what a bad sector takes along is a page."""
UNREADABLE = frozenset({errno.EIO, errno.ENODATA, errno.EBADMSG, errno.EUCLEAN})
"""Bytes that the disk cannot deliver, or that the file system's own checks refuse (ENODATA: a direct read of a bad
sector; the others: XFS and btrfs)."""

_BENEATH = posix.RESOLVE_BENEATH | posix.RESOLVE_NO_SYMLINKS | posix.RESOLVE_NO_MAGICLINKS
_RESOLVE_CACHED: Final = 0x20
"""Of linux/openat2.h, by value: only by what is in the cache of names, which holds the inodes."""


class Files(Protocol):
    """System calls on files. Descriptors returned are the caller's, close-on-exec, never a symbolic link's target."""

    def open_directory(self, name: str, *, directory: int | None = None) -> int:
        """A descriptor of an existing directory, for `directory=` arguments and `sync`."""
        ...

    def create(self, name: str, *, directory: int | None = None) -> int:
        """A new file, open for reading and writing; FileExistsError when the name is taken (O_EXCL)."""
        ...

    def open(self, name: str, *, directory: int | None = None) -> int:
        """An existing regular file, for reading."""
        ...

    def open_for_writing(self, name: str, *, directory: int | None = None) -> int:
        """An existing regular file, for reading and writing. Never truncates, never creates."""
        ...

    def close(self, descriptor: int) -> None: ...

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Bytes read into `buffer`; may be fewer than it holds, 0 at the end of the file."""
        ...

    def pwrite(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        """Bytes written; may be fewer than given."""
        ...

    def pwrite_past_cache(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        """As `pwrite`, but what is aligned to 4 KiB goes to the disk without being kept in the page cache, where the
        file system can. Nothing else may be using the descriptor. As little durable as `pwrite` until synced."""
        ...

    def pwritev(self, descriptor: int, data: Sequence[bytes | bytearray | memoryview], offset: int) -> int:
        """As `pwrite`, from several buffers (at most IOV_MAX = 1,024)."""
        ...

    def truncate(self, descriptor: int, length: int) -> None:
        """Set the file's length (used to grow or for leftovers never referred to; no live file shrinks)."""
        ...

    def reserve(self, descriptor: int, offset: int, length: int) -> None:
        """Reserve blocks, the length unchanged (FALLOC_FL_KEEP_SIZE). EOPNOTSUPP where the file system cannot."""
        ...

    def begin_write_out(self, descriptor: int, offset: int, length: int) -> None:
        """Start writing dirty pages of the range without waiting (sync_file_range): a hint, never durability."""
        ...

    def sync_data(self, descriptor: int) -> None:
        """fdatasync: the data and the length are on stable storage when it returns. A failure is never retried."""
        ...

    def sync(self, descriptor: int) -> None:
        """fsync: of a directory, its entries are on stable storage when it returns. A failure is never retried."""
        ...

    def rename(self, source: str, target: str, *, source_directory: int, target_directory: int) -> None:
        """Move within one file system, replacing `target`."""
        ...

    def link(self, source: str, target: str, *, source_directory: int, target_directory: int) -> None:
        """A second name; FileExistsError when `target` is taken."""
        ...

    def unlink(self, name: str, *, directory: int | None = None) -> None: ...

    def make_directory(self, name: str, *, directory: int | None = None) -> None:
        """A new directory; FileExistsError when the name is taken. The caller syncs the parent."""
        ...

    def remove_directory(self, name: str, *, directory: int | None = None) -> None: ...

    def names(self, directory: int) -> list[str]:
        """The names in an open directory, unordered, without `.` and `..`."""
        ...

    def status(self, descriptor: int) -> os.stat_result: ...

    def status_of(self, name: str, *, directory: int | None = None) -> os.stat_result:
        """Of a name, symbolic links not followed; FileNotFoundError when there is none."""
        ...

    def file_system(self, descriptor: int) -> os.statvfs_result: ...


class SystemFiles:
    """`Files` by the kernel's own calls."""

    __slots__ = ()

    def open_directory(self, name: str, *, directory: int | None = None) -> int:
        return _open_beneath(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, directory)

    def create(self, name: str, *, directory: int | None = None) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, FILE_MODE, dir_fd=directory)

    def open(self, name: str, *, directory: int | None = None) -> int:
        return _open_regular(name, os.O_RDONLY, directory)

    def open_for_writing(self, name: str, *, directory: int | None = None) -> int:
        return _open_regular(name, os.O_RDWR, directory)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        return os.preadv(descriptor, [buffer], offset)

    def pwrite(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return os.pwrite(descriptor, data, offset)

    def pwrite_past_cache(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return directio.write_past_cache(descriptor, data, offset)

    def pwritev(self, descriptor: int, data: Sequence[bytes | bytearray | memoryview], offset: int) -> int:
        return os.pwritev(descriptor, data, offset)

    def truncate(self, descriptor: int, length: int) -> None:
        os.ftruncate(descriptor, length)

    def reserve(self, descriptor: int, offset: int, length: int) -> None:
        posix.fallocate(descriptor, posix.FALLOC_FL_KEEP_SIZE, offset, length)

    def begin_write_out(self, descriptor: int, offset: int, length: int) -> None:
        posix.sync_file_range(descriptor, offset, length, posix.SYNC_FILE_RANGE_WRITE)

    def sync_data(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def rename(self, source: str, target: str, *, source_directory: int, target_directory: int) -> None:
        os.rename(source, target, src_dir_fd=source_directory, dst_dir_fd=target_directory)

    def link(self, source: str, target: str, *, source_directory: int, target_directory: int) -> None:
        os.link(source, target, src_dir_fd=source_directory, dst_dir_fd=target_directory, follow_symlinks=False)

    def unlink(self, name: str, *, directory: int | None = None) -> None:
        os.unlink(name, dir_fd=directory)

    def make_directory(self, name: str, *, directory: int | None = None) -> None:
        os.mkdir(name, DIRECTORY_MODE, dir_fd=directory)

    def remove_directory(self, name: str, *, directory: int | None = None) -> None:
        os.rmdir(name, dir_fd=directory)

    def names(self, directory: int) -> list[str]:
        return os.listdir(directory)

    def status(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def status_of(self, name: str, *, directory: int | None = None) -> os.stat_result:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)

    def file_system(self, descriptor: int) -> os.statvfs_result:
        return os.fstatvfs(descriptor)


SYSTEM_FILES = SystemFiles()


def write_whole(files: Files, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`, going on after short writes.

    Raises:
        OSError: a write failed; what was written before stays. A write of nothing counts as ENOSPC.
    """
    view = memoryview(data).cast("B")
    while len(view):
        written = files.pwrite(descriptor, view, offset)
        if written <= 0:
            raise OSError(errno.ENOSPC, "the file system accepted no more bytes")
        view = view[written:]
        offset += written


def write_whole_past_cache(files: Files, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """As `write_whole`, by `Files.pwrite_past_cache`: what is aligned is not kept in the page cache."""
    view = memoryview(data).cast("B")
    while len(view):
        written = files.pwrite_past_cache(descriptor, view, offset)
        if written <= 0:
            raise OSError(errno.ENOSPC, "the file system accepted no more bytes")
        view = view[written:]
        offset += written


def read_whole(files: Files, descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill `buffer` from `offset`, going on after short reads.

    Returns:
        Bytes read: fewer than the buffer holds only where the file ends.
    """
    view = buffer.cast("B")
    done = 0
    while done < len(view):
        count = files.pread_into(descriptor, view[done:], offset + done)
        if count == 0:
            break
        done += count
    return done


def read_readable(
    files: Files, descriptor: int, buffer: memoryview, offset: int, *, unit_bytes: int, losable_bytes: int
) -> int:
    """Fill `buffer` from `offset` with what the disk can read; zeros stand for what it cannot, and for what the file
    lacks.

    Args:
        unit_bytes: where a read fails, the rest of such a unit of the file is passed over; at least a page.
        losable_bytes: of how many unreadable bytes on to give up: a failing disk may take seconds for each attempt.

    Returns:
        Bytes that could not be read.

    Raises:
        OSError: the last one, where there are more; or one that is not the disk's.
    """
    view = buffer.cast("B")
    done = lost = 0
    while done < len(view):
        try:
            count = files.pread_into(descriptor, view[done:], offset + done)
        except OSError as error:
            count = min(unit_bytes - (offset + done) % unit_bytes, len(view) - done)
            lost += count
            if error.errno not in UNREADABLE or lost > losable_bytes:
                raise
            view[done : done + count] = bytes(count)
        if count == 0:
            view[done:] = bytes(len(view) - done)
            break
        done += count
    return lost


def _open_beneath(name: str, flags: int, directory: int | None) -> int:
    """Open, confined to `directory` where one is given: no link and no `..` on the way leads out of it (openat2)."""
    if directory is not None:
        try:
            return posix.openat2(directory, name, flags, resolve=_BENEATH)
        except OSError as error:
            if error.errno != errno.ENOSYS:  # a sandbox that does not know openat2: only the last name is confined
                raise
    return os.open(name, flags, dir_fd=directory)


def _open_regular(name: str, access: int, directory: int | None) -> int:
    # O_NONBLOCK: a FIFO planted in the tree must not hang the opener; it does nothing to regular files.
    return _only_regular(_open_beneath(name, access | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, directory), name)


def open_in_memory(name: str, directory: int) -> int:
    """`SYSTEM_FILES.open` of a file whose name and inode are in memory. Never waits for a device.

    Raises:
        OSError: BlockingIOError where they are not; EINVAL and ENOSYS where the system cannot tell (Linux before 5.12).
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    return _only_regular(posix.openat2(directory, name, flags, resolve=_BENEATH | _RESOLVE_CACHED), name)


def _only_regular(descriptor: int, name: str) -> int:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", name)
    return descriptor
