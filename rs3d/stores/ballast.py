"""Room that is kept so that deletes, aborts and compaction can always be committed. STORE.md rule 22.

Two things. *Ballast*: a file of reserved blocks in staging/, given back to the file system only for compaction, and
filled again before writes that add data are admitted. *Thresholds*: such writes are refused (507) while free blocks or
inodes are few, long before the file system itself refuses anything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
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
        self._size_bytes = size_bytes
        self._path = os.path.join(root, STAGING, BALLAST)

    @property
    def is_filled(self) -> bool:
        """Whether the whole ballast is reserved now."""
        try:
            return self._files.status_of(self._path).st_blocks * 512 >= self._size_bytes
        except FileNotFoundError:
            return self._size_bytes == 0

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
            self._files.reserve(descriptor, 0, self._size_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            for offset in range(0, self._size_bytes, len(_ZEROS)):
                write_whole(self._files, descriptor, memoryview(_ZEROS)[: self._size_bytes - offset], offset)


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
        self.ballast_missing = False
        """Set by the writer while its ballast is not whole: everything that adds data is refused."""

    def require(self, added_bytes: int, added_files: int = 2) -> None:
        """Admit a write of so many bytes and files, and count it until the file system is asked again.

        Raises:
            StoreFull: free blocks or inodes would fall below what is kept; nothing is counted.
        """
        config = self._config
        with self._lock:
            if self._clock.boot_ns() - self._looked_ns >= config.look_again_s * NANOSECONDS_PER_SECOND:
                self._look()
            if self.ballast_missing:
                raise StoreFull(
                    what="the reserve of the store is being refilled",
                    free_bytes=self._free_bytes,
                    needed_bytes=config.ballast_bytes + config.minimum_free_bytes,
                )
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
