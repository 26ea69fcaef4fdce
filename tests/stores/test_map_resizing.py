"""`resize_map`: a store whose catalog is full takes writes again, and what is no size leaves it as it was."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path

import pytest
import trio

from rs3d.clock import ManualClock
from rs3d.crypto.masterkey import MasterKey
from rs3d.engine import StorageEngine
from rs3d.errors import FormatUnknown, InvalidArgument, StoreBusy, StoreFull
from rs3d.stores.layoutmeta import create_store, read_store_meta
from rs3d.stores.lock import LockMode, LockRange, StoreLock
from rs3d.stores.mapresizing import MINIMUM_MAP_BYTES, resize_map
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE

ROUNDS_OF_MANY = 4
TINY = dataclasses.replace(SMALL_STORE, map_bytes=2 << 20)


async def refusal_of_one_too_many(engine: StorageEngine) -> StoreFull:
    """Put objects until there is no room for one: many at once while there is room for many, for a batch of them may
    take more of a map so small than is kept free in it."""
    numbers, refused = itertools.count(), list[StoreFull]()

    async def put() -> None:
        try:
            await engine.put_object("bucket", f"{next(numbers):05d}" + "k" * 900, b"")
        except StoreFull as full:
            refused.append(full)

    for at_once in (*[40] * ROUNDS_OF_MANY, *[1] * 1000):
        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(put)
        if refused:
            return refused[0]
    raise ValueError("the map never fills up")


async def test_store_rule_22_a_store_whose_map_is_full_takes_writes_again_when_it_is_larger(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with StorageEngine.open(root, config=SMALL_LIMITS, options=TINY) as engine:
        await engine.create_bucket("bucket")
        full = await refusal_of_one_too_many(engine)
        assert "the catalog's map (rs3d check --map-bytes N --data DIR)" in str(full)
    assert resize_map(str(root), MINIMUM_MAP_BYTES) == 2 << 20
    async with StorageEngine.open(root, config=SMALL_LIMITS, options=TINY) as engine:
        await engine.put_object("bucket", "more", b"x")
        assert await engine.get_object("bucket", "00000" + "k" * 900) == b""


@pytest.fixture
def root(tmp_path: Path) -> str:
    root = str(tmp_path / "store")
    os.mkdir(root)
    create_store(root, MasterKey.generate(), clock=ManualClock(), map_bytes=1 << 30)
    return root


def test_what_is_no_size_is_refused(root: str) -> None:
    for wrong in (0, -4096, MINIMUM_MAP_BYTES - 4096, MINIMUM_MAP_BYTES + 1):
        with pytest.raises(InvalidArgument, match="must be pages of 4 KiB, 64 MiB or more"):
            resize_map(root, wrong)
    assert read_store_meta(root).map_bytes == 1 << 30


def test_a_map_never_becomes_smaller_than_what_is_in_it(root: str) -> None:
    with open(os.path.join(root, "catalog", "data.mdb"), "wb") as file:
        file.truncate(MINIMUM_MAP_BYTES + 8192)
    with pytest.raises(InvalidArgument, match="has 67117056 bytes already"):
        resize_map(root, MINIMUM_MAP_BYTES + 4096)
    assert resize_map(root, MINIMUM_MAP_BYTES + 8192) == 1 << 30
    assert read_store_meta(root).map_bytes == MINIMUM_MAP_BYTES + 8192


def test_a_store_in_use_is_left_alone(root: str) -> None:
    with StoreLock.acquire(root, LockRange.USE, LockMode.SHARED, "worker"), pytest.raises(StoreBusy):
        resize_map(root, MINIMUM_MAP_BYTES)


def test_a_directory_without_a_store_is_none(tmp_path: Path) -> None:
    with pytest.raises(FormatUnknown):
        resize_map(str(tmp_path), MINIMUM_MAP_BYTES)
    assert list(tmp_path.glob("store.meta*")) == []
