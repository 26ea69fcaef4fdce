"""What of the catalog's file is in memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rs3d.kernels.mapped import resident_bytes
from rs3d.stores import catalogresidency
from rs3d.stores.catalogresidency import Residency, catalog_residency

MIB = 1 << 20


def made(directory: Path, size: int) -> int:
    """A file of the catalog's name, none of it in memory; its descriptor."""
    descriptor = os.open(directory / "data.mdb", os.O_RDWR | os.O_CREAT)
    for _ in range(size // MIB):
        os.write(descriptor, bytes(MIB))
    os.write(descriptor, bytes(size % MIB))
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    if resident_bytes(descriptor, 0, size):
        os.close(descriptor)
        pytest.skip("this file system keeps its pages")
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    return descriptor


def test_there_may_be_none(tmp_path: Path) -> None:
    assert catalog_residency(str(tmp_path)) == Residency(0, 0)
    (tmp_path / "data.mdb").touch()
    assert catalog_residency(str(tmp_path)) == Residency(0, 0)


def test_pages_in_memory_are_counted(tmp_path: Path) -> None:
    descriptor = made(tmp_path, 3 * MIB + 8192)
    assert catalog_residency(str(tmp_path)) == Residency(3 * MIB + 8192, 0)
    os.pread(descriptor, MIB, MIB)
    os.pread(descriptor, 8192, 3 * MIB)
    assert catalog_residency(str(tmp_path)) == Residency(3 * MIB + 8192, MIB + 8192)
    os.pread(descriptor, 4 * MIB, 0)
    assert catalog_residency(str(tmp_path)) == Residency(3 * MIB + 8192, 3 * MIB + 8192)
    os.close(descriptor)


def test_of_a_large_file_a_part_stands_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogresidency, "_MOST_WINDOWS", 4)
    descriptor = made(tmp_path, 16 * MIB)
    asked: list[int] = []

    def noted(of: int, offset: int, length: int) -> int:
        asked.append(offset // MIB)
        return resident_bytes(of, offset, length)

    monkeypatch.setattr(catalogresidency, "resident_bytes", noted)
    os.pread(descriptor, 8 * MIB, 0)
    assert catalog_residency(str(tmp_path)) == Residency(16 * MIB, 8 * MIB)
    assert asked == [0, 4, 8, 12]
    os.close(descriptor)
