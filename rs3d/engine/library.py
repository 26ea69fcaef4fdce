"""`StorageEngine.open`: a whole store in this process. Locks, master key, committer thread, garbage collection, engine.

The same parts and the same code as in a daemon; only the processes are missing. Ranks: composes `stores` and `crypto`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio
import trio.from_thread
import trio.to_thread

from rs3d.clock import Clock, SystemClock
from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.providers.registry import local_directory
from rs3d.crypto.rotatingsealer import RotatingSealer
from rs3d.engine.configuration import EngineConfig, EngineDeps, Verify
from rs3d.engine.engine import StorageEngine
from rs3d.errors import MasterKeyWrong, Rs3dError
from rs3d.format.storemeta import StoreMeta
from rs3d.stores.ballast import SpaceConfig, WriteAdmission
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore, VerifyMode
from rs3d.stores.committerlocal import LocalStore, open_local
from rs3d.stores.committeropen import CommitterSettings
from rs3d.stores.files import SYSTEM_FILES, Files
from rs3d.stores.garbage import Collected, collect_once
from rs3d.stores.horizon import Horizon
from rs3d.stores.layoutmeta import create_store, open_store, store_exists
from rs3d.stores.lock import LockMode, LockRange, StoreLock
from rs3d.stores.log import DEFAULT_SEGMENT_BYTES
from rs3d.stores.sweep import Swept, sweep_once
from rs3d.types.identifiers import BlobId, SegmentId, UploadId
from rs3d.types.operations import DropGarbage, FreeChunks, FreeSetMembers, Operation, Outcome, SegmentSwept

log = logging.getLogger(__name__)

MASTER_KEY_FILE: Final = "master.key"
"""Below the root, as `rs3d mini` has it."""

DEFAULT_MAP_BYTES: Final = 64 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How a store is made and kept when a library opens it. Only `master_file` must be the same at each opening."""

    master_file: str = ""
    """The master key; empty = `master.key` below the root. It is made with a new store, and never for an existing
    one."""
    map_bytes: int = DEFAULT_MAP_BYTES
    """Address space of a new store's catalog."""
    log_segment_bytes: int = DEFAULT_SEGMENT_BYTES
    minimum_free_bytes: int = 64 * 1024 * 1024
    """Free space below which nothing is added (StoreFull)."""
    garbage_interval_s: float = 5.0


DEFAULT_OPTIONS: Final = StoreOptions()


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """An engine and what it stands on, for tools and tests that look below it."""

    engine: StorageEngine
    store: LocalStore
    blobs: LocalBlobStore
    horizon: Horizon
    collector: Collector


@asynccontextmanager
async def open_engine(
    root: str, config: EngineConfig, options: StoreOptions = DEFAULT_OPTIONS
) -> AsyncIterator[StorageEngine]:
    """See `StorageEngine.open`. An error of the caller's block leaves it as it is, not in the groups of the nurseries
    here."""
    try:
        async with open_store_parts(root, config, options) as opened, trio.open_nursery() as nursery:
            nursery.start_soon(opened.collector.run, options.garbage_interval_s)
            nursery.start_soon(opened.engine.let_files_go)
            try:
                yield opened.engine
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = _only_error(group)
        if error is group:
            raise
        raise error from error.__cause__


