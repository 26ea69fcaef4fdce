"""How long the spans are that a reader of files hands out, and what is looked at again while they are sent."""

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
from rs3d.errors import ObjectDamaged
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

    async def lengths(self, range: str | None = None) -> list[int]:
        """Of the spans, in KiB, which are checked byte by byte."""
        read = bytearray()
        found = []
        async with await self.open(range) as reader:
            async for piece in reader.pieces():
                assert isinstance(piece, FileSpan)
                read += os.pread(piece.fd, piece.length, piece.offset)
                found.append(piece.length // KIB)
            selected = reader.content_range
        assert read == (BODY if selected is None else BODY[selected.first : selected.last + 1])
        return found


def flip(path: str, offset: int) -> None:
    """Change one bit of a file."""
    with open(path, "r+b", buffering=0) as file:
        byte = os.pread(file.fileno(), 1, offset)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1]), offset)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(blobreading, "SPAN_BYTES", MIB)
    monkeypatch.setattr(blobreading, "CHECKED_BYTES", 256 * KIB)
    clock = ManualClock()
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE, clock=clock) as opened:
        made = World(opened, clock)
        await made.put()
        made.verify()
        yield made


async def test_what_was_verified_lately_comes_in_spans_up_to_the_bounds_of_windows(world: World) -> None:
    assert await world.lengths() == [1024, 1024, 1024, 1024, 0]


async def test_a_range_is_handed_out_up_to_the_bounds_of_its_blobs_windows(world: World) -> None:
    assert await world.lengths("bytes=102400-3172352") == [924, 1024, 1024, 26]


async def test_what_was_not_verified_lately_begins_with_a_piece_and_goes_on_with_several_as_one(world: World) -> None:
    world.clock.advance(61)
    assert await world.lengths() == [64, 192] + [256] * 15 + [0]


async def test_a_range_that_was_not_verified_lately_ends_where_it_ends(world: World) -> None:
    world.clock.advance(61)
    assert await world.lengths("bytes=102400-409599") == [28, 128, 144]


async def test_spans_end_where_verified_bytes_end(world: World) -> None:
    world.clock.advance(61)
    with closing(world.opened.blobs.open(world.extent.blob)) as blob:
        blob.verify(0, 2 * MIB)
    assert await world.lengths() == [1024, 1024] + [256] * 8 + [0]


async def test_what_a_slow_client_has_left_of_a_span_is_verified_again_when_that_is_due(world: World) -> None:
    async with await world.open() as reader:
        pieces = reader.pieces()
        await anext(pieces)
        span = await anext(pieces)
        assert isinstance(span, FileSpan) and span.offset == MIB
        assert await reader.look_again(MIB + 5, MIB - 5) == MIB - 5  # it was verified a moment ago
        world.clock.advance(61)
        assert await reader.look_again(MIB + 5, MIB - 5) == 64 * KIB - 5  # up to the end of a piece, no more
        assert await reader.look_again(MIB + 64 * KIB, MIB - 64 * KIB) == 64 * KIB
        assert await reader.look_again(2 * MIB - 9, 9) == 9


async def test_damage_that_comes_while_a_span_is_sent_is_found_when_it_is_looked_at_again(world: World) -> None:
    blob = world.extent.blob
    async with await world.open() as reader:
        pieces = reader.pieces()
        span = await anext(pieces)
        assert isinstance(span, FileSpan)
        path = os.readlink(f"/proc/self/fd/{span.fd}")
        flip(path, 300 * KIB)
        assert await reader.look_again(0, MIB) == MIB  # the window that FORMAT.md states
        world.clock.advance(61)
        assert await reader.look_again(0, MIB) == 64 * KIB
        with pytest.raises(ObjectDamaged) as refused:
            await reader.look_again(256 * KIB, MIB - 256 * KIB)
        assert refused.value.blob == blob.text()
        with pytest.raises(ObjectDamaged):
            await anext(pieces)
