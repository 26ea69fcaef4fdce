"""What many tests of the stores begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.stores.layout import make_directories
from rs3d.types.identifiers import BucketId
from tests.stores.committed import CommittedStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    made = CommittedStore(tmp_path)
    yield made
    made.close()


@pytest.fixture
def bucket(store: CommittedStore) -> BucketId:
    return store.bucket()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folders of a store without a catalog."""
    make_directories(str(tmp_path / "store"))
    return tmp_path / "store"
