"""Reading blobs of a disk: what was verified and for how long, what is remembered, what waits for no thread."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rs3d.clock import ManualClock
from rs3d.errors import BlobDamaged
from rs3d.kernels import mapped, posix
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore, VerifyMode
from rs3d.stores.files import open_in_memory
from rs3d.types.blobs import BlobOrigin
from rs3d.types.identifiers import BlobId
from rs3d.types.recipe import PLAIN
from tests.conformance.blobstore import SEGMENT, body, put
from tests.stores.blobfolder import BLOB, descriptors
from tests.stores.coldpages import is_refused_when_cold
from tests.stores.nowait import reads_without_waiting

MIB = 1024 * 1024


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


@pytest.fixture
def lapsed(root: pathlib.Path) -> Iterator[LocalBlobStore]:
    """A store whose blob of 1 MiB + 5 was verified more than a minute ago, and is in memory."""
    clock = ManualClock()
    store = LocalBlobStore(str(root), clock=clock)
    store.make_segment(SEGMENT)
    put(store, 1, body(MIB + 5))
    with contextlib.closing(store.open(BLOB)) as reader:
        reader.verify(0, MIB + 5)
    clock.advance(60.1)
    yield store
    store.close()


def test_a_mib_in_memory_is_verified_again_without_a_thread(root: pathlib.Path, lapsed: LocalBlobStore) -> None:
    with contextlib.closing(lapsed.open(BLOB)):  # its name and inode are in memory now
        directory = os.open(_data_path(root).parent, os.O_RDONLY)
        try:
            os.close(open_in_memory(_data_path(root).name, directory))
        except OSError as error:  # before Linux 5.12 nothing tells, of some file systems nothing ever does
            pytest.skip(f"whether a name is in memory is not to be known here: {error}")
        finally:
            os.close(directory)
    reader = lapsed.open_verified(BLOB, 1000, MIB - 1000)
    assert reader is not None
    assert reader.is_verified(0, MIB) and not reader.is_verified(MIB, 5)
    reader.close()
    assert lapsed.open_verified(BLOB, 0, MIB + 5) is None  # too long


def test_what_is_damaged_is_left_to_the_thread_that_says_so(root: pathlib.Path, lapsed: LocalBlobStore) -> None:
    with open(_data_path(root), "r+b") as file:
        file.write(bytes([body(1)[0] ^ 1]))
    before = descriptors(root)
    assert lapsed.open_verified(BLOB, 0, MIB) is None
    assert descriptors(root) == before
    with contextlib.closing(lapsed.open(BLOB)) as reader, pytest.raises(BlobDamaged):
        reader.verify(0, MIB)


def test_what_is_not_in_memory_is_not_verified_on_the_loop(
    root: pathlib.Path, lapsed: LocalBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors(root)
    with monkeypatch.context() as patched:
        patched.setattr(mapped, "resident_bytes", lambda descriptor, offset, length: length - 4096)
        assert lapsed.open_verified(BLOB, 0, MIB) is None

    def not_cached(*_: object, **__: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(posix, "openat2", not_cached)
    assert lapsed.open_verified(BLOB, 0, MIB) is None
    assert descriptors(root) == before


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
