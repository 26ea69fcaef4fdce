"""What many tests of the stores begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.committed import CommittedStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    made = CommittedStore(tmp_path)
    yield made
    made.close()
