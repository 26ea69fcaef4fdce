"""What is particular to blobs on a disk: order of system calls, faults, evil paths, sidecars cut or flipped."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rs3d.clock import ManualClock
from rs3d.errors import BlobDamaged, Rs3dError, SlowDown, StoreDamaged, StoreFull, StoreReadOnly
from rs3d.format.quarantinenote import decode_note
from rs3d.kernels import directio, mapped
from rs3d.kernels.directio import AlignedBuffer
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore, VerifyMode
from rs3d.stores.files import SystemFiles
from rs3d.stores.layout import BlobFile, make_directories
from rs3d.stores.sweep import sweep_once
from rs3d.types.blobs import BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.recipe import PLAIN
from tests.conformance.blobstore import SEGMENT, body, put
from tests.stores.coldpages import is_refused_when_cold
from tests.stores.faultfiles import IO_ERROR, NO_SPACE, Fault, FaultFiles
from tests.stores.nowait import reads_without_waiting
from tests.stores.test_garbage import Rows, Segment

BLOB = BlobId(SEGMENT, 1)
MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    make_directories(str(tmp_path / "store"))
    return tmp_path / "store"


def segment_files(root: pathlib.Path) -> list[str]:
    return sorted(os.listdir(root / "blobs" / f"{SEGMENT:016x}"))


def descriptors(root: pathlib.Path) -> int:
    """Those of the store's own files: what other tests left to the collector may go at any time."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # of the listing itself
            found += os.readlink(f"/proc/self/fd/{name}").startswith(str(root))
    return found


def test_data_sidecar_and_directory_are_synced_once_each_before_finish_returns(root: pathlib.Path) -> None:
    files = FaultFiles()
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    assert files.order("make_directory", "sync") == [("make_directory", f"{SEGMENT:016x}"), ("sync", "blobs")]
    files.calls.clear()
    put(store, 1, body(100), piece=100)
    assert files.order("create", "pwrite", "sync_data", "sync") == [
        ("create", "00000001.data"),
        ("pwrite", "00000001.data"),
        ("create", "00000001.meta"),
        ("pwrite", "00000001.meta"),
        ("sync_data", "00000001.data"),
        ("sync_data", "00000001.meta"),
        ("sync", f"{SEGMENT:016x}"),
    ]
    store.close()


def test_after_data_past_the_page_cache_the_sidecar_is_synced_first_and_nothing_is_sent_out_before(
    root: pathlib.Path,
) -> None:
    if directio.variant() == "buffered":
        pytest.skip("nothing goes past the page cache here")
    files = FaultFiles()
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    files.calls.clear()
    put(store, 1, body(262_144), piece=262_144)
    assert files.order("sync_data", "sync", "begin_write_out") == [
        ("sync_data", "00000001.meta"),
        ("sync_data", "00000001.data"),
        ("sync", f"{SEGMENT:016x}"),
    ]
    put(store, 2, body(262_144 + 100), piece=262_144)
    assert files.order("sync_data", "sync", "begin_write_out")[3:] == [
        ("begin_write_out", "00000002.data"),
        ("begin_write_out", "00000002.meta"),
        ("sync_data", "00000002.data"),
        ("sync_data", "00000002.meta"),
        ("sync", f"{SEGMENT:016x}"),
    ]
    store.close()


def test_store_rule_13_data_goes_before_sidecar_before_directory_sync(root: pathlib.Path) -> None:
    files = FaultFiles()
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    put(store, 1, b"a")
    put(store, 2, b"b")
    files.calls.clear()
    store.delete([BLOB, BlobId(SEGMENT, 2)])
    assert files.order("unlink", "sync") == [
        ("unlink", "00000001.data"),
        ("unlink", "00000001.meta"),
        ("unlink", "00000002.data"),
        ("unlink", "00000002.meta"),
        ("sync", f"{SEGMENT:016x}"),
    ]
    store.close()


FAULTS = [
    (Fault("create", NO_SPACE), StoreFull),
    (Fault("create", errno.EDQUOT), StoreFull),
    (Fault("create", errno.EMFILE), SlowDown),
    (Fault("create", errno.EROFS), StoreReadOnly),
    (Fault("create", NO_SPACE, at=1), StoreFull),
    (Fault("pwrite", NO_SPACE), StoreFull),
    (Fault("pwrite", IO_ERROR), BlobDamaged),
    (Fault("pwrite", NO_SPACE, at=1), StoreFull),
    (Fault("sync_data", IO_ERROR), BlobDamaged),
    (Fault("sync_data", IO_ERROR, at=1), BlobDamaged),
    (Fault("sync", IO_ERROR), BlobDamaged),
    (Fault("open_directory", errno.EMFILE), SlowDown),
]


