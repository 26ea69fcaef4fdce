from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rs3d.engine import StorageEngine
from rs3d.engine.library import open_store_parts
from rs3d.engine.requests import CompletedPart, CompleteRequest, Delivery, PutRequest, ReadConditions
from rs3d.engine.results import FileSpan
from rs3d.errors import (
    InvalidRange,
    NoSuchKey,
    NoSuchPart,
    NoSuchVersion,
    NotModified,
    ObjectDamaged,
    PreconditionFailed,
    RecordDamaged,
    SlowDown,
)
from rs3d.types.identifiers import BlobId, BucketId
from rs3d.types.objects import Extent, ObjectVersion
from tests.engine.bodies import noise
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.fakes.deps import MemoryWorld
from tests.fakes.memory_store import MemorySnapshot

SECOND = 10**9


async def put_parts(engine: StorageEngine, key: str, bodies: list[bytes]) -> None:
    upload = await engine.create_multipart_upload("bucket", key)
    parts = []
    for number, body in enumerate(bodies, 1):
        made = await engine.upload_part("bucket", key, upload, number * 3, body)
        parts.append(CompletedPart(number=number * 3, etag=made.etag))
    await engine.complete_multipart_upload("bucket", key, upload, CompleteRequest(parts=tuple(parts)))


RANGES = [(0, 0), (0, 99), (1, 65535), (65535, 65536), (65536, 131071), (100_000, 250_010), (250_000, 300_000)]


@pytest.mark.parametrize("kind", ["inline", "blob", "parts"])
async def test_every_range_of_every_placement(engine: StorageEngine, kind: str) -> None:
    data = noise(300) if kind == "inline" else noise(300_001)
    if kind == "parts":
        await put_parts(engine, "key", [data[:100_000], data[100_000:250_000], data[250_000:]])
    else:
        await engine.put_object("bucket", "key", data)
    for first, last in RANGES:
        if first >= len(data):
            continue
        for text, expected in [
            (f"bytes={first}-{last}", data[first : last + 1]),
            (f"bytes={first}-", data[first:]),
            (f"bytes=-{last - first + 1}", data[-(last - first + 1) :]),
        ]:
            async with await engine.open_object("bucket", "key", range=text) as reader:
                assert await reader.read() == expected
                assert reader.content_range is not None
                assert reader.content_range.size_bytes == len(data)
    with pytest.raises(InvalidRange):
        await engine.open_object("bucket", "key", range=f"bytes={len(data)}-")


async def test_a_range_that_is_no_range_is_ignored(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "key", b"0123456789")
    for text in ("bytes=5-2", "bytes=0-1,3-4", "items=0-1", "bytes=-", "bytes=a-b", "0-1"):
        async with await engine.open_object("bucket", "key", range=text) as reader:
            assert reader.content_range is None
            assert await reader.read() == b"0123456789"


async def test_no_byte_of_an_empty_object_can_be_asked_for(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "key", b"")
    for text in ("bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"):
        with pytest.raises(InvalidRange):
            engine.head_object("bucket", "key", range=text)


async def test_a_part_is_a_range(engine: StorageEngine) -> None:
    bodies = [noise(100_000, 1), noise(100_001, 2), noise(5, 3)]
    await put_parts(engine, "key", bodies)
    for number, body in enumerate(bodies, 1):
        async with await engine.open_object("bucket", "key", part_number=number) as reader:
            assert reader.head.part_count == 3
            assert await reader.read() == body
    with pytest.raises(NoSuchPart):
        engine.head_object("bucket", "key", part_number=4)
    await engine.put_object("bucket", "plain", b"abc")
    assert await (await engine.open_object("bucket", "plain", part_number=1)).read() == b"abc"
    with pytest.raises(NoSuchPart):
        engine.head_object("bucket", "plain", part_number=2)


async def test_the_only_part_of_an_empty_object_is_the_whole_of_it(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "empty", b"")
    async with await engine.open_object("bucket", "empty", part_number=1) as reader:
        assert reader.head.content_range is None and await reader.read() == b""


async def test_conditions_in_the_order_of_the_rfc(engine: StorageEngine) -> None:
    made = await engine.put_object("bucket", "key", b"abc")
    etag, now = made.etag, made.last_modified_ns // SECOND

    def head(**conditions: object) -> None:
        engine.head_object("bucket", "key", conditions=ReadConditions(**conditions))  # type: ignore[arg-type]

    head(if_match=(etag,))
    head(if_match=("*",))
    head(if_match=("other", etag), if_unmodified_since_s=now - 1)
    head(if_none_match=("other",), if_modified_since_s=now + 1)
    head(if_modified_since_s=now - 1)
    head(if_unmodified_since_s=now)
    refused: list[dict[str, object]] = [{"if_match": ("other",)}, {"if_unmodified_since_s": now - 1}]
    refused.append({"if_match": ("other",), "if_none_match": (etag,)})
    for conditions in refused:
        with pytest.raises(PreconditionFailed):
            head(**conditions)
    unchanged: list[dict[str, object]] = [{"if_none_match": (etag,)}, {"if_none_match": ("*",)}]
    unchanged += [{"if_modified_since_s": now}, {"if_none_match": (etag,), "if_modified_since_s": now - 1}]
    for conditions in unchanged:
        with pytest.raises(NotModified) as caught:
            head(**conditions)
        assert caught.value.etag == etag


