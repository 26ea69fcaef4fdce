"""The offline check: a sound store is clean, every kind of damage is named, repairs leave a clean store."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import lmdb
import pytest
import trio

from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.library import StoreOptions, open_store_parts
from rs3d.engine.requests import CompletedPart, CompleteRequest, CopyRequest, CopySource, UploadRequest
from rs3d.errors import FormatUnknown, StoreBusy, StoreReadOnly
from rs3d.format.logsegment import HEADER_BYTES
from rs3d.stores.blobexamination import blob_path
from rs3d.stores.check import CheckMode, acknowledge_loss, assert_files_reachable, check_store
from rs3d.stores.checkfiles import CheckDepth
from rs3d.stores.checkreport import CheckReport, Severity
from rs3d.stores.layout import BlobFile
from rs3d.stores.lock import LockMode, LockRange, StoreLock
from rs3d.stores.replay import Loss
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BlobId, SegmentId
from tests.engine.bodies import noise
from tests.stores.catalogcopies import count_as_it_is

MIB = 1024 * 1024
REPOSITORY = str(pathlib.Path(__file__).parents[2])
CONFIG = EngineConfig(inline_limit_bytes=1000, piece_bytes=65536, minimum_part_bytes=100_000)
OPTIONS = StoreOptions(log_segment_bytes=2 * MIB, map_bytes=64 * MIB, minimum_free_bytes=MIB)


async def fill(engine: StorageEngine) -> None:
    """Objects, versions, markers, copies, parts, a finished and an open upload, long keys."""
    await engine.create_bucket("bucket")
    await engine.create_bucket("versioned")
    await engine.set_versioning("versioned", Versioning.ENABLED)
    for number in range(4):
        await engine.put_object("bucket", f"large-{number}", noise(200_000, number))
        await engine.put_object("bucket", f"small-{number}", noise(300, number))
    for number in range(3):
        await engine.put_object("versioned", "many", noise(150_000, number))
    await engine.put_object("versioned", "k" * 1000, noise(100, 9))
    await engine.delete_object("versioned", "many")
    await engine.copy_object("bucket", "copy", CopyRequest(source=CopySource(bucket="bucket", key="large-0")))
    for key in ("whole", "open"):
        upload = await engine.create_multipart_upload("bucket", key, UploadRequest())
        parts = [await engine.upload_part("bucket", key, upload, at, noise(120_000, at)) for at in (1, 2)]
        if key == "whole":
            chosen = tuple(CompletedPart(number=at, etag=part.etag) for at, part in zip((1, 2), parts, strict=True))
            await engine.complete_multipart_upload("bucket", key, upload, CompleteRequest(parts=chosen))
    await engine.delete_object("bucket", "large-1")


async def make(root: str) -> None:
    async with open_store_parts(root, CONFIG, OPTIONS) as opened:
        await fill(opened.engine)


@pytest.fixture(scope="module")
def made(module_path: pathlib.Path) -> str:
    """A store that was closed as it should be; tests work on copies."""
    root = str(module_path / "store")
    trio.run(make, root)
    return root


@pytest.fixture
def root(made: str, tmp_path: pathlib.Path) -> str:
    shutil.copytree(made, tmp_path / "store")
    return str(tmp_path / "store")


def errors(report: CheckReport) -> list[str]:
    return [f"{f.what}: {f.reason}" for f in report.findings if f.severity is Severity.ERROR]


def some_blob(root: str) -> BlobId:
    segment = sorted(os.listdir(os.path.join(root, "blobs")))[0]
    name = sorted(os.listdir(os.path.join(root, "blobs", segment)))[0]
    return BlobId(SegmentId(int(segment, 16)), int(name[:8], 16))


def flip(path: str, offset: int) -> None:
    with open(path, "r+b") as file:
        byte = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), offset)


def test_a_sound_store_is_clean_to_the_last_byte(root: str) -> None:
    stages = set()
    report = check_store(root, depth=CheckDepth.ALL_BYTES, progress=lambda stage, done, total: stages.add(stage))
    assert errors(report) == []
    assert report.is_clean
    assert (report.buckets, report.versions, report.orphans) == (2, 14, 0)
    assert report.bytes_verified == report.blob_bytes >= 3 * 200_000 + 3 * 150_000 + 4 * 120_000
    assert stages >= {"log segments", "catalog tables", "buckets", "references", "blob segments"}


def test_a_check_changes_nothing(root: str) -> None:
    def snapshot() -> dict[str, tuple[int, int]]:
        found = {}
        for directory, _, names in os.walk(root):
            for name in names:
                status = os.stat(os.path.join(directory, name))
                if name not in ("store.lock", "lock.mdb"):
                    found[os.path.join(directory, name)] = (status.st_size, status.st_mtime_ns)
        return found

    before = snapshot()
    check_store(root)
    assert snapshot() == before


def test_a_store_in_use_is_not_checked(root: str) -> None:
    with StoreLock.acquire(root, LockRange.USE, LockMode.SHARED, "worker"), pytest.raises(StoreBusy):
        check_store(root)


def test_what_is_no_store_is_not_checked(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FormatUnknown, match="not a store"):
        check_store(str(tmp_path))


def damage_block(root: str, blob: BlobId) -> None:
    flip(blob_path(root, blob, BlobFile.DATA), 70_000)


def cut_data(root: str, blob: BlobId) -> None:
    os.truncate(blob_path(root, blob, BlobFile.DATA), 5)


def lose_data(root: str, blob: BlobId) -> None:
    os.unlink(blob_path(root, blob, BlobFile.DATA))


def lose_sidecar(root: str, blob: BlobId) -> None:
    os.unlink(blob_path(root, blob, BlobFile.META))


def damage_leaf(root: str, blob: BlobId) -> None:
    path = blob_path(root, blob, BlobFile.META)
    flip(path, os.path.getsize(path) - 10)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (damage_block, "CRC32C of block 1 differs"),
        (cut_data, "has 5 bytes; 200000 were written"),
        (lose_data, ".data file is missing"),
        (lose_sidecar, ".meta file is missing"),
        (damage_leaf, "table leaves"),
    ],
)
def test_damage_to_a_blob_is_named_and_never_removed(
    root: str, harm: Callable[[str, BlobId], None], reason: str
) -> None:
    blob = some_blob(root)
    harm(root, blob)
    report = check_store(root, mode=CheckMode.REPAIR, depth=CheckDepth.ALL_BYTES)
    assert len(errors(report)) == 1
    assert blob.text() in errors(report)[0]
    assert reason in errors(report)[0]
    assert report.worst is Severity.ERROR
    left = [kind for kind in BlobFile if os.path.exists(blob_path(root, blob, kind))]
    assert len(left) == (1 if "missing" in reason else 2)


def orphan(root: str, number: int = 4000) -> BlobId:
    """Copy a blob's files to a number that no row names."""
    blob = some_blob(root)
    stray = BlobId(blob.segment, number)
    for kind in BlobFile:
        shutil.copy(blob_path(root, blob, kind), blob_path(root, stray, kind))
    return stray


