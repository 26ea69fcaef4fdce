"""`rs3d.kernels.mapped`: right about good and bad blocks, and alive after every fault."""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.kernels import crc, mapped
from tests.oracles import crc as oracle
from tests.stores.coldpages import drop_pages

BLOCK = 4096


@pytest.fixture(params=mapped.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = mapped.variant()
    mapped.use_variant(request.param)
    yield request.param
    mapped.use_variant(before)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A file of 40,000 pseudo-random bytes: not a whole number of pages or blocks."""
    fd = os.open(tmp_path / "data", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, random.Random(7).randbytes(40_000), 0)
    yield fd
    os.close(fd)


def _table(fd: int, offset: int, length: int, block: int = BLOCK) -> bytes:
    return oracle.crc32c_blocks(os.pread(fd, length, offset), block)


def test_good_ranges_agree_with_the_oracle_at_any_offset(variant: str, file: int) -> None:
    for offset, length, block in [
        (0, 40_000, BLOCK),
        (1, 9999, 512),
        (4095, 2, 1),
        (8192, 8192, BLOCK),
        (39_999, 1, 9),
    ]:
        assert mapped.first_bad_block(file, offset, length, block, _table(file, offset, length, block)) == -1
    assert mapped.first_bad_block(file, 40_000, 0, BLOCK, b"") == -1


def test_ranges_around_the_border_between_reading_and_mapping_agree(variant: str, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "larger", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, random.Random(8).randbytes(1 << 20), 0)
    for length in ((512 << 10) - 1, 512 << 10, (512 << 10) + 1, 1 << 20):
        for block in (65536, 100_000, 1 << 30):
            body = os.pread(fd, length, 0)
            table = crc.crc32c_blocks(body, block)  # whose own oracle test this leans on: the twin takes seconds here
            assert mapped.first_bad_block(fd, 0, length, block, table) == -1
            last = len(table) // 4 - 1
            assert mapped.first_bad_block(fd, 0, length, block, table[:-1] + bytes([table[-1] ^ 1])) == last
    os.close(fd)


def test_the_first_bad_block_is_named(variant: str, file: int) -> None:
    table = _table(file, 0, 40_000)
    os.pwrite(file, b"\0", 39_999)
    assert mapped.first_bad_block(file, 0, 40_000, BLOCK, table) == 9
    os.pwrite(file, bytes([os.pread(file, 1, 5000)[0] ^ 1]), 5000)
    assert mapped.first_bad_block(file, 0, 40_000, BLOCK, table) == 1
    assert mapped.first_bad_block(file, BLOCK, 40_000 - BLOCK, BLOCK, table[4:]) == 0


def test_a_file_shorter_than_the_range_is_truncated(file: int) -> None:
    with pytest.raises(mapped.MappingFault) as caught:
        mapped.first_bad_block(file, 0, 40_001, BLOCK, b"\0" * 40)
    assert (caught.value.kind, caught.value.offset, caught.value.errno) == ("truncated", 40_000, errno.EIO)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.kind, copy.offset, copy.errno) == ("truncated", 40_000, errno.EIO)
    with pytest.raises(mapped.MappingFault) as caught:
        mapped.copy_from_mapping(file, 50_000, bytearray(1))
    assert caught.value.offset == 50_000


def test_a_mapping_cut_under_its_reader_faults_at_the_missing_page_and_the_process_lives(file: int) -> None:
    table = _table(file, 0, 40_000)
    with mmap.mmap(file, 40_000, prot=mmap.PROT_READ) as mapping:
        assert mapped.first_bad_block_of(mapping, BLOCK, table) == -1
        os.ftruncate(file, 3 * 4096)
        for _ in range(3):
            with pytest.raises(mapped.MappingFault) as caught:
                mapped.first_bad_block_of(mapping, BLOCK, table)
            assert (caught.value.kind, caught.value.offset) == ("unreadable", 3 * 4096)
        with pytest.raises(mapped.MappingFault) as caught:
            mapped.copy_from(mapping, 2 * 4096 + 5, bytearray(5000))
        assert caught.value.offset == 3 * 4096
        whole = bytearray(100)
        mapped.copy_from(mapping, 3 * 4096 - 100, whole)
        assert whole == os.pread(file, 100, 3 * 4096 - 100)


@pytest.mark.parametrize(("offset", "length", "block"), [(0, 40_000, 65_536), (1, 39_999, 20_001), (4095, 9000, 512)])
def test_what_is_copied_and_checked_agrees_with_the_oracle(
    variant: str, file: int, offset: int, length: int, block: int
) -> None:
    found, table = bytearray(length), _table(file, offset, length, block)
    with mmap.mmap(file, 0, prot=mmap.PROT_READ) as mapping:
        assert mapped.copy_checked(mapping, offset, found, block, table) == -1
        assert found == os.pread(file, length, offset)
        assert mapped.copy_checked(mapping, offset, bytearray(0), block, b"") == -1
        for at in (0, length // 2, length - 1):
            os.pwrite(file, bytes([found[at] ^ 1]), offset + at)
            assert mapped.copy_checked(mapping, offset, bytearray(length), block, table) == at // block
            os.pwrite(file, found[at : at + 1], offset + at)


def test_a_copy_to_be_checked_faults_where_the_file_was_truncated(file: int) -> None:
    table = _table(file, 4096, 20_000)
    with mmap.mmap(file, 0, prot=mmap.PROT_READ) as mapping:
        os.ftruncate(file, 3 * 4096)
        with pytest.raises(mapped.MappingFault) as caught:
            mapped.copy_checked(mapping, 4096, bytearray(20_000), BLOCK, table)
    assert caught.value.offset == 3 * 4096


def test_a_copy_to_be_checked_is_within_the_mapping_and_has_a_crc_for_each_block() -> None:
    with pytest.raises(ValueError, match="outside"):
        mapped.copy_checked(b"123", 1, bytearray(3), BLOCK, b"\0" * 4)
    with pytest.raises(ValueError, match="expected_crcs"):
        mapped.copy_checked(b"123", 0, bytearray(3), 1, b"\0" * 8)
    with pytest.raises(ValueError, match="positive"):
        mapped.copy_checked(b"123", 0, bytearray(3), 0, b"\0" * 4)


def test_a_file_truncated_while_it_is_read_by_descriptor_faults_or_is_refused(file: int) -> None:
    os.ftruncate(file, 0)
    os.ftruncate(file, 64 << 20)
    table = struct.pack("<I", oracle.CRC32C.update(bytes(BLOCK))) * (64 << 8)
    outcomes: list[object] = []
    started = threading.Event()

    def read() -> None:
        started.set()
        try:
            while True:
                outcomes.append(mapped.first_bad_block(file, 0, 64 << 20, BLOCK, table))
        except mapped.MappingFault as fault:
            outcomes.append(fault.kind)

    reader = threading.Thread(target=read)
    reader.start()
    started.wait()
    os.ftruncate(file, 8192)
    reader.join()
    assert outcomes[-1] == "truncated"
    assert set(outcomes[:-1]) <= {-1}


def test_faults_in_one_thread_leave_readers_in_others_alone(file: int, tmp_path: Path) -> None:
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.ftruncate(other, 40_000)
    table = _table(file, 0, 40_000)
    answers: list[int] = []
    with mmap.mmap(other, 40_000, prot=mmap.PROT_READ) as doomed:
        os.ftruncate(other, 0)
        reader = threading.Thread(
            target=lambda: answers.extend(mapped.first_bad_block(file, 0, 40_000, BLOCK, table) for _ in range(300))
        )
        reader.start()
        for _ in range(300):
            with pytest.raises(mapped.MappingFault):
                mapped.first_bad_block_of(doomed, BLOCK, table)
        reader.join()
    os.close(other)
    assert answers == [-1] * 300


def test_copies_equal_what_read_gives(file: int) -> None:
    for offset, length in [(0, 40_000), (1, 1), (4090, 13), (39_990, 10), (12, 0)]:
        dest = bytearray(length)
        mapped.copy_from_mapping(file, offset, dest)
        assert dest == os.pread(file, length, offset)


def test_residency_counts_whole_pages_clipped_to_the_range_and_the_file(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "sparse", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 20 << 20)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead: what is touched is what is resident
    assert mapped.resident_bytes(fd, 0, 20 << 20) == 0
    os.pwrite(fd, b"x", 4096 * 5)
    os.pwrite(fd, b"x", (18 << 20) + 1)
    assert mapped.resident_bytes(fd, 0, 20 << 20) == 8192
    assert mapped.resident_bytes(fd, 4096 * 5 + 10, 100) == 100
    assert mapped.resident_bytes(fd, 4096 * 5 - 10, 100) == 90
    assert mapped.resident_bytes(fd, 4096 * 6, 4096) == 0
    os.ftruncate(fd, 4096 * 5 + 1)
    assert mapped.resident_bytes(fd, 4096 * 5, 4096) == 1
    assert mapped.resident_bytes(fd, 1 << 40, 4096) == 0
    os.close(fd)


def test_impossible_arguments_are_refused(file: int) -> None:
    for offset, length in [(-1, 1), (0, -1), (1, (1 << 63) - 1)]:
        with pytest.raises(ValueError, match="not a range"):
            mapped.first_bad_block(file, offset, length, BLOCK, b"")
        with pytest.raises(ValueError, match="not a range"):
            mapped.resident_bytes(file, offset, length)
    with pytest.raises(ValueError, match="block_bytes"):
        mapped.first_bad_block(file, 0, 10, 0, b"")
    for table in (b"", b"\0" * 5, b"\0" * 8):
        with pytest.raises(ValueError, match="expected_crcs"):
            mapped.first_bad_block(file, 0, 10, BLOCK, table)
        with pytest.raises(ValueError, match="expected_crcs"):
            mapped.first_bad_block_of(b"123", BLOCK, table)
    with pytest.raises(ValueError, match="outside"):
        mapped.copy_from(b"123", 1, bytearray(3))
    with pytest.raises(OSError, match="Bad file"):
        mapped.first_bad_block(-1, 0, 10, BLOCK, b"\0" * 4)


def test_a_pipe_cannot_be_mapped() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(mapped.MappingFault):  # its size is 0
        mapped.copy_from_mapping(reader, 0, bytearray(1))
    os.close(reader)


FOREIGN_FAULT = """
import faulthandler, mmap, os, sys
from rs3d.kernels import mapped
def install(): mapped.first_bad_block_of(b"", 1, b"")
{steps}
fd = os.memfd_create("m"); os.ftruncate(fd, 4096)
m = mmap.mmap(fd, 4096); os.ftruncate(fd, 0)
print("touching", flush=True)
m[0]
print("alive")
"""


@pytest.mark.parametrize(
    ("steps", "reports"),
    [
        ("install()", 0),
        ("faulthandler.enable(); install()", 1),
        ("install(); faulthandler.enable(); install()", 1),
        ("install(); faulthandler.enable()", 1),
        ("import signal; signal.signal(signal.SIGBUS, signal.SIG_IGN); install()", 0),
    ],
)
def test_a_fault_that_is_not_ours_goes_to_the_handler_before_and_kills_as_ever(steps: str, reports: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("PYTHONFAULTHANDLER", None)
    run = subprocess.run(
        [sys.executable, "-c", FOREIGN_FAULT.format(steps=steps)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert run.returncode == -signal.SIGBUS
    assert run.stdout == "touching\n"
    assert run.stderr.count("Fatal Python error: Bus error") == reports


def test_a_signal_sent_by_somebody_reaches_the_python_handler_every_time() -> None:
    seen: list[int] = []
    previous = signal.signal(signal.SIGBUS, lambda number, frame: seen.append(number))
    try:
        mapped.first_bad_block_of(b"", 1, b"")
        for _ in range(3):
            signal.raise_signal(signal.SIGBUS)
        assert seen == [signal.SIGBUS] * 3
    finally:
        signal.signal(signal.SIGBUS, previous)


def test_a_held_mapping_is_the_range_of_the_file_read_only(file: int) -> None:
    for offset, length in ((0, 40_000), (1, 9999), (4095, 2), (39_999, 1)):
        mapping = mapped.HeldMapping(file, offset, length)
        with memoryview(mapping) as view:
            assert view.readonly and view == os.pread(file, length, offset)
        assert mapping.is_whole()
        mapping.close()


def test_pages_that_cannot_be_had_become_zeros_in_the_held_mapping_alone(file: int) -> None:
    before = os.pread(file, 40_000, 0)
    cut, other = mapped.HeldMapping(file, 0, 40_000), mapped.HeldMapping(file, 0, 4096)
    os.ftruncate(file, 8192)
    assert not cut.is_whole() and other.is_whole()
    with memoryview(cut) as view, memoryview(other) as untouched:
        assert view[:8192] == before[:8192] and not any(view[8192:])
        assert untouched == before[:4096]
    os.pwrite(file, before, 0)
    assert not cut.is_whole(), "a page of zeros stays one"
    again = mapped.HeldMapping(file, 0, 40_000)
    assert again.is_whole() and bytes(again) == before


def test_a_held_mapping_out_of_which_a_codec_reads_in_c_survives_too(file: int) -> None:
    mapping = mapped.HeldMapping(file, 0, 40_000)
    os.ftruncate(file, 0)
    with memoryview(mapping) as view:
        assert crc.crc32c(view) == crc.crc32c(bytes(40_000))


def test_a_page_that_is_not_in_memory_makes_a_held_mapping_not_whole(file: int) -> None:
    os.fsync(file)
    drop_pages(file, 40_000)
    mapping = mapped.HeldMapping(file, 0, 40_000)
    assert not mapping.is_whole()
    os.pread(file, 40_000, 0)
    assert mapping.is_whole()


def test_a_held_mapping_in_use_is_not_closed_and_a_closed_one_is_not_used(file: int) -> None:
    mapping = mapped.HeldMapping(file, 0, 10)
    view = memoryview(mapping)
    with pytest.raises(BufferError, match="1 views"):
        mapping.close()
    view.release()
    mapping.close()
    mapping.close()
    with pytest.raises(ValueError, match="closed"):
        memoryview(mapping)
    with pytest.raises(ValueError, match="closed"):
        mapping.is_whole()


def test_impossible_mappings_are_refused(file: int) -> None:
    for offset, length in ((-1, 1), (0, -1), (0, 0)):
        with pytest.raises(ValueError, match=r"not a range|no bytes"):
            mapped.HeldMapping(file, offset, length)
    with pytest.raises(mapped.MappingFault, match="truncated"):
        mapped.HeldMapping(file, 39_999, 2)
    with pytest.raises(OSError, match="descriptor"):
        mapped.HeldMapping(-1, 0, 1)


def test_only_so_many_mappings_are_held_and_closing_one_makes_room(file: int) -> None:
    held: list[mapped.HeldMapping] = []
    with pytest.raises(OSError, match="too many mappings") as caught:
        held.extend(mapped.HeldMapping(file, 0, 1) for _ in range(1025))
    assert caught.value.errno == errno.ENFILE
    held.clear()
    mapped.HeldMapping(file, 0, 1).close()


def test_a_variant_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no variant"):
        mapped.use_variant("abacus")


def test_selftest_counts_its_checks() -> None:
    assert mapped.selftest() == 5
