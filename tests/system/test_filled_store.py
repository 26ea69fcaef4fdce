"""perf/fillstore.py: the store that it makes is a store in every respect, and what it cannot multiply it refuses."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import trio

from rs3d.engine import StorageEngine
from rs3d.engine.requests import BucketRequest
from rs3d.errors import InvalidArgument
from rs3d.stores.catalogtables import Access, open_tables
from rs3d.stores.check import CheckMode, assert_files_reachable, check_store
from rs3d.testing import MiniProcess
from tests.stores.committed import live_bytes, rows_without_positions
from tests.system.races import caller_of

OBJECTS = 1_000
BODY = bytes(range(64))
SEGMENT_BYTES = 128 << 10
"""A third of the log that the objects make."""


@pytest.fixture(scope="module")
def fillstore() -> Iterator[ModuleType]:
    """The module: perf/ is no package."""
    perf = str(Path(__file__).parents[2] / "perf")
    sys.path.insert(0, perf)
    try:
        import fillstore

        yield fillstore
    finally:
        sys.path.remove(perf)


def make_bucket(root: Path, request: BucketRequest | None = None) -> None:
    async def make() -> None:
        async with StorageEngine.open(root) as engine:
            await engine.create_bucket("perf", request or BucketRequest())

    trio.run(make)


@pytest.fixture(scope="module")
def filled(fillstore: ModuleType, module_path: Path) -> Path:
    """A closed store with all objects; tests work on copies."""
    root = module_path / "store"
    make_bucket(root)
    made = fillstore.fill(str(root), "perf", fillstore.keys_in_order(OBJECTS), BODY, SEGMENT_BYTES)
    assert made == OBJECTS
    return root


@pytest.fixture
def root(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "store")
    return tmp_path / "store"


def test_a_check_of_every_byte_finds_nothing(root: Path) -> None:
    report = assert_files_reachable(str(root))
    assert (report.versions, report.buckets) == (OBJECTS, 1)
    assert len(list((root / "log").glob("*.meta"))) >= 4


def test_a_rebuild_from_the_log_gives_the_same_tables(root: Path) -> None:
    def rows() -> tuple[dict[str, dict[bytes, bytes]], int]:
        tables = open_tables(str(root / "catalog"), access=Access.READ)
        try:
            return rows_without_positions(tables), live_bytes(tables)
        finally:
            tables.environment.close()

    before = rows()
    assert check_store(str(root), mode=CheckMode.REBUILD).is_clean
    assert rows() == before
    assert len(before[0]["versions"]) == len(before[0]["current"]) == OBJECTS


def test_a_daemon_serves_it_and_takes_more(root: Path, fillstore: ModuleType) -> None:
    key = fillstore.key_of(123)
    with MiniProcess(root) as server:
        root_key = caller_of(server)
        page = root_key.get("/perf?list-type=2&max-keys=1000").texts("Contents/Key")
        assert page == list(fillstore.keys_in_order(OBJECTS))
        assert root_key.get(f"/perf/{key}").body == BODY
        assert root_key.head(f"/perf/{key}").headers["content-length"] == str(len(BODY))
        assert root_key.put(f"/perf/{key}", b"another").status == 200
        assert root_key.get(f"/perf/{key}").body == b"another"
        assert root_key.put("/perf/k/between", b"new").status == 200
        assert root_key.delete(f"/perf/{fillstore.key_of(7)}").status == 204
        assert root_key.get(f"/perf/{fillstore.key_of(7)}").status == 404
    assert assert_files_reachable(str(root)).versions == OBJECTS


def test_keys_of_unlike_lengths_are_multiplied_alike(fillstore: ModuleType, tmp_path: Path) -> None:
    make_bucket(tmp_path)
    keys = ["a", "a" * 40, "k" * 3, "token", "ü" * 200]
    fillstore.fill(str(tmp_path), "perf", keys, b"")
    assert assert_files_reachable(str(tmp_path)).versions == len(keys)
    assert check_store(str(tmp_path), mode=CheckMode.REBUILD).is_clean


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["b", "c", "a"], "in order"),
        (["a", "a"], "in order"),
        (["a", "k" * 463], "1 to 462 bytes"),
        (["a", ""], "1 to 462 bytes"),
        (["a", "b\0"], "none of zero"),
    ],
)
def test_keys_that_cannot_be_appended_are_refused(
    fillstore: ModuleType, tmp_path: Path, keys: list[str], reason: str
) -> None:
    make_bucket(tmp_path)
    with pytest.raises(InvalidArgument, match=reason):
        fillstore.fill(str(tmp_path), "perf", keys, BODY)
    assert assert_files_reachable(str(tmp_path)).versions == 1


def test_a_body_in_a_file_is_refused(fillstore: ModuleType, tmp_path: Path) -> None:
    make_bucket(tmp_path)
    with pytest.raises(InvalidArgument, match="only plain, inlined objects"):
        fillstore.fill(str(tmp_path), "perf", ["a", "b"], bytes(100_000))


def test_a_bucket_with_settings_is_refused(fillstore: ModuleType, tmp_path: Path) -> None:
    make_bucket(tmp_path, BucketRequest(settings=(("quota_objects", "5"),)))
    with pytest.raises(InvalidArgument, match="without settings"):
        fillstore.fill(str(tmp_path), "perf", ["a", "b"], BODY)


def test_an_older_bucket_is_refused(fillstore: ModuleType, tmp_path: Path) -> None:
    """Its rows lie before those of the newer one."""
    make_bucket(tmp_path)

    async def put_newer() -> None:
        async with StorageEngine.open(tmp_path) as engine:
            await engine.create_bucket("newer")
            await engine.put_object("newer", "k", b"")

    trio.run(put_newer)
    with pytest.raises(InvalidArgument, match="behind all others"):
        fillstore.fill(str(tmp_path), "perf", ["a", "b"], BODY)
    assert assert_files_reachable(str(tmp_path)).versions == 2