def test_store_rule_10_orphans_are_warned_of_and_repaired(root: str) -> None:
    stray = orphan(root)
    report = check_store(root)
    assert [(f.severity, f.what) for f in report.findings] == [(Severity.WARNING, f"blob {stray.text()}")]
    with pytest.raises(AssertionError, match="no row"):
        assert_files_reachable(root)
    repaired = check_store(root, mode=CheckMode.REPAIR)
    assert repaired.is_clean
    assert not os.path.exists(blob_path(root, stray, BlobFile.DATA))
    assert_files_reachable(root)


def test_store_rule_07_blobs_of_a_segment_that_no_record_opened_are_quarantined(root: str) -> None:
    blob = some_blob(root)
    segment = os.path.join(root, "blobs", f"{blob.segment:016x}")
    shutil.copytree(segment, os.path.join(root, "blobs", f"{7:016x}"))
    strays = len(os.listdir(segment)) // 2
    assert check_store(root).orphans == strays
    assert check_store(root, mode=CheckMode.REPAIR).is_clean
    names = os.listdir(os.path.join(root, "quarantine"))
    assert sum(name.endswith(".note") for name in names) == strays
    assert len(names) == 3 * strays
    assert_files_reachable(root)


def test_pitfall_d1_nothing_is_removed_while_anything_is_damaged(root: str) -> None:
    stray = orphan(root)
    name = sorted(name for name in os.listdir(os.path.join(root, "log")))[0]
    flip(os.path.join(root, "log", name), HEADER_BYTES + 60)
    report = check_store(root, mode=CheckMode.REPAIR)
    assert errors(report)
    assert os.path.exists(blob_path(root, stray, BlobFile.DATA))


