"""`store.lock`: who may use a store, by three byte ranges, each locked through its holder's own open file description.

STORE.md rule 9. `daemon` is held exclusively by the supervisor or a library's opener, `writer` exclusively by the
committer from before it reads the log's tail until it dies, `use` shared by every process that has the store open and
exclusively by offline tools. The kernel frees a lock when its last descriptor is closed, so a killed holder holds
nothing.

Locks of open file descriptions (fcntl(2), F_OFD_SETLK) rather than of processes: closing another descriptor of the file
does not drop them, and a forked child does not lose them. Behind the lock bytes, the holders of the first two ranges
note who they are: a note is for people; only the locks decide.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Final, Self

from rs3d.errors import StoreBusy, StoreDamaged
from rs3d.stores.layout import STORE_LOCK

_FLOCK = struct.Struct("hhqqi4x")
NOTE_BYTES: Final = 512
NOTES_OFFSET: Final = 4096


class LockRange(Enum):
    """The byte of the file that is locked."""

    DAEMON = 0
    WRITER = 1
    USE = 2


class LockMode(Enum):
    SHARED = fcntl.F_RDLCK
    EXCLUSIVE = fcntl.F_WRLCK


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a range, as far as it can be told."""

    role: str
    pid: int
    command: str

    def text(self) -> str:
        return f"{self.role} (process {self.pid}: {self.command})" if self.pid else self.role


class StoreLock:
    """One range held, from `acquire` until `release` or the end of the process. A context manager."""

    __slots__ = ("_descriptor", "mode", "range")

    def __init__(self, descriptor: int, lock_range: LockRange, mode: LockMode) -> None:
        self._descriptor = descriptor
        self.range = lock_range
        self.mode = mode

    @classmethod
    def acquire(cls, root: str, lock_range: LockRange, mode: LockMode, role: str) -> Self:
        """Lock a range of the store at `root`, at once or not at all. Never waits.

        Args:
            role: what this process is ("supervisor", "committer", "worker", "check" …), for the error of others.

        Raises:
            StoreBusy: somebody else holds it; names role, pid and command line.
            StoreDamaged: there is no store directory, or the lock file cannot be made.
        """
        path = os.path.join(root, STORE_LOCK)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            reason = "there is no such directory" if missing else f"{STORE_LOCK}: {error.strerror}"
            raise StoreDamaged(root=root, reason=reason, command=f"ls -ld {root}") from error
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _request(lock_range, mode.value))
        except OSError as error:
            holder = _holder(descriptor, lock_range)
            os.close(descriptor)
            if not isinstance(error, BlockingIOError | PermissionError):
                raise
            raise StoreBusy(root=root, holder=holder.text()) from None
        lock = cls(descriptor, lock_range, mode)
        if mode is LockMode.EXCLUSIVE:
            _write_note(descriptor, lock_range, role)
        return lock

    def release(self) -> None:
        """Give the range back; may be repeated."""
        if self._descriptor >= 0:
            if self.mode is LockMode.EXCLUSIVE:
                os.pwrite(self._descriptor, bytes(NOTE_BYTES), _note_offset(self.range))
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder_of(root: str, lock_range: LockRange) -> Holder | None:
    """Who keeps others from locking a range exclusively, or None when it is free (or there is no lock file)."""
    try:
        descriptor = os.open(os.path.join(root, STORE_LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _request(lock_range, fcntl.F_WRLCK))
        if _FLOCK.unpack(answer)[0] == fcntl.F_UNLCK:
            return None
        return _holder(descriptor, lock_range)
    finally:
        os.close(descriptor)


def _request(lock_range: LockRange, kind: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, lock_range.value, 1, 0)


def _note_offset(lock_range: LockRange) -> int:
    return NOTES_OFFSET + lock_range.value * NOTE_BYTES


def _write_note(descriptor: int, lock_range: LockRange, role: str) -> None:
    command = _command_line(os.getpid())
    for length in (256, 64, 0):  # a JSON escape may make a command six times longer
        note = json.dumps({"role": role, "pid": os.getpid(), "command": command[:length]}).encode()
        if len(note) <= NOTE_BYTES:
            os.pwrite(descriptor, note.ljust(NOTE_BYTES, b"\0"), _note_offset(lock_range))
            return


def _holder(descriptor: int, lock_range: LockRange) -> Holder:
    """The note of the range, if its process is alive; else whoever has the lock file open; else nobody by name."""
    for noted in dict.fromkeys((lock_range, LockRange.USE, LockRange.DAEMON, LockRange.WRITER)):
        raw = os.pread(descriptor, NOTE_BYTES, _note_offset(noted)).rstrip(b"\0")
        try:
            note = json.loads(raw)
            holder = Holder(str(note["role"]), int(note["pid"]), str(note["command"]))
        except (ValueError, KeyError, TypeError):
            continue
        if os.path.exists(f"/proc/{holder.pid}"):
            return holder
    mine = os.fstat(descriptor)
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _has_open(int(name), mine):
            return Holder("a process that has it open", int(name), _command_line(int(name)))
    return Holder("a process that this one may not see", 0, "")


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            status = os.stat(f"/proc/{pid}/fd/{name}")
            if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    except OSError:
        return False  # it ended meanwhile, or is another user's
    return False


def _command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return " ".join(file.read(4096).replace(b"\0", b" ").decode(errors="replace").split())
    except OSError:
        return "?"
