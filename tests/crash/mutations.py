"""Bugs of the kinds that lose data, each as a small patch: the harness has to find every one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from rs3d.errors import Rs3dError
from rs3d.format.checkpoint import CheckpointState
from rs3d.stores import catalogsettling, logreader, recovery
from rs3d.stores import compaction as compaction_module
from rs3d.stores import garbage as garbage_module
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.blobwriter import LocalBlobWriter
from rs3d.stores.catalogcheckpoint import CheckpointFile, Checkpoints
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.stores.committer import CommitterCore
from rs3d.stores.files import write_whole
from rs3d.stores.layout import BlobFile, file_name
from rs3d.stores.log import LogWriter
from rs3d.stores.replay import applicable, apply_all
from rs3d.types.identifiers import BlobId
from rs3d.types.objects import Extent
from tests.crash.disk import Acknowledged, Issued
from tests.crash.histories import History, Life
from tests.crash.recording import RecordingFiles, replaced


def _without_sync(suffix: str, directory: str = "") -> AbstractContextManager[None]:
    """No sync reaches files whose path ends in `suffix` (and is below `directory`)."""

    def skipping(method: str) -> tuple[Any, str, Any]:
        real = getattr(RecordingFiles, method)

        def sync(self: RecordingFiles, descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            below = os.path.relpath(path, os.path.realpath(self.root))
            if not (below.endswith(suffix) and below.startswith(directory)):
                real(self, descriptor)

        return RecordingFiles, method, sync

    return replaced(skipping("sync_data"), skipping("sync"))


def _late_log_sync() -> AbstractContextManager[None]:
    """A batch's log is synced when the next batch comes: the reply is out before."""
    late: dict[int, tuple[Any, int]] = {}

    def flush(self: LogWriter) -> None:
        if not self._buffer:
            return
        files, descriptor = late.pop(id(self), (None, -1))
        if files is not None:
            with contextlib.suppress(OSError, KeyError):
                files.sync_data(descriptor)
        data = self._header + self._buffer
        write_whole(self._files, self._descriptor, data, 0 if self._header else self.offset)
        late[id(self)] = (self._files, self._descriptor)
        self._header = b""
        self.offset += len(self._buffer)
        self._flushed_crc = self.crc
        self._buffer = bytearray()

    return replaced((LogWriter, "flush", flush))


def _catalog_before_log() -> AbstractContextManager[None]:
    """A checkpoint is made of a commit whose records are not durable yet."""

    def make_durable(self: CommitterCore, transaction: CatalogTransaction) -> Rs3dError | None:
        transaction.commit()
        self.tables.sync()
        self.log.flush()
        self.batches += 1
        return None

    return replaced((CommitterCore, "_make_durable", make_durable))


def _unlink_before_commit() -> AbstractContextManager[None]:
    real = Life.delete

    async def delete(self: Life, bucket: str, key: str, kind: str = "delete", **fields: Any) -> None:
        with self.store.catalog.snapshot() as view:
            found = view.bucket(bucket)
            version = None if found is None else view.latest(found.bucket_id, key)
        if version is not None and isinstance(version.placement, Extent):
            self.blobs.delete([version.placement.blob])
        await real(self, bucket, key, kind, **fields)

    return replaced((Life, "delete", delete))


def _tail_not_copied() -> AbstractContextManager[None]:
    """Recovery applies what it finds behind the catalog's tail where it lies, which may be the page cache only."""

    def copy_survivors(
        tables: Any, log: LogWriter, files: Any, last: Any, number: int, store_id: bytes, now_ns: int
    ) -> None:
        apply_all(tables, [applicable(last.number, record) for record in last.survivors])
        end = last.survivors[-1]
        log.start(number, last.number, end.offset + end.head.total_bytes, now_ns)

    return replaced((recovery, "_copy_survivors", copy_survivors))


def _torn_records_believed() -> AbstractContextManager[None]:
    """A record is believed when its head looks like one, and its payload's CRC is not asked."""

    def always(*_: Any) -> bool:
        return True

    return replaced((logreader, "is_valid", always))


def _sidecar_after_commit() -> AbstractContextManager[None]:
    """The data is synced and the operation sent; the sidecar follows when the client has its answer."""
    later: list[Callable[[], None]] = []

    def make_durable(self: LocalBlobWriter, sidecar: bytes) -> None:
        files, blob = self._files, self.blob
        files.sync_data(self._data)
        files.sync(self._directory)
        directory = os.dup(self._directory)

        def finish() -> None:
            meta = files.create(file_name(blob, BlobFile.META), directory=directory)
            write_whole(files, meta, sidecar, 0)
            files.sync_data(meta)
            files.sync(directory)
            files.close(meta)
            files.close(directory)

        later.append(finish)

    async def step(self: Life, kind: str, run: Any) -> Any:
        self.files.note(Issued(kind))
        result = await run()
        self.files.note(Acknowledged())
        while later:
            later.pop()()
        self.states.append(self.look())
        self.steps += 1
        return result

    return replaced((LocalBlobWriter, "_make_durable", make_durable), (Life, "step", step))


def _row_before_unlink() -> AbstractContextManager[None]:
    """The collector forgets a blob's row, and unlinks its files when that is durable."""
    from rs3d.engine import library

    real = garbage_module.collect_once

    class Blobs:
        def __init__(self, blobs: Any) -> None:
            self.waiting: list[BlobId] = []
            self.blobs = blobs

        def delete(self, blobs: list[BlobId]) -> None:
            self.waiting += blobs

    def collect(catalog: Any, minimum: Any, blobs: Any, commit: Any, free: Any = None, chunks: Any = None) -> Any:
        late = Blobs(blobs)

        def committed(dead: tuple[BlobId, ...]) -> None:
            commit(dead)
            catalog.tables.sync()
            blobs.delete(late.waiting)
            late.waiting = []

        return real(catalog, minimum, late, committed, free, chunks)  # type: ignore[arg-type]

    return replaced((library, "collect_once", collect))


