"""Which commit of the catalog survives a power cut, and how the others are let go. FORMAT.md section "Checkpoint".

A commit of the catalog is not synced: the log is, and has everything. Now and then one commit is made durable, the
*checkpoint*, beside those that follow. Until the next one is, a view of it is held open, so liblmdb, which never
writes to pages that a view may need, leaves all of its pages as they are; and as the two pages that name commits are
written anew by each commit, what they said is kept in a file of its own. After a power cut the catalog goes back to its
checkpoint, and the log rolls it forward.

One process has these objects, the one that writes; calls are made by one thread, the committer's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from typing import Final

import lmdb

from rs3d.errors import RecordDamaged, StoreDamaged
from rs3d.format.checkpoint import (
    FILE_BYTES,
    NO_META,
    SLOT_BYTES,
    SLOTS,
    Checkpoint,
    CheckpointState,
    decode_checkpoint,
    encode_slot,
)
from rs3d.format.lmdbpages import META_BYTES, decode_meta
from rs3d.stores.catalogpages import FILE
from rs3d.stores.files import Files, read_whole, write_whole

log = logging.getLogger(__name__)

CHECKPOINT: Final = "checkpoint.meta"
FAILED: Final = "checkpoint.failed"
"""Its presence: a sync of the catalog failed, so what the page cache has of it is not believed."""
_NEW: Final = CHECKPOINT + ".new"
INTERVAL_S: Final = 1.0
"""From one checkpoint to the next while there are commits: what a power cut leaves to the log, and how long freed
pages wait to be used again."""
TIGHT_BYTES: Final = 16 << 20
"""Of the map that was never used; a quarter of it where it is small."""
LARGE_COMMIT_BYTES: Final = 256 << 20
"""More than any commit takes of the map: a batch of 256 operations some 20 MiB, a compacted run of the log 64."""
MOST_ROOMY_COMMITS: Final = 64
_REBUILD: Final = "rs3d check --rebuild"


class CheckpointFile:
    """`checkpoint.meta`, open for writing. Methods block."""

    def __init__(self, files: Files, directory: int, descriptor: int, newest: Checkpoint) -> None:
        self._files = files
        self._directory = directory
        self._descriptor = descriptor
        self.newest = newest

    @classmethod
    def open(cls, catalog_path: str, files: Files) -> CheckpointFile | None:
        """The file of a catalog; None when it has none.

        Raises:
            StoreDamaged: it holds no checkpoint.
        """
        directory = files.open_directory(catalog_path)
        try:
            descriptor = files.open_for_writing(CHECKPOINT, directory=directory)
        except FileNotFoundError:
            files.close(directory)
            return None
        except BaseException:
            files.close(directory)
            raise
        raw = memoryview(bytearray(FILE_BYTES))
        try:
            length = read_whole(files, descriptor, raw, 0)
            newest = decode_checkpoint(raw[:length], what=f"catalog/{CHECKPOINT}")
        except RecordDamaged as damage:
            files.close(descriptor)
            files.close(directory)
            raise catalog_damage(catalog_path, str(damage)) from damage
        except BaseException:
            files.close(descriptor)
            files.close(directory)
            raise
        return cls(files, directory, descriptor, newest)

    @classmethod
    def create(cls, catalog_path: str, files: Files, state: CheckpointState, meta: bytes) -> CheckpointFile:
        """Make the file with one checkpoint in it, durable with its name when this returns."""
        first = Checkpoint(1, state, meta)
        directory = files.open_directory(catalog_path)
        descriptor = -1
        try:
            with contextlib.suppress(FileNotFoundError):
                files.unlink(_NEW, directory=directory)
            descriptor = files.create(_NEW, directory=directory)
            write_whole(files, descriptor, encode_slot(first) * SLOTS, 0)
            files.sync_data(descriptor)
            files.rename(_NEW, CHECKPOINT, source_directory=directory, target_directory=directory)
            files.sync(directory)
        except BaseException:
            if descriptor >= 0:
                files.close(descriptor)
            files.close(directory)
            raise
        return cls(files, directory, descriptor, first)

    def write(self, state: CheckpointState, meta: bytes) -> None:
        """Put a checkpoint in both slots, one after the other; durable when this returns. Until then the one before has
        to hold: a cut may leave either."""
        following = Checkpoint(self.newest.number + 1, state, meta)
        raw = encode_slot(following)
        for slot in range(SLOTS):
            write_whole(self._files, self._descriptor, raw, slot * SLOT_BYTES)
            self._files.sync_data(self._descriptor)
        self.newest = following

    def mark_failed(self) -> None:
        """Tell whoever takes over in this life of the machine that the page cache is not to be believed."""
        try:
            self._files.close(self._files.create(FAILED, directory=self._directory))
        except FileExistsError:
            return
        except OSError as error:
            log.error("a failed sync of the catalog could not be noted: %s", error)

    def unlink_beside(self, name: str) -> None:
        """Remove a file of the catalog's directory, if it is there; the directory is synced."""
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(name, directory=self._directory)
            self._files.sync(self._directory)

    def has_beside(self, name: str) -> bool:
        """Whether the catalog's directory has a file of that name."""
        try:
            self._files.status_of(name, directory=self._directory)
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        self._files.close(self._descriptor)
        self._files.close(self._directory)


def catalog_damage(catalog_path: str, reason: str) -> StoreDamaged:
    """The error that says what of a catalog's files is damaged, and what mends it."""
    return StoreDamaged(root=os.path.dirname(catalog_path), reason=reason, command=_REBUILD)


