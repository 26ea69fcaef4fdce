from __future__ import annotations

import hashlib

import pytest

from rs3d.engine import StorageEngine
from rs3d.engine.requests import BodyChecks, Delivery, PutRequest
from rs3d.engine.results import FileSpan
from rs3d.errors import BadDigest, EntityTooLarge, IncompleteBody, InvalidKey, NoSuchBucket, NoSuchKey
from rs3d.types.objects import Checksum
from tests.engine.bodies import noise
from tests.fakes.bodies import StreamSource
from tests.fakes.deps import MemoryWorld

SIZES = (0, 1, 999, 1000, 1001, 65535, 65536, 65537, 200_000, 262_144, 300_001)


@pytest.mark.parametrize("size", SIZES)
async def test_bytes_come_back_as_they_were_put(engine: StorageEngine, size: int) -> None:
    data = noise(size)
    result = await engine.put_object("bucket", "key", data)
    assert result.etag == hashlib.md5(data).hexdigest()
    assert await engine.get_object("bucket", "key") == data
    assert engine.head_object("bucket", "key").version.meta.size_bytes == size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1 << 20, 1000])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_stream_is_stored_whole(engine: StorageEngine, size: int, step: int, declared: bool) -> None:
    data = noise(size)
    source = StreamSource(data, step, declares=declared)
    result = await engine.put_object("bucket", "key", source)
    assert (result.etag, result.size_bytes) == (hashlib.md5(data).hexdigest(), size)
    assert await engine.get_object("bucket", "key") == data


async def test_small_bodies_make_no_file(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "a", noise(1000))
    await world.engine.put_object("bucket", "b", StreamSource(noise(1000), 10))
    assert world.blobs.held == []


async def test_spans_are_pieces_of_files(engine: StorageEngine) -> None:
    data = noise(150_000)
    await engine.put_object("bucket", "key", data)
    reader = await engine.open_object("bucket", "key", delivery=Delivery.SPANS)
    async with reader:
        assert reader.single is None
        spans = [piece async for piece in reader.pieces()]
    assert [(span.offset, span.length) for span in spans if isinstance(span, FileSpan)] == [
        (0, 65536),
        (65536, 84464),  # behind the first, several are verified as one
    ]


async def test_one_piece_is_offered_as_a_single_span(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "key", noise(60_000))
    async with await engine.open_object("bucket", "key", delivery=Delivery.SPANS) as reader:
        assert isinstance(reader.single, FileSpan)
        assert (reader.single.offset, reader.single.length) == (0, 60_000)


async def test_a_wrong_declared_digest_stores_nothing(world: MemoryWorld) -> None:
    for size in (10, 100_000):
        for checks in (
            BodyChecks(content_md5=bytes(16)),
            BodyChecks(payload_sha256=bytes(32)),
            BodyChecks(checksums=(Checksum("CRC32", bytes(4)),)),
        ):
            with pytest.raises(BadDigest):
                await world.engine.put_object("bucket", "key", noise(size), PutRequest(checks=checks))
    with pytest.raises(NoSuchKey):
        world.engine.head_object("bucket", "key")
    assert world.blobs.held == []


async def test_a_trailing_checksum_is_verified_and_kept(engine: StorageEngine) -> None:
    data = noise(100_000)
    right = Checksum("SHA256", hashlib.sha256(data).digest())
    request = PutRequest(checks=BodyChecks(checksum_algorithm="SHA256"))
    await engine.put_object("bucket", "key", StreamSource(data, 5000, trailing=(right,)), request)
    assert engine.head_object("bucket", "key").version.meta.checksums == (right,)
    wrong = StreamSource(data, 5000, trailing=(Checksum("SHA256", bytes(32)),))
    with pytest.raises(BadDigest):
        await engine.put_object("bucket", "key", wrong, request)


async def test_a_short_body_is_never_an_object(engine: StorageEngine) -> None:
    for size in (10, 1001, 100_000):
        source = StreamSource(noise(size), 4096, declared_bytes=size + 1)
        with pytest.raises(IncompleteBody):
            await engine.put_object("bucket", "key", source)
    with pytest.raises(NoSuchKey):
        engine.head_object("bucket", "key")


async def test_a_body_beyond_the_limit_is_refused_before_it_is_read(engine: StorageEngine) -> None:
    source = StreamSource(b"", 1, declared_bytes=5 * 2**30 + 1)
    with pytest.raises(EntityTooLarge):
        await engine.put_object("bucket", "key", source)
    assert source.calls == 0


async def test_refusals_that_need_no_body_come_before_its_first_byte(engine: StorageEngine) -> None:
    source = StreamSource(noise(2000), 100)
    with pytest.raises(NoSuchBucket):
        await engine.put_object("other", "key", source)
    with pytest.raises(InvalidKey):
        await engine.put_object("bucket", "", source)
    assert source.calls == 0


async def test_overwriting_frees_the_old_blob(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "key", noise(2000))
    await world.engine.put_object("bucket", "key", noise(2000, 2))
    assert len(world.state.garbage) == 1
    assert len(world.state.references) == 1
