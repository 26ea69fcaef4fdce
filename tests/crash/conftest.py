from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory, where there is such a file system: the tests write a great many small files."""
    place = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="rs3d-crash-", dir=place if place.is_dir() else None))
    yield path
    shutil.rmtree(path, ignore_errors=True)
