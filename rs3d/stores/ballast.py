"""Room that is kept so that deletes, aborts and compaction can always be committed. STORE.md rule 22.

Two things. *Ballast*: a file of reserved blocks in staging/, given back to the file system only for compaction, and
filled again before writes that add data are admitted. *Thresholds*: such writes are refused (507) while free blocks or
inodes are few, long before the file system itself refuses anything.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rs3d.clock import NANOSECONDS_PER_SECOND, Clock, SystemClock
from rs3d.errors import StoreFull
from rs3d.stores.files import SYSTEM_FILES, Files, write_whole
from rs3d.stores.layout import STAGING

BALLAST: Final = "ballast"
MEBIBYTE: Final = 1024 * 1024
_ZEROS: Final = bytes(MEBIBYTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceConfig:
    """Settings of the reserve (`[storage.space]`)."""

    ballast_bytes: int = 128 * MEBIBYTE
    """One log segment (64 MiB) and 64 MiB: what compaction needs to write before it can free anything."""
    minimum_free_bytes: int = 64 * MEBIBYTE
    """Writes that add data are refused below this: room for a spare log segment."""
    minimum_free_inodes: int = 1024
    """Writes that add data are refused below this, on file systems that count inodes."""
    look_again_s: float = 1.0
    """How long an answer of the file system is believed; what is admitted meanwhile is subtracted from it."""


class Ballast:
    """The ballast file of one store. Used by one process, the writer. Methods block."""

    def __init__(self, root: str, size_bytes: int, *, files: Files = SYSTEM_FILES) -> None:
        self._files = files
        self.size_bytes = size_bytes
        self._path = os.path.join(root, STAGING, BALLAST)

    @property
    def is_filled(self) -> bool:
        """Whether the whole ballast is reserved now."""
        try:
            return self._files.status_of(self._path).st_blocks * 512 >= self.size_bytes
        except FileNotFoundError:
            return self.size_bytes == 0

    def fill(self) -> bool:
        """Reserve what is missing. Returns whether the ballast is whole; what could be reserved is kept otherwise.

        Raises:
            OSError: something else than a full disk.
        """
        if self.is_filled:
            return True
        try:
            descriptor = self._files.open_for_writing(self._path)
        except FileNotFoundError:
            descriptor = self._files.create(self._path)
        try:
            self._reserve(descriptor)
            self._files.sync_data(descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False
        finally:
            self._files.close(descriptor)
        return self.is_filled

    def release(self) -> None:
        """Give the blocks back, for compaction alone; `fill` comes before the next write that adds data."""
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(self._path)

    def _reserve(self, descriptor: int) -> None:
        try:
            self._files.reserve(descriptor, 0, self.size_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            for offset in range(0, self.size_bytes, len(_ZEROS)):
                write_whole(self._files, descriptor, memoryview(_ZEROS)[: self.size_bytes - offset], offset)


def writable_descriptor_of(path: str) -> int | None:
    """A descriptor of `path` that this process has open for writing already, or None.

    liblmdb does not tell its own, and nothing else may open the catalog's files.
    """
    wanted = os.stat(path, follow_symlinks=False)
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            status = os.fstat(int(name))
            is_same = (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino)
            if is_same and fcntl.fcntl(int(name), fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                return int(name)
    return None


class StoreReserve:
    """What the writer of a store keeps: the ballast, and blocks behind the end of files that must be able to grow.

    Used by the committer alone: `keep` when it opens and each time it looks at the space, `lend` around a compaction.
    Methods block.
    """

    def __init__(
        self, ballast: Ballast, descriptors: tuple[int, ...], behind_bytes: int, *, files: Files = SYSTEM_FILES
    ) -> None:
        """Nothing is reserved before `keep`.

        Args:
            descriptors: of files that grow (the catalog's: `writable_descriptor_of`); they stay the caller's.
            behind_bytes: blocks to hold behind the end of each.
        """
        self._ballast = ballast
        self._descriptors = descriptors
        self._behind_bytes = behind_bytes
        self._files = files
        self._lent = False

    def keep(self) -> StoreFull | None:
        """Make the reserve whole again as far as there is space. Returns why adding has to be refused, or None.

        Raises:
            OSError: something else than a full disk.
        """
        missing = [descriptor for descriptor in self._descriptors if not self._extend(descriptor)]
        if self._lent or not self._ballast.fill() or missing:
            status = self._files.file_system(self._descriptors[0]) if self._descriptors else None
            free_bytes = status.f_bavail * status.f_frsize if status else 0
            needed_bytes = self._ballast.size_bytes
            return StoreFull(what="the reserve of the store", free_bytes=free_bytes, needed_bytes=needed_bytes)
        return None

    @contextlib.contextmanager
    def lend(self) -> Iterator[None]:
        """Give the ballast to a compaction; adding is refused until a `keep` after the block has refilled it."""
        self._lent = True
        self._ballast.release()
        try:
            yield
        finally:
            self._lent = False

    def _extend(self, descriptor: int) -> bool:
        status = self._files.status(descriptor)
        if status.st_blocks * 512 >= status.st_size + self._behind_bytes // 2:
            return True  # half of it is enough: so a growing file is extended rarely
        try:
            self._files.reserve(descriptor, status.st_size, self._behind_bytes)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
                return True
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False
        return True


class WriteAdmission:
    """Whether a write of a blob may begin, asked before its body is read. For all threads; one statvfs a second."""

    def __init__(
        self, root: str, config: SpaceConfig, *, clock: Clock | None = None, files: Files = SYSTEM_FILES
    ) -> None:
        self._root = root
        self._config = config
        self._files = files
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._looked_ns = -(1 << 62)
        self._free_bytes = 0
        self._free_inodes: int | None = None

    def require(self, added_bytes: int, added_files: int = 2) -> None:
        """Admit a write of so many bytes and files, and count it until the file system is asked again.

        Raises:
            StoreFull: free blocks or inodes would fall below what is kept; nothing is counted.
        """
        config = self._config
        with self._lock:
            if self._clock.boot_ns() - self._looked_ns >= config.look_again_s * NANOSECONDS_PER_SECOND:
                self._look()
            if self._free_bytes - added_bytes < config.minimum_free_bytes:
                raise StoreFull(
                    what="disk space", free_bytes=self._free_bytes, needed_bytes=config.minimum_free_bytes + added_bytes
                )
            if self._free_inodes is not None and self._free_inodes - added_files < config.minimum_free_inodes:
                raise StoreFull(
                    what="inodes", free_bytes=self._free_inodes, needed_bytes=config.minimum_free_inodes + added_files
                )
            self._free_bytes -= added_bytes
            if self._free_inodes is not None:
                self._free_inodes -= added_files

    def forget(self) -> None:
        """Ask the file system at the next `require`: something was deleted or released."""
        with self._lock:
            self._looked_ns = -(1 << 62)

    def _look(self) -> None:
        directory = self._files.open_directory(self._root)
        try:
            status = self._files.file_system(directory)
        finally:
            self._files.close(directory)
        self._looked_ns = self._clock.boot_ns()
        self._free_bytes = status.f_bavail * status.f_frsize
        self._free_inodes = status.f_favail if status.f_files else None  # btrfs and some others count none
