"""The order of everything that makes a PUT or a DELETE durable, over blobs and log together. FORMAT.md section 10."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trio

from rs3d.clock import SystemClock
from rs3d.crypto.masterkey import MasterKey
from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.configuration import EngineDeps
from rs3d.engine.library import Collector
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.committerlocal import open_local
from rs3d.stores.committeropen import CommitterSettings
from rs3d.stores.horizon import Horizon
from rs3d.stores.layout import make_directories
from tests.engine.bodies import noise
from tests.stores.faultfiles import FaultFiles

MIB = 1024 * 1024
STORE = bytes(16)
KINDS = {
    len("00000000.data"): "blob file",
    len("0000000001.tmp"): "log",  # segments are created under this name
    len("0000000000000000"): "blob directory",
}


@dataclass
class Recorded:
    engine: StorageEngine
    collector: Collector
    files: FaultFiles

    def changes(self) -> list[str]:
        """What was changed or synced, in order: the call and the file."""
        calls = self.files.order("create", "pwrite", "sync_data", "sync", "unlink", "make_directory")
        return [f"{call} {KINDS[len(str(name))]}" for call, name in calls]


@pytest.fixture
async def recorded(tmp_path: pathlib.Path) -> AsyncIterator[Recorded]:
    root = str(tmp_path / "store")
    make_directories(root)
    files = FaultFiles()
    settings = CommitterSettings(store_id=STORE, map_bytes=64 * MIB, segment_bytes=4 * MIB)
    blobs = LocalBlobStore(root, files=files.as_files())
    horizon = Horizon()
    async with open_local(root, settings, files=files.as_files()) as store:
        engine = StorageEngine(
            EngineDeps(
                catalog=store.catalog,
                committer=store.committer,
                blobs=blobs,
                horizon=horizon,
                sealer=MasterKey.generate().sealer(STORE),
                clock=SystemClock(),
                config=EngineConfig(inline_limit_bytes=1000),
            )
        )
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "first", noise(50_000))  # opens the segment
        await trio.to_thread.run_sync(store.opened.core.log.preparation.wait)  # the next segment is made by a thread
        files.calls.clear()
        yield Recorded(engine, Collector(store, blobs, horizon), files)
        engine.close()
    blobs.close()
    horizon.close()


async def test_a_put_syncs_data_sidecar_and_directory_before_the_log_and_the_log_before_it_returns(
    recorded: Recorded,
) -> None:
    await recorded.engine.put_object("bucket", "key", noise(50_000))
    assert recorded.changes() == [
        "create blob file",
        "pwrite blob file",
        "create blob file",
        "pwrite blob file",
        "sync_data blob file",
        "sync_data blob file",
        "sync blob directory",
        "pwrite log",
        "sync_data log",
    ]


async def test_a_small_put_and_a_bucket_change_are_one_write_and_one_sync_of_the_log(recorded: Recorded) -> None:
    await recorded.engine.put_object("bucket", "key", noise(500))
    assert recorded.changes() == ["pwrite log", "sync_data log"]
    recorded.files.calls.clear()
    await recorded.engine.create_bucket("another")
    assert recorded.changes() == ["pwrite log", "sync_data log"]


async def test_a_delete_is_logged_before_anything_is_unlinked_and_the_row_goes_last(recorded: Recorded) -> None:
    await recorded.engine.delete_object("bucket", "first")
    assert recorded.changes() == ["pwrite log", "sync_data log"]
    recorded.files.calls.clear()
    assert (await recorded.collector.collect()).unlinked == 1
    assert recorded.changes() == ["unlink blob file", "unlink blob file", "sync blob directory"]
