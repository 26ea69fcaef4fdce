"""How long the spans are that a reader of files hands out, and to whom."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from rs3d.clock import ManualClock
from rs3d.engine import blobreading
from rs3d.engine.get import ObjectReader
from rs3d.engine.library import OpenedStore, open_store_parts
from rs3d.engine.requests import Delivery
from rs3d.engine.results import FileSpan
from rs3d.types.objects import Extent
from tests.engine.bodies import noise
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE

KIB = 1024
MIB = 1024 * KIB
BODY = noise(4 * MIB + 5)


class World:
    """A store with one object whose blob was verified a moment ago."""

    def __init__(self, opened: OpenedStore, clock: ManualClock) -> None:
        self.opened = opened
        self.clock = clock
        self.extent = Extent.__new__(Extent)

    async def open(self, range: str | None = None) -> ObjectReader:
        return await self.opened.engine.open_object("bucket", "key", range=range, delivery=Delivery.SPANS)

    async def put(self) -> None:
        await self.opened.engine.create_bucket("bucket")
        await self.opened.engine.put_object("bucket", "key", BODY)
        async with await self.open() as reader:
            placement = reader.head.version.placement
        assert isinstance(placement, Extent)
        self.extent = placement

    def verify(self) -> None:
        with closing(self.opened.blobs.open(self.extent.blob)) as blob:
            blob.verify(0, len(BODY))

    async def lengths(self, range: str | None = None, pause_s: float = 0.0) -> list[int]:
        """Of the spans, in KiB, of a reader that lets time pass before it takes the next; checked byte by byte."""
        read = bytearray()
        found = []
        async with await self.open(range) as reader:
            async for piece in reader.pieces():
                assert isinstance(piece, FileSpan)
                read += os.pread(piece.fd, piece.length, piece.offset)
                found.append(piece.length // KIB)
                self.clock.advance(pause_s)
            selected = reader.content_range
        assert read == (BODY if selected is None else BODY[selected.first : selected.last + 1])
        return found


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(blobreading, "SPAN_BYTES", 256 * KIB)
    monkeypatch.setattr(blobreading, "QUICK_SPAN_BYTES", MIB)
    clock = ManualClock()
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE, clock=clock) as opened:
        made = World(opened, clock)
        await made.put()
        made.verify()
        yield made


async def test_a_quick_reader_gets_longer_spans_from_the_third_on(world: World) -> None:
    assert await world.lengths() == [256, 256, 512, 1024, 1024, 1024, 0]


async def test_a_slow_reader_gets_short_ones_all_the_time(world: World) -> None:
    assert await world.lengths(pause_s=1.5) == [256] * 16 + [0]


async def test_a_range_is_handed_out_up_to_the_bounds_of_its_blobs_windows(world: World) -> None:
    assert await world.lengths("bytes=102400-3172352") == [156, 256, 512, 1024, 1024, 26]


async def test_what_was_not_verified_lately_comes_piece_by_piece(world: World) -> None:
    world.clock.advance(61)
    assert await world.lengths() == [64] * 64 + [0]


async def test_spans_end_where_verified_bytes_end(world: World) -> None:
    world.clock.advance(61)
    with closing(world.opened.blobs.open(world.extent.blob)) as blob:
        blob.verify(0, 2 * MIB)
    assert await world.lengths() == [256, 256, 512, 1024] + [64] * 32 + [0]
