"""Recording what a store does to its disk: a body of `Files`, and hooks on the catalog's commits."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb

from rs3d.stores import catalogcheckpoint, catalogsettling
from rs3d.stores import log as log_module
from rs3d.stores.catalogcheckpoint import Checkpoints
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.stores.files import SystemFiles
from tests.crash.disk import (
    CATALOG_FILE,
    ROOT,
    CatalogSynced,
    Changed,
    CommitBegun,
    Committed,
    Disk,
    Event,
    File,
    Linked,
    Made,
    Removed,
    Renamed,
    Rotted,
    Synced,
    Truncate,
    Write,
)

_SKIPPED = ("store.lock", CATALOG_FILE, "catalog/lock.mdb")


class RecordingFiles(SystemFiles):
    """The real system calls (but no waiting for a disk), noted in order. `inodes` maps the kernel's numbers to the
    model's."""

    __slots__ = ("events", "inodes", "last_inode", "lock", "root")

    def __init__(self, root: Path, paths: dict[str, int]) -> None:
        """`paths`: the model's inodes of what is there already, by path below `root` ("" is the root)."""
        self.root = root
        self.events: list[Event] = []
        self.lock = threading.RLock()
        self.inodes = {os.stat(root / path).st_ino: inode for path, inode in paths.items()}
        self.last_inode = 10_000 + max(self.inodes.values())

    def note(self, event: Event) -> None:
        with self.lock:
            self.events.append(event)

    def _of(self, descriptor: int) -> int:
        return self.inodes[os.fstat(descriptor).st_ino]

    def _parent(self, name: str, directory: int | None) -> tuple[int, str]:
        """The model's directory and the last part of the name."""
        head, tail = os.path.split(name)
        if directory is None:
            return self.inodes[os.stat(head).st_ino], tail
        if head:
            return self.inodes[os.stat(head, dir_fd=directory).st_ino], tail
        return self._of(directory), tail

    def _new(self, kernel_inode: int) -> int:
        self.last_inode += 1
        self.inodes[kernel_inode] = self.last_inode
        return self.last_inode

    def create(self, name: str, *, directory: int | None = None) -> int:
        with self.lock:
            descriptor = super().create(name, directory=directory)
            parent, last = self._parent(name, directory)
            self.note(Made(parent, last, self._new(os.fstat(descriptor).st_ino), False))
            return descriptor

    def pwrite(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        with self.lock:
            count = super().pwrite(descriptor, data, offset)
            self.note(Changed(self._of(descriptor), Write(offset, bytes(data[:count]))))
            return count

    def pwrite_past_cache(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return self.pwrite(descriptor, data, offset)

    def pwritev(self, descriptor: int, data: Sequence[bytes | bytearray | memoryview], offset: int) -> int:
        return self.pwrite(descriptor, b"".join(bytes(part) for part in data), offset)

    def truncate(self, descriptor: int, length: int) -> None:
        with self.lock:
            super().truncate(descriptor, length)
            self.note(Changed(self._of(descriptor), Truncate(length)))

    def begin_write_out(self, descriptor: int, offset: int, length: int) -> None:
        """A hint: nothing is promised, so nothing is noted."""

    def rot(self, path: str, offset: int, mask: int) -> None:
        """The disk flips bits of one byte, which no one asked it to."""
        with self.lock, open(path, "r+b", buffering=0) as file:
            flipped = bytes([os.pread(file.fileno(), 1, offset)[0] ^ mask])
            os.pwrite(file.fileno(), flipped, offset)
            self.note(Rotted(self._of(file.fileno()), Write(offset, flipped)))

    def sync_data(self, descriptor: int) -> None:
        self.note(Synced(self._of(descriptor)))

    def sync(self, descriptor: int) -> None:
        self.note(Synced(self._of(descriptor)))

    def rename(self, source: str, target: str, *, source_directory: int, target_directory: int) -> None:
        with self.lock:
            super().rename(source, target, source_directory=source_directory, target_directory=target_directory)
            self.note(Renamed(self._of(source_directory), source, self._of(target_directory), target))

    def link(self, source: str, target: str, *, source_directory: int, target_directory: int) -> None:
        with self.lock:
            super().link(source, target, source_directory=source_directory, target_directory=target_directory)
            inode = self.inodes[os.stat(target, dir_fd=target_directory).st_ino]
            self.note(Linked(self._of(target_directory), target, inode))

    def unlink(self, name: str, *, directory: int | None = None) -> None:
        with self.lock:
            super().unlink(name, directory=directory)
            self.note(Removed(*self._parent(name, directory)))

    def make_directory(self, name: str, *, directory: int | None = None) -> None:
        with self.lock:
            super().make_directory(name, directory=directory)
            parent, last = self._parent(name, directory)
            self.note(Made(parent, last, self._new(os.stat(name, dir_fd=directory).st_ino), True))

    def remove_directory(self, name: str, *, directory: int | None = None) -> None:
        with self.lock:
            super().remove_directory(name, directory=directory)
            self.note(Removed(*self._parent(name, directory)))


def read_disk(root: Path) -> tuple[Disk, dict[str, int]]:
    """The disk as it is in `root`, all of it durable, and its inodes by path. The catalog is read as a file, which is
    right between commits: LMDB writes it with pwrite."""
    disk, paths = Disk(), {"": ROOT}
    for where, directories, names in os.walk(root):
        base = os.path.relpath(where, root)
        base = "" if base == "." else base
        directories.sort()
        for name in sorted(names):
            path = f"{base}/{name}" if base else name
            if path in _SKIPPED:
                continue
            paths[path] = len(paths)
            disk.files[paths[path]] = File((Path(where) / name).read_bytes())
            disk.entries[paths[base]][name] = paths[path]
        for name in directories:
            path = f"{base}/{name}" if base else name
            paths[path] = len(paths)
            disk.entries[paths[path]] = {}
            disk.entries[paths[base]][name] = paths[path]
    with contextlib.suppress(FileNotFoundError):
        disk.catalogs = [(root / CATALOG_FILE).read_bytes()]
    return disk, paths


@contextlib.contextmanager
def replaced(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Attributes of classes or modules, replaced for a time."""
    old = [(where, name, getattr(where, name)) for where, name, _ in changes]
    for where, name, value in changes:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in old:
            setattr(where, name, value)


class _Inline(threading.Thread):
    """A thread that has run when it was started: the log's next segment is prepared where it is asked for, so that a
    history gives the same events each time."""

    def start(self) -> None:
        self.run()

    def join(self, timeout: float | None = None) -> None:
        """It has ended."""

    def is_alive(self) -> bool:
        return False


class _InlineThreading:
    Thread = _Inline


@contextlib.contextmanager
def inline_preparation() -> Iterator[None]:
    """Log segments are prepared without a thread."""
    with replaced((log_module, "threading", _InlineThreading)):
        yield


@contextlib.contextmanager
def commits_recorded(files: RecordingFiles) -> Iterator[None]:
    """Note every commit of the catalog in the store at `files.root`, every sync of it, and its going back."""
    path = files.root / CATALOG_FILE
    commit, go_back = CatalogTransaction.commit, catalogsettling._go_back

    def noted_commit(self: CatalogTransaction) -> None:
        files.note(CommitBegun())
        commit(self)
        files.note(Committed(path.read_bytes()))

    def noted_sync(environment: lmdb.Environment) -> None:
        files.note(Committed(path.read_bytes()))  # tables were made by liblmdb, in no transaction of ours
        files.note(CatalogSynced())

    def noted_return(catalog_path: str, meta: bytes) -> None:
        files.note(CommitBegun())
        go_back(catalog_path, meta)
        files.note(Committed(path.read_bytes()))
        files.note(CatalogSynced())

    with replaced(
        (CatalogTransaction, "commit", noted_commit),
        (catalogcheckpoint, "sync_pages", noted_sync),
        (catalogsettling, "_go_back", noted_return),
    ):
        yield


class _Later(threading.Thread):
    """A thread that runs when it is waited for."""

    def start(self) -> None:
        """Not yet."""

    def join(self, timeout: float | None = None) -> None:
        if self._target is not None:  # type: ignore[attr-defined]
            self.run()


class _LaterThreading:
    Thread = _Later


@contextlib.contextmanager
def checkpoints_by_commits() -> Iterator[None]:
    """A checkpoint is begun by each fourth commit and made durable by the third one behind it, whatever the clock says:
    so a history gives the same events each time, and there are commits beside every checkpoint."""

    def look(self: Checkpoints) -> Exception | None:
        if self._thread is not None:
            if self._commits >= 3:
                self._end()
        elif self._commits >= 4 and self._failure is None:
            self._begin()
        return self._failure

    with replaced(
        (Checkpoints, "look", look),
        (Checkpoints, "wait_s", None),
        (catalogcheckpoint, "threading", _LaterThreading),
    ):
        yield