def _sources_unlinked_early() -> AbstractContextManager[None]:
    """Compaction removes its sources when the new file has its name, before the positions have moved."""
    real = compaction_module._log_replacement

    def log_replacement(core: CommitterCore, writer: Any, result: Any, records: int) -> Any:
        sequence = real(core, writer, result, records)
        core.log.unlink_segments(result.sources)
        return sequence

    return replaced((compaction_module, "_log_replacement", log_replacement))


def _orphans_left() -> AbstractContextManager[None]:
    """The sweep reports a segment without having removed anything."""

    def delete(self: LocalBlobStore, blobs: list[BlobId]) -> None:
        """Nothing."""

    return replaced((LocalBlobStore, "delete", delete))


class _NoView:
    """What stands where a view is held."""

    def abort(self) -> None:
        """Nothing to let go."""


def _no_view_of_the_checkpoint() -> AbstractContextManager[None]:
    """Nobody keeps liblmdb from using the pages of the checkpoint anew."""
    real = Checkpoints._pin

    def pin(self: Checkpoints) -> None:
        real(self)
        assert self._following is not None
        self._following.abort()
        self._following = _NoView()  # type: ignore[assignment]

    return replaced((Checkpoints, "_pin", pin))


def _pages_not_synced() -> AbstractContextManager[None]:
    """A commit is called the checkpoint, and its pages may still be on their way."""

    def make_durable(self: Checkpoints) -> None:
        self._file.write(CheckpointState.OPEN, self._meta)
        self._ended = True

    return replaced((Checkpoints, "_make_durable", make_durable))


def _not_taken_back() -> AbstractContextManager[None]:
    """After a cut the catalog is believed as it is."""

    def go_back(catalog_path: str, meta: bytes) -> None:
        """Nothing."""

    return replaced((catalogsettling, "_go_back", go_back))


def _half_a_catalog_believed() -> AbstractContextManager[None]:
    """What was being made from the log at the cut is taken for a catalog."""

    def begin_anew(file: CheckpointFile) -> None:
        """Nothing."""

    return replaced((catalogsettling, "_begin_anew", begin_anew))


@dataclass(frozen=True, slots=True)
class Mutation:
    """A bug, and a history in which it shows."""

    name: str
    history: History
    apply: Callable[[], AbstractContextManager[None]]
    nested: float = 0.0
    limit: int = 8


async def one_blob(life: Life) -> None:
    await life.bucket("bkt")
    await life.put("bkt", "large", 3000)
    await life.put("bkt", "larger", 3500)


async def two_small(life: Life) -> None:
    await life.bucket("bkt")
    await life.put("bkt", "small", 700)
    await life.put("bkt", "small", 701)


async def several_small(life: Life) -> None:
    """More than a checkpoint apart, in one segment of the log."""
    await life.bucket("bkt")
    for number in range(8):
        await life.put("bkt", "small", 700 + number)


async def put_and_delete(life: Life) -> None:
    await life.bucket("bkt")
    await life.put("bkt", "large", 3000)
    await life.delete("bkt", "large")


async def collected(life: Life) -> None:
    await life.bucket("bkt")
    await life.put("bkt", "large", 3000)
    await life.reopen()
    await life.sweep()
    await life.delete("bkt", "large")
    await life.collect()


async def compacted(life: Life) -> None:
    await life.bucket("bkt")
    for number in range(22):
        await life.put("bkt", f"k{number % 4}", 990)
    await life.compact()
    await life.drop_segments()


async def rotating(life: Life) -> None:
    await life.bucket("bkt")
    for number in range(17):
        await life.put("bkt", f"k{number % 4}", 990)


MUTATIONS: Final = (
    Mutation("data not synced", one_blob, lambda: _without_sync(".data")),
    Mutation("sidecar not synced", one_blob, lambda: _without_sync(".meta", "blobs/")),
    Mutation("directory of a blob segment not synced", one_blob, lambda: _without_sync("", "blobs/1")),
    Mutation("blobs/ not synced", one_blob, lambda: _without_sync("blobs")),
    Mutation("log not synced", two_small, lambda: _without_sync(".meta", "log/")),
    Mutation("log/ not synced", rotating, lambda: _without_sync("log")),
    Mutation("reply before the log's sync", two_small, _late_log_sync),
    Mutation("catalog before log", two_small, _catalog_before_log),
    Mutation("unlink before the commit", put_and_delete, _unlink_before_commit),
    Mutation("tail of the log not copied", several_small, _tail_not_copied, nested=0.3),
    Mutation("torn records believed", two_small, _torn_records_believed, limit=64),
    Mutation("sidecar after the commit", one_blob, _sidecar_after_commit),
    Mutation("garbage row dropped before the unlink", collected, _row_before_unlink),
    Mutation("sources of a compaction unlinked early", compacted, _sources_unlinked_early),
    Mutation("orphans never removed", one_blob, _orphans_left),
    Mutation("no view of the checkpoint", rotating, _no_view_of_the_checkpoint),
    Mutation("pages of the checkpoint not synced", rotating, _pages_not_synced),
    Mutation("checkpoint not synced", rotating, lambda: _without_sync("checkpoint.meta", "catalog/")),
    Mutation("catalog not taken back", rotating, _not_taken_back),
    Mutation("half a catalog believed", rotating, _half_a_catalog_believed, nested=0.3),
)
