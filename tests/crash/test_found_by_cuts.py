"""What the crash states found, each by its shortest sequence of events."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rs3d.errors import OutcomeUnknown
from rs3d.format.logsegment import RECORDS_START
from rs3d.format.rows import LOG_DEAD
from rs3d.stores.catalogtables import Tables
from rs3d.stores.committerlocal import open_local
from rs3d.stores.committeropen import CommitterSettings
from rs3d.stores.compaction import Compacted, compact
from rs3d.stores.files import SystemFiles
from rs3d.stores.layout import make_directories
from rs3d.types import operations as ops
from tests.crash.histories import Life, record
from tests.crash.recording import replaced
from tests.crash.recovering import recover
from tests.stores.catalogcopies import copy_catalog
from tests.stores.committed import STORE_ID, CommittedStore
from tests.stores.faultfiles import IO_ERROR, Fault, FaultFiles


class Calls(SystemFiles):
    """The real calls, with what was created, renamed, unlinked, written and synced, by name."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str]] = []

    def _note(self, call: str, descriptor: int) -> None:
        self.noted.append((call, os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))

    def pwrite(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        self._note("write", descriptor)
        return super().pwrite(descriptor, data, offset)

    def sync_data(self, descriptor: int) -> None:
        self._note("sync", descriptor)

    def sync(self, descriptor: int) -> None:
        self._note("sync", descriptor)

    def unlink(self, name: str, *, directory: int | None = None) -> None:
        self.noted.append(("unlink", name))
        super().unlink(name, directory=directory)


def test_a_log_that_was_sealed_before_its_next_segment_was_written_to_opens(tmp_path: Path) -> None:
    store = CommittedStore(tmp_path, segment_bytes=64 << 10)
    bucket = store.bucket()
    store.put(bucket, "key")
    store.core.log.rotate(store.core.clock.now_ns())
    store.reopen()
    assert store.keys(bucket) == ["key"]
    store.put(bucket, "more")
    store.without_catalog()
    assert store.keys(bucket) == ["key", "more"]
    store.close()


def test_a_prepared_segment_whose_maker_died_is_synced_with_its_name_before_it_is_used(tmp_path: Path) -> None:
    store = CommittedStore(tmp_path, segment_bytes=64 << 10)
    store.core.log.preparation.wait()
    spare = f"{store.core.log.number + 1:010d}.meta"
    store.close()
    calls = store.files = Calls()
    store.clock.advance(1)
    store.open()
    first_write = calls.noted.index(("write", spare))
    assert {("sync", spare), ("sync", "log")} <= set(calls.noted[:first_write])
    store.close()


def test_the_header_that_the_next_segment_names_is_durable_before_that(tmp_path: Path) -> None:
    """A first batch lay in the page cache only when its writer died: its records are copied to the next segment, which
    names the one it was in."""
    store = CommittedStore(tmp_path, segment_bytes=64 << 10)
    bucket = store.bucket()
    store.put(bucket, "kept")
    store.reopen()
    store.close()
    copy_catalog(tmp_path / "catalog", tmp_path / "aside")
    store.clock.advance(1)
    store.open()
    active = f"{store.core.log.number:010d}.meta"
    store.close()
    copy_catalog(tmp_path / "aside", tmp_path / "catalog")
    calls = store.files = Calls()
    store.clock.advance(1)
    store.open()
    assert calls.noted[0] == ("sync", tmp_path.name)  # whatever a predecessor named in the root
    of_log = [call for call in calls.noted[1:] if call[1] != "checkpoint.meta"]
    assert of_log[:2] == [("write", active), ("sync", active)]
    assert store.keys(bucket) == ["kept"]
    store.close()


def test_a_segment_without_records_is_sealed_with_its_header_synced(tmp_path: Path) -> None:
    calls = Calls()
    store = CommittedStore(tmp_path, segment_bytes=64 << 10, files=calls)
    store.core.log.rotate(store.core.clock.now_ns())
    store.core.log.preparation.wait()
    calls.noted.clear()
    empty = f"{store.core.log.number:010d}.meta"
    store.core.log.rotate(store.core.clock.now_ns())
    assert calls.noted[:2] == [("write", empty), ("sync", empty)]
    raw = (tmp_path / "log" / empty).read_bytes()
    assert any(raw[:RECORDS_START])
    store.reopen()
    store.close()


def test_d02_the_catalog_is_durable_before_replaced_log_segments_are_unlinked(tmp_path: Path) -> None:
    calls = Calls()
    store = CommittedStore(tmp_path, segment_bytes=64 << 10, files=calls)
    bucket = store.bucket()
    for number in range(40):
        store.put(bucket, f"key {number % 5}", bytes(4000))
    done = Compacted()
    for _ in compact(store.core, first=0, last=0, result=done):
        pass
    assert done.sources
    with store.view() as view:
        dead = tuple(number for number, row in view.log_segments() if row.state == LOG_DEAD)
    calls.noted.clear()
    sync = Tables.sync

    def noted(tables: Tables) -> None:
        sync(tables)
        calls.noted.append(("sync", "catalog"))

    with replaced((Tables, "sync", noted)):
        store.commit(ops.DropLogSegments(id=store.id(), numbers=dead))
    slot = [("write", "checkpoint.meta"), ("sync", "checkpoint.meta")]
    assert calls.noted[:5] == [*slot, *slot, ("sync", "catalog")]
    assert [call for call, _ in calls.noted[5 : 5 + len(dead)]] == ["unlink"] * len(dead)
    store.close()


@pytest.mark.parametrize("size", [1, 2000])
def test_the_segment_of_survivors_has_room_for_them_and_their_seal(tmp_path: Path, size: int) -> None:
    store = CommittedStore(tmp_path, segment_bytes=16 << 10)
    bucket = store.bucket()
    store.reopen()
    store.tables.sync()
    copy_catalog(tmp_path / "catalog", tmp_path / "aside")
    keys: list[str] = []
    number = store.core.log.number
    while store.core.log.number == number:
        keys.append(f"key {len(keys):04d}")
        store.put(bucket, keys[-1], bytes(size))
    store.close()
    copy_catalog(tmp_path / "aside", tmp_path / "catalog")
    store.clock.advance(1)
    store.open()
    store.core.log.rotate(store.core.clock.now_ns())
    store.put(bucket, "last")
    store.reopen()
    assert store.keys(bucket) == sorted([*keys, "last"])
    store.close()


def test_d19_a_rebuild_from_a_compacted_log_sweeps_again_what_was_swept(memory: Path) -> None:
    """A blob dies, the log is compacted without its records, its directory was swept long ago; then the catalog is lost
    before the collector has unlinked the file: only a sweep can still find it."""

    async def history(life: Life) -> None:
        await life.bucket("bkt")
        await life.put("bkt", "blob", 3000)
        await life.reopen()
        await life.sweep()
        await life.delete("bkt", "blob")
        for number in range(30):
            await life.put("bkt", f"k{number % 3}", 990)
        await life.compact()

    (memory / "live").mkdir()
    recording = record("swept before", history, memory / "live")
    shutil.rmtree(memory / "live" / "catalog")
    (memory / "live" / "catalog").mkdir()
    assert list((memory / "live" / "blobs").glob("*/*.data"))
    after = recover(memory / "live")
    assert after.problems == [] and after.contents == recording.states[-1]
    assert not list((memory / "live" / "blobs").glob("*/*.data"))


async def test_a_read_only_store_is_closed_without_leaving_its_catalog_open(tmp_path: Path) -> None:
    make_directories(str(tmp_path))
    settings = CommitterSettings(store_id=STORE_ID, map_bytes=4 << 20, segment_bytes=64 << 10)
    files = FaultFiles()
    async with open_local(str(tmp_path), settings, files=files.as_files()) as store:
        operation = ops.PutSetting(id=store.committer.next_id(), name="n", value=b"v")
        store.opened.core.log.preparation.wait()
        files.faults.append(Fault("sync_data", IO_ERROR))
        with pytest.raises(OutcomeUnknown):
            await store.committer.commit(operation)
        files.faults.clear()
    async with open_local(str(tmp_path), settings, files=files.as_files()) as store:
        await store.committer.commit(ops.PutSetting(id=store.committer.next_id(), name="n", value=b"w"))
