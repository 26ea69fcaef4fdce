"""Small private files: read with checks, replaced as a whole, changed by one process at a time.

A file that is replaced is written under another name in the same directory, synced, renamed, and the directory synced:
a crash leaves the old one or the new one. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator

from rs3d.kernels.posix import pwrite_all
from rs3d.kernels.secretmemory import SecretMemory


def read_private(path: str, limit_bytes: int, refuse: Callable[[str], Exception], *, any_mode: bool = False) -> bytes:
    """The content of a regular file that nobody else may read.

    Args:
        refuse: makes the error to raise from a reason.
        any_mode: for a file in a directory that is private itself, such as a systemd credential.

    Raises:
        What `refuse` makes: missing, unreadable, longer than the limit, not a regular file, or mode not 0600.
    """
    with _opened(path, limit_bytes, refuse, any_mode) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read(limit_bytes + 1)


def read_secret(
    path: str, limit_bytes: int, refuse: Callable[[str], Exception], *, any_mode: bool = False
) -> SecretMemory:
    """The same in memory for secrets, by one read: for small files.

    Raises:
        As `read_private`; and what `refuse` makes for an empty file.
    """
    with _opened(path, limit_bytes, refuse, any_mode) as descriptor:
        content = SecretMemory(limit_bytes + 1)
        with memoryview(content) as view:
            length = os.readv(descriptor, [view])
            if not length:
                raise refuse("it is empty")
            if length > limit_bytes:
                raise refuse(f"more than {limit_bytes} bytes")
            found = SecretMemory.copy(view[:length])
        content.wipe()
        return found


@contextlib.contextmanager
def _opened(path: str, limit_bytes: int, refuse: Callable[[str], Exception], any_mode: bool) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise refuse(f"cannot be opened: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise refuse("it is not a regular file")
        if status.st_mode & 0o077 and not any_mode:
            raise refuse(f"mode {stat.S_IMODE(status.st_mode):04o} lets others read it; use 0600")
        if status.st_size > limit_bytes:
            raise refuse(f"{status.st_size} bytes; the most is {limit_bytes}")
        yield descriptor
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def make_private(path: str, content: bytes | memoryview) -> None:
    """Make a file that is not there yet, mode 0600, durable with its name. Under `locked`.

    Raises:
        FileExistsError: it is there already. OSError: as the calls.
    """
    # link, not rename: an existing file is never replaced, and a half-written one never has the name
    _write_beside(path, content, lambda temporary: os.link(temporary, path))


def replace_private(path: str, content: bytes | memoryview) -> None:
    """Put `content` in the place of a file, or make it, mode 0600, durable when this returns. Under `locked`.

    Raises OSError.
    """
    _write_beside(path, content, lambda temporary: os.rename(temporary, path))


def _write_beside(path: str, content: bytes | memoryview, name_it: Callable[[str], None]) -> None:
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):  # usually there is none: a crash before the renaming left it
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            pwrite_all(descriptor, content, 0)  # a file object would keep a copy in its buffer
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        name_it(temporary)
    finally:
        with contextlib.suppress(FileNotFoundError):  # a rename took it
            os.unlink(temporary)
    parent = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep others from making or replacing private files in the directory of `path` while the block runs.

    The lock is the directory's (flock), because the file itself is replaced, or is not there yet. Readers are not kept
    out. Raises OSError.
    """
    descriptor = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