class Checkpoints:
    """Checkpoints of an environment that is open for writing. Not thread-safe: between commits, by the committer."""

    def __init__(self, environment: lmdb.Environment, catalog_path: str, file: CheckpointFile) -> None:
        self._environment = environment
        self._file = file
        self._data = os.open(os.path.join(catalog_path, FILE), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._durable: lmdb.Transaction[bytes] | None = None
        """The view of the durable checkpoint; None while it is EMPTY."""
        self._following: lmdb.Transaction[bytes] | None = None
        """That of the one being made durable."""
        self._thread: threading.Thread | None = None
        self._ended = False
        self._meta = NO_META
        self._page_bytes = int(environment.stat()["psize"])
        self._failure: Exception | None = None
        self._commits = 0
        self._begun_s = time.monotonic()
        self._roomy_commits = 0
        """How many more need no look at the map."""
        self.made = 0
        """Checkpoints made durable."""

    @classmethod
    def begin(
        cls, environment: lmdb.Environment, catalog_path: str, files: Files, file: CheckpointFile | None
    ) -> Checkpoints:
        """From now on commits need not be synced: the present state is made durable, unless it is empty.

        Args:
            file: of `settle`; owned from now on.
        """
        if file is None:
            sync_pages(environment)
            descriptor = os.open(os.path.join(catalog_path, FILE), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                with environment.begin() as view:
                    meta = _meta_of(descriptor, view.id())
            finally:
                os.close(descriptor)
            file = CheckpointFile.create(catalog_path, files, CheckpointState.OPEN, meta)
        made = cls(environment, catalog_path, file)
        if file.newest.state is not CheckpointState.EMPTY:
            made.now()
        return made

    @property
    def wait_s(self) -> float | None:
        """In how many seconds to `look` again when nothing is committed meanwhile; None when there is nothing to do."""
        if self._thread is not None:
            return INTERVAL_S / 10
        return max(0.0, self._begun_s + INTERVAL_S - time.monotonic()) if self._commits else None

    @property
    def is_tight(self) -> bool:
        """Whether so little of the map was never used that pages which are kept for a checkpoint may be missed: then
        one is to be made before each commit. A map that is found to be full while liblmdb commits ends all writing."""
        if self._roomy_commits > 0:
            return False
        info = self._environment.info()
        map_bytes = int(info["map_size"])
        unused_bytes = map_bytes - (int(info["last_pgno"]) + 1) * self._page_bytes
        self._roomy_commits = min(unused_bytes // LARGE_COMMIT_BYTES, MOST_ROOMY_COMMITS)
        return unused_bytes < min(TIGHT_BYTES, map_bytes // 4)

    def committed(self) -> Exception | None:
        """To be called after each commit; does what `look` does."""
        self._commits += 1
        self._roomy_commits -= 1
        return self.look()

    def look(self) -> Exception | None:
        """End a checkpoint that has become durable, begin one that is due. Does not wait for the disk.

        Returns:
            Why the last one failed: nothing may be committed any more. The one before it holds.
        """
        if self._thread is not None:
            if self._ended:
                self._end()
        elif self._commits and self._failure is None and time.monotonic() - self._begun_s >= INTERVAL_S:
            self._begin()
        return self._failure

    def now(self) -> None:
        """Make the last commit durable, and wait for that.

        Raises:
            OSError, lmdb.Error: it failed, now or before.
        """
        if self._thread is not None:
            self._end()
        if self._failure is None:
            self._pin()
            self._make_durable()
            self._take_over()
        if self._failure is not None:
            raise self._failure

    def close(self, *, is_last: bool) -> None:
        """Let go of everything.

        Args:
            is_last: nothing is committed any more, so that the next opening finds all of it as it is.

        What cannot be made durable is told, and left to the log: the next opening goes back to the checkpoint.
        """
        try:
            if is_last:
                self.now()
                self._file.write(CheckpointState.CLOSED, self._file.newest.meta)
        except (OSError, lmdb.Error) as error:
            log.error("the catalog's last commits could not be synced: %s", error)
        finally:
            if self._thread is not None:
                self._end()
            for view in (self._durable, self._following):
                if view is not None:
                    view.abort()
            self._durable = self._following = None
            os.close(self._data)
            self._file.close()

    def _begin(self) -> None:
        self._pin()
        self._ended = False
        self._thread = threading.Thread(target=self._make_durable, name="rs3d-checkpoint", daemon=True)
        self._thread.start()

    def _end(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._take_over()

    def _pin(self) -> None:
        """Hold a view of the last commit."""
        self._begun_s = time.monotonic()
        self._commits = 0
        self._following = self._environment.begin()
        self._meta = _meta_of(self._data, self._following.id())

    def _make_durable(self) -> None:
        """In the thread, or instead of it. Blocks on the disk."""
        try:
            sync_pages(self._environment)
            self._file.write(CheckpointState.OPEN, self._meta)
        except (OSError, lmdb.Error) as error:
            self._file.mark_failed()
            self._failure = error
        self._ended = True

    def _take_over(self) -> None:
        """The pages of the checkpoint before are liblmdb's again; or, after a failure, those of this one."""
        following, self._following = self._following, None
        if self._failure is None:
            following, self._durable = self._durable, following
            self.made += 1
        if following is not None:
            following.abort()


def sync_pages(environment: lmdb.Environment) -> None:
    """Wait until all that was committed by now is on the disk. Raises lmdb.Error."""
    environment.sync(True)


def _meta_of(descriptor: int, commit: int) -> bytes:
    """What the page that names a commit says; that commit is the last one, and nothing is being committed."""
    first = decode_meta(memoryview(os.pread(descriptor, META_BYTES, 0)), 0)
    raw = os.pread(descriptor, META_BYTES, (commit & 1) * first.page_bytes)
    found = decode_meta(memoryview(raw), 0).commit
    if found != commit:
        raise lmdb.CorruptedError(f"the catalog's page that should name commit {commit} names {found}")
    return raw
