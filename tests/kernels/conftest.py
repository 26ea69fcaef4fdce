"""What several kernels' tests need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.nowait import reads_without_waiting


@pytest.fixture
def resident_file(tmp_path: Path) -> Iterator[int]:
    """A new file, empty, whose pages stay in the page cache and are read from there without waiting."""
    if not reads_without_waiting(tmp_path):
        pytest.skip("this file system does not read without waiting")
    fd = os.open(tmp_path / "resident", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)
