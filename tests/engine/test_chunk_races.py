"""Bodies that share chunks against the collector: at every step of the one, the other runs. PITFALLS P8, D12.

The hooks stand where the steps are: before an operation of the collector (after it has read garbage rows and readers'
pages) or before one of a put (after it has seen the chunks in a snapshot).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rs3d.engine import EngineConfig
from rs3d.engine.library import OpenedStore, StoreOptions, open_store_parts
from rs3d.engine.requests import CopyRequest, CopySource
from rs3d.errors import NoSuchKey, StaleSource
from rs3d.stores.check import assert_files_reachable
from rs3d.types.chunks import DedupTotals
from rs3d.types.operations import DropGarbage, FreeChunks, PinChunks, PutVersion
from tests.engine.bodies import noise

CONFIG = EngineConfig(inline_limit_bytes=1000, piece_bytes=65536, dedup="fixed:4KiB", dedup_min_object_bytes=4096)
OPTIONS = StoreOptions(log_segment_bytes=2 << 20, map_bytes=64 << 20, minimum_free_bytes=1 << 20)
BODY = noise(100_000, 1)


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[OpenedStore]:
    async with open_store_parts(str(root), CONFIG, OPTIONS) as parts:
        await parts.engine.create_bucket("bkt")
        yield parts
        await parts.collector.collect()
        await parts.collector.collect()
    assert_files_reachable(str(root))


def before(parts: OpenedStore, kind: type, act: Callable[[], Awaitable[object]]) -> list[int]:
    """Run `act` once, before the next operation of that kind. Returns a list that has an entry when it ran."""
    commit, ran = parts.store.committer.commit, list[int]()

    async def hooked(operation: Any) -> Any:
        if isinstance(operation, kind) and not ran:
            ran.append(1)
            parts.store.committer.commit = commit  # type: ignore[method-assign]
            await act()
        return await commit(operation)

    parts.store.committer.commit = hooked  # type: ignore[method-assign]
    return ran


async def vanish(parts: OpenedStore, key: str) -> None:
    """Delete a key and let the collector finish with it."""
    await parts.engine.delete_object("bkt", key)
    for _ in range(2):
        await parts.collector.collect()


def totals(parts: OpenedStore) -> DedupTotals:
    with parts.store.catalog.snapshot() as view:
        return view.dedup_totals()


async def test_pitfall_p8_of_two_equal_objects_of_one_chunk_one_outlives_the_other(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with opened(root) as parts:
        for key in ("one", "two"):
            await parts.engine.put_object("bkt", key, BODY[:4096])
        assert totals(parts) == DedupTotals(1, 4096, 4096, 8192)
        await vanish(parts, "one")
        assert await parts.engine.get_object("bkt", "two") == BODY[:4096]
        await vanish(parts, "two")
        assert totals(parts) == DedupTotals()
        assert not list((root / "blobs").glob("*/*"))


async def test_chunks_that_vanish_between_a_puts_look_and_its_pins_are_written_anew(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as parts:
        await parts.engine.put_object("bkt", "old", BODY)
        ran = before(parts, PinChunks, lambda: vanish(parts, "old"))
        await parts.engine.put_object("bkt", "new", BODY)
        assert ran and await parts.engine.get_object("bkt", "new") == BODY
        assert totals(parts).referenced_client_bytes == len(BODY)


async def test_chunks_pinned_stay_when_everybody_else_lets_go_before_the_commit(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as parts:
        await parts.engine.put_object("bkt", "old", BODY)
        ran = before(parts, PutVersion, lambda: vanish(parts, "old"))
        await parts.engine.put_object("bkt", "new", BODY)
        assert ran and await parts.engine.get_object("bkt", "new") == BODY


@pytest.mark.parametrize("kind", [FreeChunks, DropGarbage])
async def test_pitfall_d12_a_put_between_the_collectors_look_and_its_deed_loses_nothing(
    tmp_path: Path, kind: type
) -> None:
    async with opened(tmp_path / "store") as parts:
        await parts.engine.put_object("bkt", "old", BODY)
        await parts.engine.delete_object("bkt", "old")
        ran = before(parts, kind, lambda: parts.engine.put_object("bkt", "new", BODY))
        await parts.collector.collect()
        assert ran
        for _ in range(3):
            await parts.collector.collect()
            assert await parts.engine.get_object("bkt", "new") == BODY


async def test_pitfall_d12_a_reader_that_comes_between_the_look_and_the_deed_reads_to_the_end(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as parts:
        engine = parts.engine
        await engine.put_object("bkt", "key", BODY)
        slots: list[int] = []

        async def read_and_delete() -> None:
            slots.append(parts.horizon.enter(engine._runtime.last_sequence))
            await engine.delete_object("bkt", "key")

        await engine.put_object("bkt", "other", noise(50_000, 2))
        await engine.delete_object("bkt", "other")
        ran = before(parts, FreeChunks, read_and_delete)
        for _ in range(3):
            await parts.collector.collect()
        assert ran and totals(parts).client_bytes == len(BODY), "the reader may still look chunks up"
        parts.horizon.leave(slots[0])


async def test_a_copy_that_comes_after_its_source_died_is_refused_and_shares_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as parts:
        await parts.engine.put_object("bkt", "source", BODY)
        ran = before(parts, PutVersion, lambda: vanish(parts, "source"))
        request = CopyRequest(source=CopySource(bucket="bkt", key="source"))
        with pytest.raises((NoSuchKey, StaleSource)):
            await parts.engine.copy_object("bkt", "copy", request)
        assert ran and totals(parts) == DedupTotals()


async def test_an_overwrite_by_the_same_bytes_frees_and_keeps_the_same_chunks(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as parts:
        for _ in range(4):
            await parts.engine.put_object("bkt", "key", BODY)
            await parts.collector.collect()
        assert totals(parts).referenced_client_bytes == len(BODY)
        assert await parts.engine.get_object("bkt", "key") == BODY