def test_a_damaged_record_is_found_where_it_lies(root: str) -> None:
    name = sorted(os.listdir(os.path.join(root, "log")))[0]
    flip(os.path.join(root, "log", name), HEADER_BYTES + 60)
    report = check_store(root)
    assert any(f"log/{name}: the records end at 128" in line for line in errors(report))


def test_a_rebuild_tells_how_much_of_the_log_it_has_replayed(root: str) -> None:
    told: list[tuple[str, int, int]] = []
    check_store(root, mode=CheckMode.REBUILD, progress=lambda *stage: told.append(stage))
    replayed = [(done, total) for stage, done, total in told if stage == "log segments replayed"]
    assert replayed and replayed == sorted(replayed)
    assert all(0 <= done < total for done, total in replayed)


def test_pitfall_d2_a_catalog_is_not_replaced_by_what_a_damaged_log_still_has(root: str) -> None:
    name = sorted(os.listdir(os.path.join(root, "log")))[0]
    flip(os.path.join(root, "log", name), HEADER_BYTES + 60)
    before = os.path.getmtime(os.path.join(root, "catalog", "data.mdb"))
    report = check_store(root, mode=CheckMode.REBUILD)
    assert any("not rebuilt" in line for line in errors(report))
    assert os.path.getmtime(os.path.join(root, "catalog", "data.mdb")) == before
    assert os.listdir(os.path.join(root, "quarantine")) == []


def test_a_damaged_row_is_found_and_a_rebuild_mends_it(root: str) -> None:
    environment = lmdb.open(os.path.join(root, "catalog"), max_dbs=32, map_size=64 * MIB)
    versions = environment.open_db(b"versions", create=False)
    with environment.begin(write=True) as transaction:
        cursor = transaction.cursor(db=versions)
        cursor.first()
        value = bytearray(cursor.value())
        value[20] ^= 1
        transaction.put(bytes(cursor.key()), bytes(value), db=versions)
    environment.close()
    count_as_it_is(root)
    report = check_store(root)
    assert any("catalog table versions" in line for line in errors(report))
    assert all(f.command.startswith("rs3d check --rebuild") for f in report.findings if f.severity is Severity.ERROR)
    rebuilt = check_store(root, mode=CheckMode.REBUILD)
    assert errors(rebuilt) == []
    assert_files_reachable(root)
    assert any(name.startswith("catalog-") for name in os.listdir(os.path.join(root, "quarantine")))


def test_counters_and_references_that_are_wrong_are_found(root: str) -> None:
    """Rows with a right CRC and a wrong value, as a bug would leave them."""
    from rs3d.stores.catalogtables import Access, open_tables

    tables = open_tables(os.path.join(root, "catalog"), access=Access.WRITE, map_bytes=64 * MIB)
    with tables.environment.begin(write=True) as transaction:
        for table, position in ((tables.counters, 7), (tables.blobs, 3)):
            cursor = transaction.cursor(db=table.handle)
            cursor.first()
            key, value = bytes(cursor.key()), bytearray(cursor.value())[:-4]
            value[position] += 1
            transaction.put(key, table.seal(key, bytes(value)), db=table.handle)
    tables.close()
    found = errors(check_store(root))
    assert any("counters say" in line for line in found)
    assert any("2 references are recorded, 1 rows" in line or "3 references" in line for line in found)


def test_a_lost_catalog_is_an_error_until_it_is_rebuilt(root: str) -> None:
    shutil.rmtree(os.path.join(root, "catalog"))
    os.mkdir(os.path.join(root, "catalog"))
    assert any(line.startswith("catalog/") for line in errors(check_store(root)))
    check_store(root, mode=CheckMode.REBUILD)
    report = assert_files_reachable(root)
    assert (report.buckets, report.versions) == (2, 14)


def test_a_damaged_store_meta_ends_the_check(root: str) -> None:
    flip(os.path.join(root, "store.meta"), 30)
    report = check_store(root, mode=CheckMode.REPAIR)
    assert [f.what for f in report.findings] == ["store.meta"]


