"""STORE.md rule 22: room that is kept, and who is refused for it."""

from __future__ import annotations

import errno
import os
import pathlib

import lmdb
import pytest

from rs3d.clock import ManualClock
from rs3d.errors import StoreFull
from rs3d.stores.ballast import Ballast, SpaceConfig, StoreReserve, WriteAdmission, writable_descriptor_of
from rs3d.stores.files import SystemFiles
from rs3d.stores.layout import make_directories
from tests.stores.faultfiles import IO_ERROR, NO_SPACE, Fault, FaultFiles

MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    make_directories(str(tmp_path))
    return str(tmp_path)


def allocated(root: str) -> int:
    return os.stat(os.path.join(root, "staging", "ballast")).st_blocks * 512


def test_store_rule_22_ballast_is_reserved_released_and_refilled(root: str) -> None:
    ballast = Ballast(root, 3 * MIB)
    assert not ballast.is_filled
    assert ballast.fill()
    assert allocated(root) >= 3 * MIB
    ballast.release()
    ballast.release()
    assert not ballast.is_filled
    assert ballast.fill()
    assert ballast.fill()


def test_store_rule_22_a_ballast_that_does_not_fit_says_so(root: str) -> None:
    files = FaultFiles(Fault("reserve", NO_SPACE))
    assert not Ballast(root, MIB, files=files.as_files()).fill()
    files.faults[0] = Fault("reserve", IO_ERROR)
    with pytest.raises(OSError, match="Input/output"):
        Ballast(root, MIB, files=files.as_files()).fill()


def test_where_blocks_cannot_be_reserved_zeros_are_written(root: str) -> None:
    files = FaultFiles(Fault("reserve", errno.EOPNOTSUPP))
    assert Ballast(root, 2 * MIB + 5, files=files.as_files()).fill()
    assert allocated(root) >= 2 * MIB


def test_store_rule_22_files_that_grow_have_blocks_behind_their_end(root: str) -> None:
    path = os.path.join(root, "growing")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"x" * 5000)
    reserve = StoreReserve(Ballast(root, MIB), (descriptor,), 2 * MIB)
    assert reserve.keep() is None
    status = os.fstat(descriptor)
    assert status.st_size == 5000
    assert status.st_blocks * 512 >= 2 * MIB
    os.close(descriptor)


def test_store_rule_22_the_catalog_grows_into_its_reserve(root: str) -> None:
    environment = lmdb.open(os.path.join(root, "catalog"), map_size=16 * MIB)
    path = os.path.join(root, "catalog", "data.mdb")
    descriptor = writable_descriptor_of(path)
    assert descriptor is not None
    assert StoreReserve(Ballast(root, 0), (descriptor,), 4 * MIB).keep() is None
    assert os.stat(path).st_blocks * 512 >= 4 * MIB
    with environment.begin(write=True) as transaction:
        for number in range(1000):
            transaction.put(str(number).encode(), bytes(1000))
    environment.close()
    assert writable_descriptor_of(path) is None
    environment = lmdb.open(os.path.join(root, "catalog"), map_size=16 * MIB, readonly=True)
    assert environment.stat()["entries"] == 1000
    environment.close()


def test_store_rule_22_ballast_is_lent_to_compaction_alone(root: str) -> None:
    ballast = Ballast(root, MIB)
    reserve = StoreReserve(ballast, (), 0)
    assert reserve.keep() is None
    with reserve.lend():
        assert not ballast.is_filled
        assert isinstance(reserve.keep(), StoreFull)
        assert not ballast.is_filled
    assert reserve.keep() is None
    assert ballast.is_filled


def test_store_rule_22_a_reserve_that_cannot_be_made_whole_refuses_what_adds(root: str) -> None:
    files = FaultFiles(Fault("reserve", NO_SPACE))
    descriptor = os.open(root, os.O_RDONLY)
    reserve = StoreReserve(Ballast(root, MIB, files=files.as_files()), (descriptor,), MIB, files=files.as_files())
    refusal = reserve.keep()
    assert isinstance(refusal, StoreFull)
    assert refusal.free_bytes > 0
    files.faults[0] = Fault("reserve", IO_ERROR)
    with pytest.raises(OSError, match="Input/output"):
        reserve.keep()
    os.close(descriptor)


class SmallDisk(SystemFiles):
    """A file system that says what the test wants."""

    free_bytes = 100 * MIB
    inodes = 10_000
    free_inodes = 5_000
    asked = 0

    def file_system(self, descriptor: int) -> os.statvfs_result:
        self.asked += 1
        fields = (4096, 4096, 10**6, 0, self.free_bytes // 4096, self.inodes, 0, self.free_inodes, 0, 255)
        return os.statvfs_result(fields)


def guard_of(root: str, disk: SmallDisk, clock: ManualClock) -> WriteAdmission:
    config = SpaceConfig(minimum_free_bytes=64 * MIB, minimum_free_inodes=1000)
    return WriteAdmission(root, config, clock=clock, files=disk)


def test_store_rule_22_writes_are_refused_before_the_disk_is_full_and_recover(root: str) -> None:
    disk, clock = SmallDisk(), ManualClock()
    guard = guard_of(root, disk, clock)
    guard.require(30 * MIB)
    with pytest.raises(StoreFull, match="disk space"):
        guard.require(10 * MIB)  # what was admitted a moment ago counts, though it may not be written yet
    guard.require(6 * MIB)
    assert disk.asked == 1
    clock.advance(1)
    guard.require(30 * MIB)
    disk.free_bytes = 0
    guard.forget()
    with pytest.raises(StoreFull):
        guard.require(0)
    disk.free_bytes = 100 * MIB
    clock.advance(1)
    guard.require(0)


def test_store_rule_22_inodes_count_where_the_file_system_counts_them(root: str) -> None:
    disk, clock = SmallDisk(), ManualClock()
    disk.free_inodes = 1001
    guard = guard_of(root, disk, clock)
    with pytest.raises(StoreFull, match="inodes"):
        guard.require(1)
    disk.inodes = disk.free_inodes = 0
    guard.forget()
    guard.require(1)