@pytest.mark.parametrize("delivery", list(Delivery))
async def test_a_damaged_block_is_never_handed_out(world: MemoryWorld, delivery: Delivery) -> None:
    """PITFALLS D7: an error, never a clean short body."""
    data = noise(300_001)
    await world.engine.put_object("bucket", "key", data)
    (blob,) = world.blobs.held
    world.blobs.damage(blob, 200_000)
    async with await world.engine.open_object("bucket", "key", delivery=delivery) as reader:
        received = 0
        pieces = reader.pieces()
        with pytest.raises(ObjectDamaged):
            async for piece in pieces:
                received += piece.length if isinstance(piece, tuple) else len(piece)
        # Pieces that are verified as one, as those of a span behind the first, fail as one.
        assert received == (65_536 if delivery is Delivery.SPANS else 196_608)
        with pytest.raises(ObjectDamaged):
            await anext(pieces)
    world.blobs.damage(blob, 10)
    with pytest.raises(ObjectDamaged):
        await world.engine.open_object("bucket", "key", delivery=delivery)


async def test_a_missing_blob_is_damage_not_absence(world: MemoryWorld) -> None:
    """PITFALLS D15."""
    await world.engine.put_object("bucket", "key", noise(2000))
    (blob,) = world.blobs.held
    world.blobs.delete([blob])
    with pytest.raises(ObjectDamaged):
        await world.engine.get_object("bucket", "key")
    assert world.engine.head_object("bucket", "key").version.meta.size_bytes == 2000


async def test_store_rule_15_an_open_reader_outlives_its_object(world: MemoryWorld) -> None:
    """PITFALLS D23: garbage collection during a slow read."""
    bodies = [noise(100_000, seed) for seed in range(5)]
    await put_parts(world.engine, "key", bodies)
    async with await world.engine.open_object("bucket", "key") as reader:
        assert world.horizon.inside == {}, "five descriptors are open: nothing holds the collector"
        pieces = reader.pieces()
        first = bytes(await anext(pieces))
        await world.engine.delete_object("bucket", "key")
        world.blobs.delete(world.blobs.held)
        rest = [bytes(piece) async for piece in pieces]
        assert first + b"".join(rest) == b"".join(bodies)
    world.state.dead_sets.clear()
    world.state.garbage.clear()


async def test_store_rule_15_at_most_64_blobs_are_open_and_the_horizon_is_held_until_the_rest_fits(
    world: MemoryWorld,
) -> None:
    bodies = [noise(100_000, seed) for seed in range(150)]
    await put_parts(world.engine, "key", bodies)
    held_during = []
    async with await world.engine.open_object("bucket", "key", delivery=Delivery.SPANS) as reader:
        async for _ in reader.pieces():
            held_during.append(bool(world.horizon.inside))
    assert world.blobs.most_open <= 64
    assert held_during[0]
    assert not held_during[-1]


@pytest.mark.parametrize("sends_files", [True, False])
async def test_plain_bytes_come_as_spans_where_files_may_be_sent(tmp_path: Path, sends_files: bool) -> None:
    body = noise(200_000)
    config = replace(SMALL_LIMITS, sends_files=sends_files)
    async with open_store_parts(str(tmp_path / "store"), config, SMALL_STORE) as opened:
        await opened.engine.create_bucket("bucket")
        await opened.engine.put_object("bucket", "key", body)
        read = bytearray()
        async with await opened.engine.open_object("bucket", "key", delivery=Delivery.SPANS) as reader:
            async for piece in reader.pieces():
                assert isinstance(piece, FileSpan) == sends_files
                read += os.pread(piece.fd, piece.length, piece.offset) if isinstance(piece, FileSpan) else piece
            extent = reader.head.version.placement
        assert isinstance(extent, Extent)
        with closing(opened.blobs.open(extent.blob)) as blob:
            blob.verify(0, len(body))
        held = opened.engine.warm_reads().take_verified(extent)
        assert (held is not None) == sends_files
        if held is not None:
            held.give_back()
    assert read == body


async def test_without_a_place_in_the_horizon_the_answer_is_slow_down(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "key", noise(2000))

    def full(_sequence: object) -> int:
        raise SlowDown(what="slots")

    world.horizon.enter = full  # type: ignore[method-assign, assignment]
    with pytest.raises(SlowDown):
        await world.engine.get_object("bucket", "key")


async def test_unknown_keys_and_versions(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "key", b"a", PutRequest())
    with pytest.raises(NoSuchKey):
        await engine.get_object("bucket", "kex")
    for version in ("0" * 48, "x", "", "NULL"):
        with pytest.raises(NoSuchVersion):
            engine.head_object("bucket", "key", version=version)
    assert engine.head_object("bucket", "key", version="null").version.is_null


async def test_blob_ids_are_never_reused(world: MemoryWorld) -> None:
    seen: set[BlobId] = set()
    for _ in range(20):
        await world.engine.put_object("bucket", "key", noise(2000))
        seen.update(world.blobs.held)
    assert len(seen) == 20


async def test_store_rule_03_a_record_that_moved_meanwhile_is_looked_up_again(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "key", b"x")
    original = MemorySnapshot.latest
    failures = [RecordDamaged(what="log segment 1", reason="is missing")] * 3

    def moved(view: MemorySnapshot, bucket: BucketId, key: str) -> ObjectVersion | None:
        if failures:
            raise failures.pop()
        return original(view, bucket, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemorySnapshot, "latest", moved)
        with pytest.raises(RecordDamaged):
            world.engine.head_object("bucket", "key")
        assert world.engine.head_object("bucket", "key").version.meta.size_bytes == 1
