from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.library import StoreOptions, open_store_parts
from tests.fakes.deps import MemoryWorld, make_world

MIB = 1024 * 1024

SMALL_LIMITS = EngineConfig(inline_limit_bytes=1000, piece_bytes=65536, minimum_part_bytes=100_000)
"""Every path is reached with small bodies."""

SMALL_STORE = StoreOptions(log_segment_bytes=2 * MIB, map_bytes=64 * MIB, minimum_free_bytes=MIB)


@pytest.fixture
async def world() -> AsyncIterator[MemoryWorld]:
    """An engine over the memory store, everything below it in view."""
    made = make_world(SMALL_LIMITS)
    await made.engine.create_bucket("bucket")
    yield made
    await made.quiet()
    made.engine.close()
    assert made.horizon.inside == {}, "a reader never left the horizon"
    assert made.engine._runtime.buffers.leased == 0, "a body buffer was not given back"
    assert made.blobs.open_count == 0, "a blob was left open"
    assert made.unreachable_blobs() == set(), "blobs that nothing refers to"
    made.blobs.close()


@pytest.fixture(params=["memory", "disk"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StorageEngine]:
    """An engine over the memory store, and the same over the real one; at the end no file is without a row."""
    if request.param == "memory":
        made = make_world(SMALL_LIMITS)
        await made.engine.create_bucket("bucket")
        yield made.engine
        await made.quiet()
        made.engine.close()
        assert made.unreachable_blobs() == set()
        made.blobs.close()
        return
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE) as opened:
        await opened.engine.create_bucket("bucket")
        yield opened.engine
        with opened.store.catalog.snapshot() as view:
            rows = {blob for blob, _ in view.blobs()} | {row.blob for row in view.garbage()}
            segments = [row.segment for row in view.blob_segments()]
        assert {blob for segment in segments for blob in opened.blobs.list_segment(segment)} == rows
