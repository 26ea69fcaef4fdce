"""What is particular to blobs on a disk: order of system calls, faults, directories, a crash after any call."""

from __future__ import annotations

import errno
import os
import pathlib

import pytest

from rs3d.errors import BlobDamaged, Rs3dError, SlowDown, StoreDamaged, StoreFull, StoreReadOnly
from rs3d.kernels import directio, mapped
from rs3d.kernels.directio import AlignedBuffer
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore
from rs3d.stores.files import SystemFiles
from rs3d.stores.layout import make_directories
from rs3d.stores.sweep import sweep_once
from rs3d.types.blobs import BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.recipe import PLAIN
from tests.conformance.blobstore import SEGMENT, body, put
from tests.stores.blobfolder import BLOB, descriptors, segment_files
from tests.stores.faultfiles import IO_ERROR, NO_SPACE, Fault, FaultFiles
from tests.stores.test_garbage import Rows, Segment

MIB = 1024 * 1024


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
