"""A whole small body read on the loop from a held file: the same bytes and the same manners as by pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from rs3d.engine import StorageEngine
from rs3d.engine.configuration import Verify
from rs3d.engine.heldreading import HeldBody
from rs3d.engine.library import open_store_parts
from rs3d.engine.runtime import TURN_BYTES
from tests.engine.bodies import noise
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.stores.nowait import reads_without_waiting

LIMITS = replace(SMALL_LIMITS, piece_bytes=1 << 20)
BODY = noise(200_000)


@pytest.fixture(params=Verify)
async def engine(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[StorageEngine]:
    """With BODY under `k`, read often enough to be read on the loop."""
    if not reads_without_waiting(tmp_path):
        pytest.skip("this file system does not read without waiting")
    limits = replace(LIMITS, verify=request.param)
    async with open_store_parts(str(tmp_path / "store"), limits, SMALL_STORE) as opened:
        await opened.engine.create_bucket("bucket")
        await opened.engine.put_object("bucket", "k", BODY)
        assert await opened.engine.get_object("bucket", "k") == BODY
        yield opened.engine
        assert opened.engine._runtime.buffers.leased == 0


async def test_the_body_is_one_piece_and_whole_however_it_is_asked_for(engine: StorageEngine) -> None:
    async with await engine.open_object("bucket", "k") as reader:
        assert isinstance(reader._pieces, HeldBody)
        assert bytes(reader.single or b"") == BODY
        assert [bytes(piece) async for piece in reader.pieces() if isinstance(piece, memoryview)] == [BODY]
        assert reader.single is None
    async with await engine.open_object("bucket", "k") as reader:
        assert await reader.read() == BODY
    reader.close()  # once more


@pytest.mark.parametrize(("asked", "first", "end"), [("0-0", 0, 1), ("65536-131071", 65536, 131072), ("-7", -7, None)])
async def test_a_range_is_read_likewise(engine: StorageEngine, asked: str, first: int, end: int | None) -> None:
    async with await engine.open_object("bucket", "k", range=f"bytes={asked}") as reader:
        assert isinstance(reader._pieces, HeldBody)
        assert await reader.read() == BODY[first:end]


async def test_a_piece_is_of_no_use_after_its_buffer_was_given_back(engine: StorageEngine) -> None:
    async with await engine.open_object("bucket", "k") as reader:
        pieces = reader.pieces()
        piece = await anext(pieces)
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        with pytest.raises(ValueError, match="released"):
            bytes(piece)


async def test_without_a_large_buffer_it_is_read_in_pieces(engine: StorageEngine) -> None:
    buffers = engine._runtime.buffers
    leased = list(iter(buffers.try_large, None))
    async with await engine.open_object("bucket", "k") as reader:
        assert not isinstance(reader._pieces, HeldBody)
        assert await reader.read() == BODY
    for lease in leased:
        lease.release()


async def test_a_reader_that_was_cancelled_holds_nothing(engine: StorageEngine) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await engine.open_object("bucket", "k")
    assert scope.cancelled_caught
    runtime = engine._runtime
    assert runtime.buffers.leased == 0
    assert await engine.get_object("bucket", "k") == BODY


async def test_other_tasks_have_their_turn_after_some_bytes(engine: StorageEngine) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        before, reads = turns, 4 * (TURN_BYTES // len(BODY) + 1)
        for _ in range(reads):
            async with await engine.open_object("bucket", "k"):
                pass
        assert turns - before >= 3
        assert turns - before < reads, "not for each of them"
        nursery.cancel_scope.cancel()
