"""A store with an engine in a thread of its own, for tests that are not asynchronous: opened, asked, closed, opened
again."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import trio
import trio.from_thread

from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.library import OpenedStore, StoreOptions, open_store_parts
from rs3d.stores.checkcatalog import check_catalog
from rs3d.stores.checkreport import CheckReport, Severity, no_progress
from rs3d.stores.files import SYSTEM_FILES, Files
from rs3d.types.identifiers import BlobId
from tests.fakes.cancelling import CancelAtStep

T = TypeVar("T")

MIB = 1024 * 1024
LIMITS = EngineConfig(inline_limit_bytes=1000, piece_bytes=65536, minimum_part_bytes=100, threads=3)
STORE = StoreOptions(log_segment_bytes=2 * MIB, map_bytes=64 * MIB, minimum_free_bytes=MIB)


class Driver:
    """Runs the engine of one store; every call blocks until its answer."""

    def __init__(self, root: Path, options: StoreOptions = STORE, files: Files = SYSTEM_FILES) -> None:
        self.root = root
        self._options = options
        self._files = files
        self._opened: OpenedStore | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._ready = threading.Event()
        self._stop: trio.Event | None = None
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        self._ready.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="store under test")
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise self._failure

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        async with open_store_parts(str(self.root), LIMITS, self._options, files=self._files) as opened:
            self._opened, self._token, self._stop = opened, trio.lowlevel.current_trio_token(), trio.Event()
            self._ready.set()
            await self._stop.wait()

    def close(self) -> None:
        if self._thread is not None and self._stop is not None and self._token is not None:
            self._token.run_sync_soon(self._stop.set)
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            raise self._failure

    def lose_catalog(self) -> None:
        """While closed: the catalog is gone, only log and blobs remain."""
        shutil.rmtree(self.root / "catalog")

    def ask_until(self, call: Callable[[StorageEngine], Awaitable[T]], step: int) -> tuple[T] | None:
        """A coroutine that is cancelled when it is about to take its n-th step; None when that came before its end."""

        async def cancelled(engine: StorageEngine) -> tuple[T] | None:
            with trio.CancelScope() as scope:
                instrument = CancelAtStep(trio.lowlevel.current_task(), scope, step)
                trio.lowlevel.add_instrument(instrument)
                try:
                    return (await call(engine),)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            return None

        return self.ask(cancelled)

    def ask(self, call: Callable[[StorageEngine], Awaitable[T]]) -> T:
        """A coroutine of the engine, run on its loop."""
        if self._opened is None or self._token is None:
            raise RuntimeError("the store is closed")
        return trio.from_thread.run(call, self._opened.engine, trio_token=self._token)

    def look(self, call: Callable[[StorageEngine], T]) -> T:
        """A plain call of the engine, run on its loop."""
        if self._opened is None or self._token is None:
            raise RuntimeError("the store is closed")
        return trio.from_thread.run_sync(call, self._opened.engine, trio_token=self._token)

    def collect_garbage(self) -> None:
        async def collect(_: StorageEngine) -> None:
            if self._opened is not None:
                await self._opened.collector.collect()

        self.ask(collect)

    @property
    def is_open(self) -> bool:
        """Whether there is a store to ask."""
        return self._thread is not None

    @property
    def opened(self) -> OpenedStore:
        """The store, for calls that run on its loop."""
        if self._opened is None:
            raise RuntimeError("the store is closed")
        return self._opened

    def sweep(self) -> None:
        """What epochs that have ended left behind goes."""

        async def sweep(_: StorageEngine) -> None:
            if self._opened is not None:
                await self._opened.collector.sweep()

        self.ask(sweep)

    def problems(self) -> list[str]:
        """What a count of everything in the catalog finds wrong."""

        def check(_: StorageEngine) -> list[str]:
            if self._opened is None:
                raise RuntimeError("the store is closed")
            report, catalog = CheckReport(str(self.root)), self._opened.store.catalog
            check_catalog(catalog, catalog.log, report, no_progress)
            return [f"{found.what}: {found.reason}" for found in report.findings if found.severity is Severity.ERROR]

        return self.look(check)

    def files_and_rows(self) -> tuple[set[BlobId], set[BlobId]]:
        """Blobs on the disk, and blobs that rows name."""

        def both(_: StorageEngine) -> tuple[set[BlobId], set[BlobId]]:
            if self._opened is None:
                raise RuntimeError("the store is closed")
            with self._opened.store.catalog.snapshot() as view:
                rows = {blob for blob, _ in view.blobs()} | {row.blob for row in view.garbage()}
                segments = [row.segment for row in view.blob_segments()]
            blobs = self._opened.blobs
            return {blob for segment in segments for blob in blobs.list_segment(segment)}, rows

        return self.look(both)