def test_store_rule_01_a_catalog_behind_its_log_is_no_damage_and_its_blobs_are_no_orphans(root: str) -> None:
    catalog = os.path.join(root, "catalog")
    shutil.copytree(catalog, root + "-older")

    async def go_on() -> None:
        async with open_store_parts(root, CONFIG, OPTIONS) as opened:
            await opened.engine.put_object("bucket", "later", noise(200_000, 77))

    trio.run(go_on)
    shutil.rmtree(catalog)
    shutil.copytree(root + "-older", catalog)
    report = check_store(root)
    assert errors(report) == []
    assert report.records_beyond_catalog > 0
    assert report.orphans == 1
    assert report.is_clean  # nothing has to be done: the next opening applies the records
    assert check_store(root, mode=CheckMode.REPAIR).repaired > 0
    assert assert_files_reachable(root).versions == 15


KILLED = """
import os, signal, sys, trio
from rs3d.engine.library import open_store_parts
from rs3d.types.identifiers import BlobId
from tests.stores.test_check import CONFIG, OPTIONS, noise

async def main():
    async with open_store_parts(sys.argv[1], CONFIG, OPTIONS) as opened:
        await opened.engine.put_object("bucket", "last", noise(200_000, 5))
        with opened.store.catalog.snapshot() as view:
            segment = max(row.segment for row in view.blob_segments() if not row.closed)
        writer = opened.blobs.create(BlobId(segment, 4000))
        writer.write(memoryview(b"half a body"))
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""


def test_store_rule_10_what_a_killed_process_left_half_written_is_repaired(root: str) -> None:
    died = subprocess.run(
        [sys.executable, "-c", KILLED, root], env={**os.environ, "PYTHONPATH": REPOSITORY}, check=False
    )
    assert died.returncode == -signal.SIGKILL
    report = check_store(root)
    assert errors(report) == []
    assert report.orphans == 2  # half a body, and a whole one whose record the checkpoint lacks
    assert report.records_beyond_catalog > 0
    repaired = check_store(root, mode=CheckMode.REPAIR)
    assert repaired.is_clean
    assert any("1 blobs without a row were removed" in finding.reason for finding in repaired.findings)
    assert assert_files_reachable(root).versions == 15


def test_strangers_are_reported_and_left_alone(root: str) -> None:
    paths = [os.path.join(root, *parts) for parts in (("notes",), ("blobs", "x"), ("log", "y"))]
    for path in paths:
        pathlib.Path(path).touch()
    report = check_store(root, mode=CheckMode.REPAIR)
    assert {f.what for f in report.findings} >= {"notes", "blobs/x", "log/y"}
    assert all(os.path.exists(path) for path in paths)


async def _more_records(root: str) -> None:
    async with open_store_parts(root, CONFIG, OPTIONS) as opened:
        for number in range(700):  # more than one log segment, so that one is sealed
            await opened.engine.put_object("bucket", f"inline-{number:04d}", noise(900, number))
            await opened.engine.put_object("bucket", f"inline-{number:04d}", noise(900, number + 1))


async def _readable_and_writable(root: str) -> tuple[int, bool]:
    """How many objects can be read, and whether one can be added."""
    async with open_store_parts(root, CONFIG, OPTIONS) as opened:
        entries = opened.engine.list_objects("bucket").entries
        for entry in entries[:20]:
            await opened.engine.get_object("bucket", entry.key)
        try:
            await opened.engine.put_object("bucket", "added", b"x")
        except StoreReadOnly:
            return len(entries), False
        return len(entries), True


def test_store_rule_07_accepted_loss_unlinks_nothing_and_is_read_only_until_acknowledged(root: str) -> None:
    trio.run(_more_records, root)
    first = sorted(os.listdir(os.path.join(root, "log")))[0]
    flip(os.path.join(root, "log", first), 3 * 4096)
    files = sorted(str(path) for path in pathlib.Path(root, "blobs").rglob("*.data"))
    refused = check_store(root, mode=CheckMode.REBUILD)
    assert errors(refused)
    accepted = check_store(root, mode=CheckMode.REBUILD, loss=Loss.ACCEPT)
    told = [finding for finding in accepted.findings if "are lost" in finding.reason]
    assert told and "--acknowledge-loss" in told[0].command
    count, writable = trio.run(_readable_and_writable, root)
    assert count > 500 and not writable
    assert check_store(root, mode=CheckMode.REPAIR) is not None
    assert sorted(str(path) for path in pathlib.Path(root, "blobs").rglob("*.data")) == files
    assert acknowledge_loss(root) and not acknowledge_loss(root)
    assert trio.run(_readable_and_writable, root)[1]
