"""Damaged records of the log: named one by one, and inlined payloads with parity read and written anew as they were."""

from __future__ import annotations

import os
import pathlib

import pytest
import trio

from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.library import StoreOptions, open_store_parts
from rs3d.engine.requests import BucketRequest
from rs3d.errors import ObjectDamaged
from rs3d.format.logsegment import RECORDS_START
from rs3d.format.record import HEAD_BYTES, RecordKind
from rs3d.format.recordbodies import decode_version
from rs3d.stores.check import check_store
from rs3d.stores.layoutmeta import read_store_meta
from rs3d.stores.logchain import read_directory
from rs3d.stores.logexamination import SegmentExamined, examine_segment
from rs3d.stores.logreader import ScanEnd, scan_records
from rs3d.types.operations import CompactLog
from tests.engine.bodies import noise

MIB = 1024 * 1024
OPTIONS = StoreOptions(log_segment_bytes=2 * MIB, map_bytes=64 * MIB, minimum_free_bytes=MIB)
BODY = noise(4000, 1)


async def fill(engine: StorageEngine) -> None:
    await engine.create_bucket("mended", BucketRequest(settings=(("parity", "8+2"),)))
    await engine.create_bucket("plain")
    for number in range(3):
        await engine.put_object("mended", f"m{number}", noise(4000, number))
        await engine.put_object("plain", f"p{number}", noise(4000, number))


class Log:
    """A closed store whose records were sealed, and the places of its payloads."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = str(root / "store")
        trio.run(self.opened, fill)
        trio.run(self.opened, None)  # each opening begins a new segment, so the first one is sealed now
        self.places = self.put_records()

    async def opened(self, work: object) -> None:
        async with open_store_parts(self.root, EngineConfig(), OPTIONS) as parts:
            if callable(work):
                await work(parts.engine)

    def flip(self, key: str, *, inside: str = "payload") -> int:
        """Damage the record that put `key`; returns its offset in the first segment."""
        offset, body_bytes = self.places[key]
        where = offset + HEAD_BYTES + (body_bytes + 2010 if inside == "payload" else 4)
        with open(f"{self.root}/log/{min(os.listdir(f'{self.root}/log'))}", "r+b") as file:
            byte = os.pread(file.fileno(), 1, where)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 1]), where)
        return offset

    def put_records(self) -> dict[str, tuple[int, int]]:
        """Offset and length of the body of the records that put objects in the first segment, by key."""
        directory = read_directory(f"{self.root}/log", self.store_id())
        file = min(directory.segments.values(), key=lambda found: found.header.number)
        found = {}
        for record in scan_records(directory.path_of(file), file.header, ScanEnd(RECORDS_START, 0, 0)):
            if record.head.kind == RecordKind.VERSION_PUT:
                found[decode_version(record.body).key] = (record.offset, record.head.body_bytes)
        return found

    def store_id(self) -> bytes:
        return read_store_meta(self.root).store_id

    def examine(self) -> SegmentExamined:
        directory = read_directory(f"{self.root}/log", self.store_id())
        file = min(directory.segments.values(), key=lambda found: found.header.number)
        following = directory.successor(file.header.number)
        assert following is not None
        return examine_segment(directory, file, following.header.previous_end)


@pytest.fixture
def log(tmp_path: pathlib.Path) -> Log:
    return Log(tmp_path)


def test_a_sound_segment_has_no_damage(log: Log) -> None:
    found = log.examine()
    assert found.records > 8
    assert not found.damaged


def test_each_damaged_record_is_named_with_its_key_also_behind_a_break(log: Log) -> None:
    offsets = [log.flip("p0"), log.flip("m1"), log.flip("p2")]
    found = log.examine()
    assert [(record.offset, record.key, record.mendable) for record in found.damaged] == [
        (offsets[0], "p0", False),
        (offsets[1], "m1", True),
        (offsets[2], "p2", False),
    ]


def test_a_damaged_body_is_told_by_its_place(log: Log) -> None:
    offset = log.flip("p1", inside="body")
    assert [(record.offset, record.key) for record in log.examine().damaged] == [(offset, "")]


def test_an_inlined_payload_with_parity_is_read_as_it_was_written_and_others_are_refused(log: Log) -> None:
    log.flip("m1")
    log.flip("p1")

    async def read(engine: StorageEngine) -> None:
        assert await engine.get_object("mended", "m1") == BODY
        with pytest.raises(ObjectDamaged):
            await engine.get_object("plain", "p1")

    trio.run(log.opened, read)


def test_compaction_writes_a_mended_payload(log: Log) -> None:
    log.flip("m1")

    async def compact() -> None:
        async with open_store_parts(log.root, EngineConfig(), OPTIONS) as parts:
            committer = parts.store.committer
            outcome = await committer.commit(CompactLog(id=committer.next_id(), first=1, last=1))
            assert outcome.sequence
            assert await parts.engine.get_object("mended", "m1") == BODY

    trio.run(compact)
    bad = [f for f in check_store(log.root).findings if "payload" in f.reason and "run" in f.what]
    assert bad == []