def _only_error(error: BaseException) -> BaseException:
    """What is in a group of one, in as many groups as it may be; else the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def open_store_parts(
    root: str,
    config: EngineConfig,
    options: StoreOptions = DEFAULT_OPTIONS,
    *,
    clock: Clock | None = None,
    files: Files = SYSTEM_FILES,
) -> AsyncIterator[OpenedStore]:
    """The same without garbage collection in the background: the caller calls the collector."""
    machine = clock or SystemClock()
    with ExitStack() as held:
        key, meta = await trio.to_thread.run_sync(_claim, held, root, options, machine)
        verify = VerifyMode.ALWAYS if config.verify is Verify.ALWAYS else VerifyMode.MEMO
        blobs = LocalBlobStore(root, BlobStoreConfig(verify=verify), clock=machine, files=files)
        held.callback(blobs.close)
        horizon = Horizon()
        held.callback(horizon.close)
        settings = CommitterSettings(
            store_id=meta.store_id, map_bytes=meta.map_bytes, segment_bytes=options.log_segment_bytes
        )
        space = WriteAdmission(root, SpaceConfig(minimum_free_bytes=options.minimum_free_bytes), clock=machine)
        sealer = RotatingSealer(key, meta.store_id, partial(open_store, root))
        directory = local_directory(root, config.region, sealer)
        held.callback(directory.close)
        async with open_local(root, settings, clock=machine, files=files) as store:
            engine = StorageEngine(
                EngineDeps(
                    catalog=store.catalog,
                    committer=store.committer,
                    blobs=blobs,
                    horizon=horizon,
                    sealer=sealer,
                    key_directory=directory,
                    clock=machine,
                    config=config,
                    space=space,
                )
            )
            try:
                yield OpenedStore(engine, store, blobs, horizon, Collector(store, blobs, horizon))
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(engine.close)


def _claim(held: ExitStack, root: str, options: StoreOptions, clock: Clock) -> tuple[MasterKey, StoreMeta]:
    """Take the locks, then read or make store.meta and master key. Blocks."""
    os.makedirs(root, mode=0o700, exist_ok=True)
    for lock_range in (LockRange.DAEMON, LockRange.WRITER):
        held.enter_context(StoreLock.acquire(root, lock_range, LockMode.EXCLUSIVE, "library"))
    held.enter_context(StoreLock.acquire(root, LockRange.USE, LockMode.SHARED, "library"))
    path = options.master_file or os.path.join(root, MASTER_KEY_FILE)
    if store_exists(root):
        if not os.path.lexists(path):
            raise MasterKeyWrong(source=path, reason="is missing; it was made together with the store")
        key = MasterKey.from_file(path)
        held.callback(key.wipe)
        return key, open_store(root, key)
    if not os.path.lexists(path):
        MasterKey.generate().write(path)
    key = MasterKey.from_file(path)
    held.callback(key.wipe)
    return key, create_store(root, key, clock=clock, map_bytes=options.map_bytes)


class Collector:
    """Unlinks what nothing refers to: the steward's work, in this process."""

    def __init__(self, store: LocalStore, blobs: LocalBlobStore, horizon: Horizon) -> None:
        self._store = store
        self._blobs = blobs
        self._horizon = horizon
        self._lock = trio.Lock()
        self._told = ""

    async def run(self, interval_s: float) -> None:
        """Sweep what ended processes left, then collect for ever. What the store refuses (it may be full, or
        read-only) is logged and left for later: who only reads is not to be disturbed."""
        await self._try(self.sweep)
        while True:
            await self._try(self.collect)
            await trio.sleep(interval_s)

    async def _try(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except (Rs3dError, OSError) as error:
            if str(error) != self._told:
                log.warning("garbage is not collected now: %s", error)
            self._told = str(error)

    async def collect(self) -> Collected:
        """One pass over all garbage."""
        async with self._lock:
            return await trio.to_thread.run_sync(
                collect_once,
                self._store.catalog,
                self._horizon.minimum,
                self._blobs,
                self._drop,
                self._free_members,
                self._free_chunks,
            )

    async def sweep(self) -> Swept:
        """Sweep every segment of ended epochs that was not swept yet."""
        async with self._lock:
            return await trio.to_thread.run_sync(
                sweep_once, self._store.catalog, self._blobs, self._report_swept, self._free_chunks
            )

    def _drop(self, blobs: tuple[BlobId, ...]) -> None:
        committer = self._store.committer
        self._commit(lambda: DropGarbage(id=committer.next_id(), blobs=blobs))

    def _free_members(self, upload: UploadId) -> int:
        committer = self._store.committer
        return self._commit(lambda: FreeSetMembers(id=committer.next_id(), upload=upload)).remaining

    def _free_chunks(self, manifest: BlobId, batch: int, hashes: tuple[bytes, ...]) -> None:
        committer = self._store.committer
        self._commit(lambda: FreeChunks(id=committer.next_id(), manifest=manifest, batch=batch, hashes=hashes))

    def _report_swept(self, segment: SegmentId) -> None:
        committer = self._store.committer
        self._commit(lambda: SegmentSwept(id=committer.next_id(), segment=segment))

    def _commit(self, make: Callable[[], Operation]) -> Outcome:
        """Commit from the collector's thread; ids are taken on the loop, where everybody else takes theirs."""

        async def commit() -> Outcome:
            return await self._store.committer.commit(make())

        return trio.from_thread.run(commit)
