"""Direct transfers: the bytes of ordinary ones at every alignment, and a way back where they are refused."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.kernels import directio, mapped
from rs3d.kernels.directio import Access, AlignedBuffer, DirectFile
from tests.ownprocess import own_descriptors
from tests.stores.coldpages import drop_pages, is_refused_when_cold

PAGE = directio.DEFAULT_ALIGN_BYTES


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    made = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    yield made
    os.close(made)


@pytest.fixture(autouse=True, params=["auto", "buffered"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = directio.variant()
    directio.use_variant(request.param)
    yield request.param
    directio.use_variant(before)


def aligned(data: bytes, shift: int = 0) -> memoryview:
    """The bytes in an aligned buffer, or `shift` bytes off."""
    view = memoryview(AlignedBuffer(len(data) + shift + 1))[shift : shift + len(data)]
    view[:] = data
    return view


@pytest.mark.parametrize("align", [512, 1024, 4096, 65536])
def test_buffers_are_aligned_zeroed_and_outlive_their_object(align: int) -> None:
    buffer = AlignedBuffer(10_001, align)
    view = memoryview(buffer)
    assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % align == 0
    assert len(view) == len(buffer) == buffer.size_bytes == 10_001
    assert buffer.align_bytes == align
    assert not any(view)
    del buffer
    view[10_000] = 7
    assert view[10_000] == 7


@pytest.mark.parametrize(("size", "align"), [(0, 4096), (-1, 4096), (10, 0), (10, 256), (10, 4095), (10, 131072)])
def test_impossible_buffers_are_refused(size: int, align: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        AlignedBuffer(size, align)


@pytest.mark.parametrize("offset", [0, 1, 511, PAGE, PAGE + 100])
@pytest.mark.parametrize("length", [0, 1, 511, 512, PAGE, 3 * PAGE, 3 * PAGE + 17, 70_000])
@pytest.mark.parametrize("shift", [0, 1, 512])
def test_bytes_written_and_read_at_every_alignment_are_right(fd: int, offset: int, length: int, shift: int) -> None:
    data = random.Random(length).randbytes(length)
    os.pwrite(fd, b"\xee" * (offset + length + 9), 0)
    with DirectFile(fd, Access.WRITE) as file:
        assert file.write_all([aligned(data, shift)], offset) == length
    assert os.pread(fd, offset + length + 9, 0) == b"\xee" * offset + data + b"\xee" * 9
    with DirectFile(fd, Access.READ) as file:
        found = aligned(bytes(length), shift)
        assert file.read_into([found], offset) == length
    assert found == data


def test_many_buffers_are_written_and_read_one_after_the_other(fd: int) -> None:
    chosen = random.Random(1)
    pieces = [chosen.randbytes(chosen.choice([0, 1, 100, PAGE, 2 * PAGE])) for _ in range(200)]
    whole = b"".join(pieces)
    with DirectFile(fd, Access.WRITE) as file:
        assert file.write_all(map(aligned, pieces), 0) == len(whole)
    found = [aligned(bytes(len(piece))) for piece in pieces]
    with DirectFile(fd, Access.READ) as file:
        assert file.read_into(found, 0) == len(whole)
    assert b"".join(found) == whole


def test_reading_beyond_the_end_returns_what_there_is(fd: int) -> None:
    os.pwrite(fd, b"x" * (2 * PAGE + 5), 0)
    with DirectFile(fd, Access.READ) as file:
        assert file.read_into([aligned(bytes(4 * PAGE))], 0) == 2 * PAGE + 5
        assert file.read_into([aligned(bytes(PAGE))], 2 * PAGE) == 5
        assert file.read_into([aligned(bytes(PAGE))], 8 * PAGE) == 0


def test_aligned_bytes_go_past_the_cache_and_odd_ones_through_it(fd: int, variant: str) -> None:
    with DirectFile(fd, Access.WRITE) as file:
        file.write_all([aligned(bytes(2 * PAGE + 3))], 0)
        assert file.direct_bytes == (2 * PAGE if file.is_direct else 0)
        if variant == "buffered":
            assert not file.is_direct
        else:
            assert file.align_bytes >= 512


def test_a_file_system_that_refuses_is_read_through_the_cache(variant: str) -> None:
    fd = os.open("/proc/version", os.O_RDONLY)
    try:
        with DirectFile(fd, Access.READ) as file:
            assert not file.is_direct
            found = aligned(bytes(PAGE))
            length = file.read_into([found], 0)
        assert bytes(found[:length]) == Path("/proc/version").read_bytes()
        directio.use_variant("direct")
        with pytest.raises(OSError, match="Invalid") as caught:
            DirectFile(fd, Access.READ)
        assert caught.value.errno == errno.EINVAL
    finally:
        os.close(fd)


@pytest.mark.parametrize("shift", [0, 1])
def test_one_write_takes_the_whole_blocks_past_the_cache_and_the_next_the_rest(
    fd: int, shift: int, variant: str
) -> None:
    data = random.Random(3).randbytes(20 * PAGE + 5)
    view, offset, written = aligned(data, shift), 0, []
    while offset < len(data):
        written.append(directio.write_past_cache(fd, view[offset:], offset))
        offset += written[-1]
    expected = [len(data)] if variant == "buffered" else [20 * PAGE, 5]
    assert written == expected
    assert os.pread(fd, len(data) + 1, 0) == data
    assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT


@pytest.mark.parametrize("shift", [0, 1])
def test_what_was_written_past_the_cache_is_not_in_it(fd: int, shift: int, variant: str) -> None:
    directio.write_past_cache(fd, aligned(bytes(256 * PAGE), shift), 0)
    assert mapped.resident_bytes(fd, 0, 256 * PAGE) == (256 * PAGE if variant == "buffered" else 0)


def test_bytes_at_an_odd_address_are_moved_a_mib_at_a_time(fd: int, variant: str) -> None:
    mib = 256 * PAGE
    data = random.Random(4).randbytes(2 * mib + PAGE)
    view, offset, written = aligned(data, 1), 0, []
    while offset < len(data):
        written.append(directio.write_past_cache(fd, view[offset:], offset))
        offset += written[-1]
    assert written == ([len(data)] if variant == "buffered" else [mib, mib, PAGE])
    assert os.pread(fd, len(data) + 1, 0) == data


def test_writers_at_odd_addresses_do_not_share_what_bytes_are_moved_to(tmp_path: Path, variant: str) -> None:
    """More of them than there is memory kept for, each several times with bytes of its own."""
    made: list[bool] = []

    def write(number: int) -> None:
        file = os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT)
        try:
            for turn in range(8):
                data = bytes([16 * number + turn]) * (1024 * 1024 - PAGE * number)
                directio.write_past_cache(file, aligned(data, 1), 0)
                made.append(os.pread(file, len(data) + 1, 0)[: len(data)] == data)
        finally:
            os.close(file)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [True] * 64


def test_a_write_past_the_cache_reports_its_errno(fd: int) -> None:
    read_only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file") as caught:
            directio.write_past_cache(read_only, aligned(bytes(PAGE)), 0)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(ValueError, match="negative"):
            directio.write_past_cache(fd, b"x", -1)
    finally:
        os.close(read_only)


def test_an_unlinked_file_can_be_opened_a_second_time(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDWR | os.O_TMPFILE)
    try:
        with DirectFile(fd, Access.WRITE) as file:
            file.write_all([aligned(b"a" * PAGE), b"tail"], 0)
        assert os.pread(fd, 2 * PAGE, 0) == b"a" * PAGE + b"tail"
    finally:
        os.close(fd)


def test_the_second_descriptor_is_closed(fd: int) -> None:
    before = len(own_descriptors())
    file = DirectFile(fd, Access.READ)
    file.close()
    file.close()
    DirectFile(fd, Access.READ)
    assert len(own_descriptors()) == before
    with pytest.raises(ValueError, match="closed"):
        file.read_into([bytearray(1)], 0)


def test_wrong_uses_are_refused(fd: int) -> None:
    with DirectFile(fd, Access.READ) as file:
        with pytest.raises(ValueError, match="for reading"):
            file.write_all([b"x"], 0)
        with pytest.raises(ValueError, match="not a range"):
            file.read_into([bytearray(1)], -1)
        with pytest.raises(BufferError):
            file.read_into([b"x"], 0)  # type: ignore[list-item, unused-ignore]
        with pytest.raises(ValueError, match="more than"):
            file.read_into([bytearray(1)] * (directio.VECTORS_MAX + 1), 0)
    with DirectFile(fd, Access.WRITE) as file, pytest.raises(ValueError, match="for writing"):
        file.read_into([bytearray(1)], 0)
    with pytest.raises(ValueError, match="no variant"):
        directio.use_variant("fast")
    directio.use_variant("auto")
    with pytest.raises(OSError, match="No such file"):
        DirectFile(10_000, Access.READ)


def test_a_failing_write_raises_its_errno() -> None:
    fd = os.open("/dev/full", os.O_RDWR)
    try:
        with DirectFile(fd, Access.WRITE) as file, pytest.raises(OSError, match="No space") as caught:
            file.write_all([b"x"], 0)
        assert caught.value.errno == errno.ENOSPC
    finally:
        os.close(fd)


def test_the_kernel_tells_alignments_that_are_powers_of_two_or_nothing(fd: int) -> None:
    told = directio.direct_alignment(fd)
    assert told is None or all(align & (align - 1) == 0 for align in told)
    with pytest.raises(OSError, match="Bad file"):
        directio.direct_alignment(10_000)


def test_the_cache_is_read_without_waiting(fd: int) -> None:
    os.pwrite(fd, b"cached", 0)
    found = bytearray(10)
    assert directio.read_nowait(fd, found, 0) == 6
    assert found[:6] == b"cached"
    assert directio.read_nowait(fd, found, 6) == 0
    with pytest.raises(ValueError, match="not a range"):
        directio.read_nowait(fd, found, -1)


def test_a_cold_page_is_reported_instead_of_waited_for(fd: int) -> None:
    os.pwrite(fd, bytes(1 << 20), 0)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        assert 0 < directio.read_nowait(fd, bytearray(PAGE), 512 * 1024) <= PAGE  # a file system that keeps its pages
    except BlockingIOError as error:
        assert error.errno == errno.EAGAIN


def test_what_is_in_memory_is_read_whole_up_to_the_end_of_the_file(fd: int) -> None:
    os.pwrite(fd, b"0123456789", 0)
    assert directio.pread_resident(fd, 4, 3) == b"3456"
    assert directio.pread_resident(fd, 100, 8) == b"89"
    assert directio.pread_resident(fd, 1, 10) == directio.pread_resident(fd, 0, 0) == b""
    for length, offset in ((-1, 0), (1, -1)):
        with pytest.raises(ValueError, match=r"length|range"):
            directio.pread_resident(fd, length, offset)
    with pytest.raises(OSError, match="Bad file"):
        directio.pread_resident(10_000, 1, 0)


def test_what_is_not_all_in_memory_is_not_read(fd: int) -> None:
    os.pwrite(fd, bytes(1 << 20), 0)
    os.fsync(fd)
    drop_pages(fd, 1 << 20)
    os.pread(fd, 1, 512 * 1024)  # and what the kernel reads ahead, which is not all
    assert directio.pread_resident(fd, 1, 512 * 1024) == b"\0"

    def answers(length: int, offset: int) -> bool:
        found = directio.pread_resident(fd, length, offset)
        assert found is None or found == bytes(length)
        return found is not None

    assert is_refused_when_cold(fd, 1 << 20, lambda: answers(1 << 20, 0))
    assert is_refused_when_cold(fd, 1 << 20, lambda: answers(1 << 19, 1 << 19))


def test_the_self_test_passes() -> None:
    assert directio.selftest() == 3