@pytest.mark.parametrize(("fault", "expected"), FAULTS)
def test_a_fault_at_any_call_is_reported_and_leaves_nothing(
    root: pathlib.Path, fault: Fault, expected: type[Rs3dError]
) -> None:
    files = FaultFiles()
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    files._counts.clear()
    files.faults.append(fault)
    before = descriptors(root)
    with pytest.raises(expected):
        writer = store.create(BLOB)
        try:
            writer.write(memoryview(body(70_000)))
            writer.finish(client_bytes=1, recipe=PLAIN, md5=b"", origin=BlobOrigin(bucket="b", key="k"))
        except Rs3dError:
            files.faults.clear()
            writer.discard()
            raise
    assert segment_files(root) == []
    assert descriptors(root) == before
    store.close()


def test_short_writes_are_gone_on_with(root: pathlib.Path) -> None:
    files = FaultFiles(short_write_bytes=777)
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    data = body(10_000)
    put(store, 1, data)
    assert (root / "blobs" / f"{BLOB.text()}.data").read_bytes() == data
    store.open(BLOB).close()
    store.close()


def test_a_full_disk_is_met_when_the_body_is_announced(root: pathlib.Path) -> None:
    files = FaultFiles(Fault("reserve", NO_SPACE))
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    with pytest.raises(StoreFull):
        store.create(BLOB, size_hint_bytes=64 * MIB)
    assert segment_files(root) == []
    store.close()


def test_a_file_system_that_cannot_reserve_is_written_all_the_same(root: pathlib.Path) -> None:
    files = FaultFiles(Fault("reserve", errno.EOPNOTSUPP))
    store = LocalBlobStore(str(root), BlobStoreConfig(reserve_from_bytes=1), files=files.as_files())
    store.make_segment(SEGMENT)
    assert put(store, 1, b"abc").stored_bytes == 3
    store.close()


@pytest.mark.parametrize("short_write_bytes", [None, 5000])
def test_large_pieces_go_past_the_page_cache_and_read_back(root: pathlib.Path, short_write_bytes: int | None) -> None:
    files = FaultFiles(short_write_bytes=short_write_bytes)
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    data = body(MIB + 12_345)
    buffer = memoryview(AlignedBuffer(len(data)))
    buffer[:] = data
    writer = store.create(BLOB, size_hint_bytes=len(data))
    writer.write(buffer[:MIB])
    writer.write(buffer[MIB:])  # too short to be worth it
    writer.finish(client_bytes=len(data), recipe=PLAIN, md5=b"", origin=BlobOrigin(bucket="b", key="k"))
    assert files.order("pwrite", "pwrite_past_cache")[0][0] == "pwrite_past_cache"
    reader = store.open(BLOB)
    if short_write_bytes is None:
        assert mapped.resident_bytes(reader.fileno(), 0, MIB) == 0
    found = bytearray(len(data))
    reader.read_into(0, memoryview(found))
    assert found == data
    reader.close()
    store.close()


def test_blocks_reserved_behind_the_end_are_given_back(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    writer = store.create(BLOB, size_hint_bytes=16 * MIB)
    writer.write(memoryview(b"short after all"))
    writer.finish(client_bytes=15, recipe=PLAIN, md5=b"", origin=BlobOrigin(bucket="b", key="k"))
    assert os.stat(root / "blobs" / f"{BLOB.text()}.data").st_blocks * 512 <= MIB
    store.close()


def test_a_read_error_is_damage_and_names_the_place(root: pathlib.Path) -> None:
    files = FaultFiles()
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    put(store, 1, body(100))
    reader = store.open(BLOB)
    files.faults.append(Fault("pread_into", IO_ERROR))
    with pytest.raises(BlobDamaged, match="EIO"):
        reader.read_into(0, memoryview(bytearray(100)))
    reader.close()
    store.close()


def test_pitfall_d15_any_flip_or_loss_in_a_sidecar_is_damage_and_never_absence(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root), BlobStoreConfig(cached_sidecar_bytes=0))
    store.make_segment(SEGMENT)
    put(store, 1, body(100))
    path = root / "blobs" / f"{BLOB.text()}.meta"
    good = path.read_bytes()
    leaf_page = len(good) - 36
    for position in range(leaf_page):  # a reader does not touch the leaf table: scrub and check do
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(BlobDamaged):
            store.open(BLOB)
    path.unlink()
    with pytest.raises(BlobDamaged, match="ENOENT"):
        store.open(BLOB)
    store.close()


