from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rs3d.engine import EngineConfig
from tests.fakes.deps import MemoryWorld, make_world


@pytest.fixture
async def world() -> AsyncIterator[MemoryWorld]:
    """An engine over the memory store; small limits, so that every path is reached with small bodies."""
    made = make_world(EngineConfig(inline_limit_bytes=1000, piece_bytes=65536, minimum_part_bytes=100_000))
    await made.engine.create_bucket("bucket")
    yield made
    await made.quiet()
    made.engine.close()
    assert made.horizon.inside == {}, "a reader never left the horizon"
    assert made.engine._runtime.buffers.leased == 0, "a body buffer was not given back"
    assert made.blobs.open_count == 0, "a blob was left open"
    assert made.unreachable_blobs() == set(), "blobs that nothing refers to"
    made.blobs.close()
