"""Compression and parity on the data path: what went in comes out, whole and by ranges, copied or in parts."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rs3d.engine import StorageEngine
from rs3d.engine.layerwork import LAYER_WORK, Direction
from rs3d.engine.library import open_store_parts
from rs3d.engine.requests import (
    BucketChange,
    BucketRequest,
    CompletedPart,
    CompleteRequest,
    CopyRequest,
    CopySource,
    Delivery,
    PartCopyRequest,
)
from rs3d.engine.results import FileSpan
from rs3d.engine.threads import Threads
from rs3d.errors import InvalidArgument, ObjectDamaged
from rs3d.types.objects import Extent, Inline
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.fakes.deps import MemoryWorld
from tests.stores.nowait import reads_without_waiting

SETTINGS = [
    (("compression", "lz4"),),
    (("compression", "zstd:3"),),
    (("compression", "adaptive"),),
    (("parity", "4+2"),),
    (("compression", "zstd"), ("parity", "8+2")),
]


def text_of(size_bytes: int) -> bytes:
    """Bytes that shrink, and some that do not."""
    words = b"".join(b"line %d of a log that repeats itself\n" % number for number in range(size_bytes // 36 + 1))
    noise = random.Random(size_bytes).randbytes(size_bytes // 10)
    return (words + noise)[-size_bytes:] if size_bytes else b""


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("size_bytes", [0, 1, 1000, 32 * 1024 + 1, 3_000_000])
async def test_ranges_of_layered_objects_are_those_of_the_clients_bytes(
    engine: StorageEngine, settings: tuple[tuple[str, str], ...], size_bytes: int
) -> None:
    await engine.create_bucket("layered", BucketRequest(settings=settings))
    data = text_of(size_bytes)
    await engine.put_object("layered", "k", data)
    assert await engine.get_object("layered", "k") == data
    dice = random.Random(7)
    for _ in range(20 if size_bytes else 0):
        first = dice.randrange(size_bytes)
        last = dice.randrange(first, size_bytes)
        assert await engine.get_object("layered", "k", range=f"bytes={first}-{last}") == data[first : last + 1]


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("settings", [(), *SETTINGS[:1]], ids=str)
async def test_a_blob_that_was_open_before_is_read_by_one_job_or_none(
    tmp_path: Path, settings: tuple[tuple[str, str], ...], delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its layers are known then: no thread is asked to find out that a span will not do."""
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE) as opened:
        engine = opened.engine
        await engine.create_bucket("layered", BucketRequest(settings=settings))
        data = text_of(40_000)
        await engine.put_object("layered", "k", data)

        async def read() -> bytes:
            async with await engine.open_object("layered", "k", delivery=delivery) as reader:
                read = b""
                async for piece in reader.pieces():
                    read += os.pread(piece.fd, piece.length, piece.offset) if isinstance(piece, FileSpan) else piece
                return read

        assert await read() == data
        started: list[object] = []
        start = Threads.start

        def noted(threads: Threads, call: Any) -> Any:
            started.append(call)
            return start(threads, call)

        monkeypatch.setattr(Threads, "start", noted)
        assert await read() == data
        needs_none = reads_without_waiting(tmp_path) or (delivery is Delivery.SPANS and not settings)
        assert len(started) == (0 if needs_none else 1)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
async def test_recipes_hold_the_layers_that_the_bucket_asks_for(
    world: MemoryWorld, settings: tuple[tuple[str, str], ...]
) -> None:
    engine = world.engine
    await engine.create_bucket("layered", BucketRequest(settings=settings))
    for size_bytes in (900, 2_000_000):
        await engine.put_object("layered", "k", text_of(size_bytes))
        placement = engine.head_object("layered", "k").version.placement
        if isinstance(placement, Inline):
            recipe, stored = placement.recipe, placement.stored_bytes
        else:
            assert isinstance(placement, Extent)
            reader = world.blobs.open(placement.blob)
            recipe, stored = reader.info.recipe, reader.info.stored_bytes
            reader.close()
        names = [layer.name for layer in recipe.layers]
        assert names == [{"compression": "compress", "parity": "parity"}[name] for name, _ in settings]
        if settings[0][0] == "compression" and size_bytes > 900:
            assert stored < size_bytes


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
async def test_layered_parts_copies_and_copied_ranges_keep_their_bytes(
    engine: StorageEngine, settings: tuple[tuple[str, str], ...]
) -> None:
    await engine.create_bucket("layered", BucketRequest(settings=settings))
    await engine.create_bucket("plain")
    data = text_of(6_000_000)
    await engine.put_object("layered", "source", data)
    await engine.put_object("layered", "small", b"small " * 50)
    upload = await engine.create_multipart_upload("plain", "joined")
    copied = PartCopyRequest(source=CopySource(bucket="layered", key="source"), source_range="bytes=100000-5499999")
    first = await engine.upload_part_copy("plain", "joined", upload, 1, copied)
    small = PartCopyRequest(source=CopySource(bucket="layered", key="small"))
    second = await engine.upload_part_copy("plain", "joined", upload, 2, small)
    parts = (CompletedPart(number=1, etag=first.etag), CompletedPart(number=2, etag=second.etag))
    await engine.complete_multipart_upload("plain", "joined", upload, CompleteRequest(parts=parts))
    assert await engine.get_object("plain", "joined") == data[100_000:5_500_000] + b"small " * 50
    await engine.copy_object("plain", "copy", CopyRequest(source=CopySource(bucket="layered", key="source")))
    await engine.copy_object("plain", "tiny", CopyRequest(source=CopySource(bucket="layered", key="small")))
    await engine.delete_object("layered", "source")
    assert await engine.get_object("plain", "copy") == data
    assert await engine.get_object("plain", "tiny") == b"small " * 50