def test_a_sidecar_of_another_blob_does_not_pass(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    put(store, 1, b"one")
    put(store, 2, b"two")
    os.replace(root / "blobs" / f"{SEGMENT:016x}/00000002.meta", root / "blobs" / f"{SEGMENT:016x}/00000001.meta")
    with pytest.raises(BlobDamaged, match="names blob"):
        LocalBlobStore(str(root)).open(BLOB)
    store.close()


def test_a_data_file_of_another_length_does_not_open(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    put(store, 1, b"one")
    with (root / "blobs" / f"{BLOB.text()}.data").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BlobDamaged, match="4 bytes; 3 were written"):
        store.open(BLOB)
    store.close()


@pytest.mark.parametrize("kind", ["link to file", "link to directory", "fifo", "directory"])
def test_evil_things_in_the_place_of_a_blob_are_damage(root: pathlib.Path, tmp_path: pathlib.Path, kind: str) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    put(store, 1, b"secret?")
    data = root / "blobs" / f"{BLOB.text()}.data"
    if kind == "link to directory":
        os.rename(root / "blobs" / f"{SEGMENT:016x}", tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", root / "blobs" / f"{SEGMENT:016x}")
    else:
        os.rename(data, tmp_path / "moved")
        if kind == "link to file":
            os.symlink(tmp_path / "moved", data)
        elif kind == "fifo":
            os.mkfifo(data)
        else:
            data.mkdir()
    with pytest.raises(BlobDamaged):
        store.open(BLOB)
    with pytest.raises(BlobDamaged):
        store.create(BLOB)
    store.close()


def test_names_that_are_no_blobs_are_not_listed(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    for name in ("00000001.data.bak", "1.data", "0000000A.data", "00000001.note", "..data", "٠٠٠٠٠٠٠١.data"):
        (root / "blobs" / f"{SEGMENT:016x}" / name).touch()
    (root / "blobs" / "not-a-segment").mkdir()
    assert store.list_segment(SEGMENT) == []
    assert store.list_segments() == [SEGMENT]
    store.close()


def test_quarantine_keeps_both_files_and_says_why(root: pathlib.Path) -> None:
    clock = ManualClock()
    store = LocalBlobStore(str(root), clock=clock)
    store.make_segment(SEGMENT)
    put(store, 1, b"odd")
    store.quarantine(BLOB, "block 0 differs")
    name = f"{SEGMENT:016x}-00000001"
    assert sorted(os.listdir(root / "quarantine")) == [f"{name}.data", f"{name}.meta", f"{name}.note"]
    assert (root / "quarantine" / f"{name}.data").read_bytes() == b"odd"
    note = decode_note((root / "quarantine" / f"{name}.note").read_bytes(), what="note")
    assert (note.blob, note.reason, note.moved_ns) == (BLOB.text(), "block 0 differs", clock.wall_ns())
    store.close()


def test_a_quarantine_that_was_interrupted_is_finished_by_the_next(root: pathlib.Path) -> None:
    files = FaultFiles(Fault("rename", IO_ERROR, at=1, forever=False))
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    put(store, 1, b"odd")
    with pytest.raises(BlobDamaged):
        store.quarantine(BLOB, "first")
    assert len(segment_files(root)) == 1
    store.quarantine(BLOB, "second")
    assert segment_files(root) == []
    assert len(os.listdir(root / "quarantine")) == 3
    store.close()


def test_store_rule_07_what_is_quarantined_is_listed_with_its_origin_and_can_be_read(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    for number in (1, 2, 3):
        put(store, number, b"odd")
        store.quarantine(BlobId(SEGMENT, number), f"reason {number}")
    (root / "quarantine" / "catalog-17").mkdir()
    (root / "quarantine" / f"{SEGMENT:016x}-00000002.meta").write_bytes(b"junk")
    (root / "quarantine" / f"{SEGMENT:016x}-00000003.note").unlink()
    (root / "quarantine" / f"{SEGMENT:016x}-00000003.data").unlink()
    first, second, third = store.quarantined.blobs()
    assert first.origin is not None
    assert first.note is not None
    assert (first.blob, first.origin.key, first.note.reason) == (BLOB, "key-1", "reason 1")
    assert (second.info, second.kinds) == (None, frozenset(BlobFile))
    assert (third.note, third.kinds) == (None, frozenset({BlobFile.META}))
    reader = store.quarantined.open(BLOB)
    buffer = bytearray(3)
    reader.read_into(0, memoryview(buffer))
    assert buffer == b"odd"
    reader.close()
    before = descriptors(root)
    for damaged in (second, third):
        with pytest.raises(BlobDamaged):
            store.quarantined.open(damaged.blob)
    assert descriptors(root) == before
    store.close()


def test_what_was_verified_counts_for_sixty_seconds_and_only_when_resident(root: pathlib.Path) -> None:
    clock = ManualClock()
    store = LocalBlobStore(str(root), clock=clock)
    store.make_segment(SEGMENT)
    put(store, 1, body(2 * MIB + 5))
    reader = store.open(BLOB)
    assert not reader.is_verified(0, MIB)
    reader.verify(0, 2 * MIB + 5)
    assert reader.is_verified(0, 2 * MIB + 5)
    clock.advance(60)
    assert reader.is_verified(MIB, MIB + 5)
    clock.advance(0.1)
    assert not reader.is_verified(0, 1)
    reader.verify(100, MIB + 100)  # touches blocks of two spans, covers neither wholly but for the first
    assert reader.is_verified(0, MIB)
    assert not reader.is_verified(MIB, 1)
    reader.close()
    store.close()


def test_what_left_the_page_cache_does_not_count_as_verified(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    put(store, 1, body(MIB))
    reader = store.open(BLOB)
    reader.verify(0, MIB)
    assert reader.is_verified(0, MIB)
    assert reader.is_verified(5, 0)
    monkeypatch.setattr(mapped, "resident_bytes", lambda descriptor, offset, length: length - 4096)
    assert not reader.is_verified(0, MIB)
    reader.close()
    store.close()


def test_with_verify_always_nothing_counts_as_verified(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root), BlobStoreConfig(verify=VerifyMode.ALWAYS))
    store.make_segment(SEGMENT)
    put(store, 1, body(MIB))
    reader = store.open(BLOB)
    reader.verify(0, MIB)
    assert not reader.is_verified(0, MIB)
    reader.close()
    store.close()


def test_the_sidecar_cache_is_bounded_by_bytes(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root), BlobStoreConfig(cached_sidecar_bytes=10_000))
    store.make_segment(SEGMENT)
    for number in range(30):
        put(store, number, b"x")
        store.open(BlobId(SEGMENT, number)).close()
    assert 5 <= len(store._entries) <= 9
    store.close()


def test_a_blob_of_many_table_pages_is_checked_page_by_page(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    writer = store.create(BLOB)
    piece = memoryview(bytes(MIB))
    for _ in range(129):
        writer.write(piece)
    writer.finish(client_bytes=129 * MIB, recipe=PLAIN, md5=b"", origin=BlobOrigin(bucket="b", key="k"))
    with (root / "blobs" / f"{BLOB.text()}.data").open("r+b") as file:
        os.pwrite(file.fileno(), b"\x01", 100 * MIB)
    for _ in range(2):  # the second time the head comes from the cache
        reader = store.open(BLOB)
        reader.verify(0, 100 * MIB)
        reader.verify(128 * MIB, MIB)
        with pytest.raises(BlobDamaged, match="block 1600 "):
            reader.verify(60 * MIB, 69 * MIB)
        reader.close()
    store.close()


def test_a_store_without_its_directories_does_not_open(tmp_path: pathlib.Path) -> None:
    before = descriptors(tmp_path)
    with pytest.raises(StoreDamaged, match="blobs"):
        LocalBlobStore(str(tmp_path))
    (tmp_path / "blobs").mkdir()
    with pytest.raises(StoreDamaged, match="quarantine"):
        LocalBlobStore(str(tmp_path))
    assert descriptors(tmp_path) == before


def test_directories_are_made_once_and_a_file_in_their_place_is_refused(tmp_path: pathlib.Path) -> None:
    make_directories(str(tmp_path / "s"))
    make_directories(str(tmp_path / "s"))
    assert os.stat(tmp_path / "s" / "blobs").st_mode & 0o777 == 0o700
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "log").touch()
    with pytest.raises(NotADirectoryError):
        make_directories(str(tmp_path / "t"))


def test_a_segment_is_removed_only_when_it_is_empty(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    put(store, 1, b"x")
    assert not store.remove_segment(SEGMENT)
    store.delete([BLOB])
    assert store.remove_segment(SEGMENT)
    assert store.remove_segment(SEGMENT)
    assert store.list_segments() == []
    assert store.list_segment(SegmentId(1)) == []
    store.close()


class Crash(BaseException):
    """The process is gone: nothing after it runs, no clean-up either."""


class CrashFiles(SystemFiles):
    """Dies at the n-th call that changes something."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _step(self) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1

    def make_directory(self, name: str, *, directory: int | None = None) -> None:
        self._step()
        super().make_directory(name, directory=directory)

    def create(self, name: str, *, directory: int | None = None) -> int:
        self._step()
        return super().create(name, directory=directory)

    def pwrite(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        self._step()
        return super().pwrite(descriptor, memoryview(data)[: max(1, len(data) // 2)], offset)

    def sync_data(self, descriptor: int) -> None:
        self._step()
        super().sync_data(descriptor)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)


def test_pitfall_d19_a_crash_after_any_call_of_a_put_leaves_what_the_sweep_removes(root: pathlib.Path) -> None:
    for at in range(100):
        files = CrashFiles(at)
        store = LocalBlobStore(str(root), files=files)
        try:
            store.make_segment(SEGMENT)
            put(store, 1, body(100), piece=100)
        except Crash:
            rows = Rows()
            rows.segments[SEGMENT] = Segment(SEGMENT, closed=True, swept=False)
            later = LocalBlobStore(str(root))
            sweep_once(rows, later, rows.mark_swept, rows.free_chunks)
            assert list((root / "blobs").iterdir()) == []
            later.close()
            continue
        finally:
            store.close()
        break
    assert at > 15
    assert len(segment_files(root)) == 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(offset=st.integers(0, 300_000), length=st.integers(0, 300_000))
def test_any_range_is_read_as_it_was_written(root: pathlib.Path, offset: int, length: int) -> None:
    store = LocalBlobStore(str(root))
    data = body(300_001)
    if not store.list_segments():
        store.make_segment(SEGMENT)
        put(store, 1, data)
    length = min(length, len(data) - offset)
    reader = store.open(BLOB)
    buffer = bytearray(length)
    reader.read_into(offset, memoryview(buffer))
    assert buffer == data[offset : offset + length]
    reader.close()
    store.close()


def test_what_a_sidecar_said_is_remembered_once_its_blob_was_opened(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    made = put(store, 1, body(100))
    store.close()
    store = LocalBlobStore(str(root))
    assert store.remembered(BLOB) is None
    store.open(BLOB).close()
    assert store.remembered(BLOB) == made
    store.close()


def _lately_read(root: pathlib.Path, clock: ManualClock, data: bytes) -> LocalBlobStore:
    """A store that checks always, whose blob was read a moment ago."""
    store = LocalBlobStore(str(root), BlobStoreConfig(verify=VerifyMode.ALWAYS), clock=clock)
    store.make_segment(SEGMENT)
    put(store, 1, data)
    assert store.open_and_read_now(BLOB, 0, memoryview(bytearray(len(data)))) is None
    with contextlib.closing(store.open(BLOB)) as reader:
        reader.read_into(0, memoryview(bytearray(len(data))))
    if not reads_without_waiting(root.parent):
        pytest.skip("this file system does not read without waiting")
    return store


def _data_path(root: pathlib.Path) -> pathlib.Path:
    return root / "blobs" / f"{SEGMENT:016x}" / "00000001.data"


def test_what_was_read_lately_is_read_again_without_a_thread_and_checked_again(root: pathlib.Path) -> None:
    data = body(MIB + 5)
    clock = ManualClock()
    store = _lately_read(root, clock, data)
    found = bytearray(len(data))
    reader = store.open_and_read_now(BLOB, 0, memoryview(found))
    assert reader is not None and found == data
    tail = bytearray(5)
    assert reader.read_now(MIB, memoryview(tail)) and tail == data[MIB:]
    within = bytearray(100_000)
    assert reader.read_now(65_000, memoryview(within)) and within == data[65_000:165_000]
    with open(_data_path(root), "r+b") as file:
        file.write(bytes([data[0] ^ 1]))
    before = descriptors(root)
    assert store.open_and_read_now(BLOB, 0, memoryview(found)) is None
    assert descriptors(root) == before
    with pytest.raises(BlobDamaged):
        reader.read_into(0, memoryview(found))
    reader.close()
    store.close()


def test_what_was_read_more_than_a_minute_ago_waits_for_a_thread(root: pathlib.Path) -> None:
    data = body(1000)
    clock = ManualClock()
    store = _lately_read(root, clock, data)
    clock.advance(60.1)
    assert store.open_and_read_now(BLOB, 0, memoryview(bytearray(1000))) is None
    store.close()


def test_what_left_the_page_cache_is_not_read_on_the_loop(root: pathlib.Path) -> None:
    data = body(MIB)
    store = _lately_read(root, ManualClock(), data)

    def read_at_once() -> bool:
        found = bytearray(MIB)
        reader = store.open_and_read_now(BLOB, 0, memoryview(found))
        if reader is None:
            return False
        reader.close()
        assert found == data
        return True

    with open(_data_path(root), "rb") as file:
        assert is_refused_when_cold(file.fileno(), MIB, read_at_once)
    store.close()