async def test_every_layer_reports_what_it_did_in_both_directions(engine: StorageEngine) -> None:
    settings = (("compression", "zstd"), ("parity", "4+2"))
    await engine.create_bucket("layered", BucketRequest(settings=settings))
    data = text_of(500_000)
    LAYER_WORK.take()
    await engine.put_object("layered", "k", data)
    written = LAYER_WORK.take()
    await engine.get_object("layered", "k")
    await engine.get_object("layered", "k", range="bytes=100-199")
    compress, parity = written[Direction.WRITE, "compress"], written[Direction.WRITE, "parity"]
    assert compress.bytes_in == len(data) > compress.bytes_out == parity.bytes_in < parity.bytes_out
    assert (compress.bodies, parity.bodies) == (1, 1)
    read = LAYER_WORK.take()
    assert set(read) == {(Direction.READ, "compress"), (Direction.READ, "parity")}
    assert read[Direction.READ, "compress"].bytes_out == len(data) + 100
    assert min(work.seconds for work in (*written.values(), *read.values())) > 0
    assert LAYER_WORK.take() == {}


async def test_chunks_report_what_was_new_and_what_was_read(world: MemoryWorld) -> None:
    settings = (("dedup", "fixed:4KiB"), ("dedup_min_object_bytes", "1"))
    await world.engine.create_bucket("chunked", BucketRequest(settings=settings))
    data = random.Random(3).randbytes(200_000)
    LAYER_WORK.take()
    await world.engine.put_object("chunked", "k", data)
    await world.engine.put_object("chunked", "again", data)
    assert await world.engine.get_object("chunked", "again") == data
    done = LAYER_WORK.take()
    written, read = done[Direction.WRITE, "dedup"], done[Direction.READ, "dedup"]
    assert (written.bodies, written.bytes_in, written.bytes_out) == (2, 2 * len(data), len(data))
    assert read.bytes_out == len(data) <= read.bytes_in


async def test_what_a_bucket_does_not_say_is_the_stores_default(tmp_path: Path) -> None:
    config = replace(SMALL_LIMITS, compression="lz4", dedup="fixed:8192", cipher="ChaCha20-Poly1305")
    async with open_store_parts(str(tmp_path / "store"), config, SMALL_STORE) as opened:
        await opened.engine.create_bucket("own", BucketRequest(settings=(("compression", "off"), ("parity", "2+1"))))
        found = dict(opened.engine.bucket_status("own").effective)
    assert found == {
        "cipher": "ChaCha20-Poly1305",
        "compression": "off",
        "dedup": "fixed:8192",
        "dedup_min_object_bytes": "131072",
        "encryption": "off",
        "etag": "md5",
        "parity": "2+1",
        "sign": "off",
    }


async def test_old_objects_are_read_by_their_recipe_when_settings_change(engine: StorageEngine) -> None:
    await engine.create_bucket("layered", BucketRequest(settings=(("compression", "zstd:9"),)))
    data = text_of(500_000)
    await engine.put_object("layered", "old", data)
    await engine.change_bucket("layered", BucketChange(settings={"compression": None, "parity": "2+1"}))
    await engine.put_object("layered", "new", data)
    assert await engine.get_object("layered", "old") == data
    assert await engine.get_object("layered", "new") == data


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compression", "brotli"),
        ("compression", "zstd:0"),
        ("compression", "zstd:99"),
        ("compression", "zstd:"),
        ("parity", "8"),
        ("parity", "0+1"),
        ("parity", "30+3"),
        ("parity", "a+b"),
    ],
)
async def test_settings_that_mean_nothing_are_refused(engine: StorageEngine, name: str, value: str) -> None:
    with pytest.raises(InvalidArgument):
        await engine.create_bucket("layered", BucketRequest(settings=((name, value),)))


async def test_parity_mends_a_damaged_block_and_no_more_than_it_can(tmp_path: Path) -> None:
    data = random.Random(5).randbytes(1_000_000)
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE) as opened:
        await opened.engine.create_bucket("layered", BucketRequest(settings=(("parity", "4+1"),)))
        await opened.engine.put_object("layered", "k", data)
        (file,) = (tmp_path / "store" / "blobs").rglob("*.data")
        stored = bytearray(file.read_bytes())
        stored[70_000] ^= 1
        file.chmod(0o600)
        file.write_bytes(stored)
        assert await opened.engine.get_object("layered", "k") == data
        stored[140_000] ^= 1
        file.write_bytes(stored)
        with pytest.raises(ObjectDamaged):
            await opened.engine.get_object("layered", "k")
