"""Deduplicated bodies: what went in comes out, chunks are stored once, counts follow the versions that need them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping

import pytest

from rs3d.engine import StorageEngine
from rs3d.engine.requests import (
    BodyChecks,
    BucketChange,
    BucketRequest,
    CompletedPart,
    CompleteRequest,
    CopyRequest,
    CopySource,
    CustomerKey,
    EncryptionMode,
    EncryptionRequest,
    PartCopyRequest,
    PutRequest,
)
from rs3d.errors import InvalidArgument, QuotaExceeded
from rs3d.kernels.crc import crc32c
from rs3d.rio.keys import EncryptionKey
from rs3d.types.objects import Extent
from tests.fakes.bodies import StreamSource
from tests.fakes.deps import MemoryWorld

RULE = b"<ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>"
ENCRYPTED = {
    "encryption": b"<ServerSideEncryptionConfiguration><Rule>" + RULE + b"</Rule></ServerSideEncryptionConfiguration>"
}
SETTINGS = [
    {"dedup": "fixed:4KiB"},
    {"dedup": "content-defined:4KiB"},
    {"dedup": "content-defined:16KiB", "compression": "zstd:3"},
    {"dedup": "fixed:64KiB", "compression": "lz4", "parity": "4+2"},
    {"dedup": "content-defined:8KiB", "compression": "adaptive"},
]


def body(size_bytes: int, seed: int = 1) -> bytes:
    """Noise, text that shrinks, and a stretch that comes twice."""
    noise = random.Random(seed).randbytes(size_bytes // 2 + 1)
    text = b"".join(b"line %d of a log\n" % number for number in range(size_bytes // 60 + 1))
    return (noise + text + noise)[:size_bytes]


async def make_bucket(engine: StorageEngine, settings: Mapping[str, str], *, encrypted: bool = False) -> None:
    pairs = tuple({"dedup_min_object_bytes": "5000", **settings}.items())
    await engine.create_bucket("dedup", BucketRequest(settings=pairs))
    if encrypted:
        await engine.change_bucket("dedup", BucketChange(configurations=ENCRYPTED))


def recipe_of(world: MemoryWorld, key: str) -> list[str]:
    placement = world.engine.head_object("dedup", key).version.placement
    assert isinstance(placement, Extent)
    reader = world.blobs.open(placement.blob)
    reader.close()
    return [layer.name for layer in reader.info.recipe.layers]


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "sealed"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("size_bytes", [5000, 65_536, 900_001])
async def test_ranges_of_deduplicated_objects_are_those_of_the_clients_bytes(
    engine: StorageEngine, settings: dict[str, str], encrypted: bool, size_bytes: int
) -> None:
    await make_bucket(engine, settings, encrypted=encrypted)
    data = body(size_bytes)
    for key in ("one", "again"):
        await engine.put_object("dedup", key, data)
        assert await engine.get_object("dedup", key) == data
    dice = random.Random(7)
    for _ in range(20):
        first = dice.randrange(size_bytes)
        last = dice.randrange(first, size_bytes)
        assert await engine.get_object("dedup", "again", range=f"bytes={first}-{last}") == data[first : last + 1]


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "sealed"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
async def test_recipes_begin_with_the_layer_and_chunks_are_stored_once(
    world: MemoryWorld, settings: dict[str, str], encrypted: bool
) -> None:
    engine = world.engine
    await make_bucket(engine, settings, encrypted=encrypted)
    data = body(600_000)
    await engine.put_object("dedup", "one", data)
    with world.engine._runtime.catalog.snapshot() as view:
        before = view.dedup_totals()
    await engine.put_object("dedup", "two", data)
    with world.engine._runtime.catalog.snapshot() as view:
        after = view.dedup_totals()
    assert before[:3] == after[:3] and after.referenced_client_bytes >= 2 * after.client_bytes
    names = ["dedup", *(["encrypt"] if encrypted else []), *(["parity"] if "parity" in settings else [])]
    assert recipe_of(world, "two") == names
    assert ("compression" in settings) == (after.stored_bytes < after.client_bytes)


def totals(world: MemoryWorld) -> tuple[int, ...]:
    with world.engine._runtime.catalog.snapshot() as view:
        return view.dedup_totals()


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "sealed"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
async def test_parts_copies_and_copied_ranges_of_deduplicated_objects_keep_their_bytes(
    engine: StorageEngine, settings: dict[str, str], encrypted: bool
) -> None:
    await make_bucket(engine, settings, encrypted=encrypted)
    data = body(400_000)
    await engine.put_object("dedup", "source", data)
    upload = await engine.create_multipart_upload("dedup", "joined")
    ranged = PartCopyRequest(source=CopySource(bucket="dedup", key="source"), source_range="bytes=12345-355554")
    parts = [
        await engine.upload_part("dedup", "joined", upload, 1, data, BodyChecks()),
        await engine.upload_part_copy("dedup", "joined", upload, 2, ranged),
        await engine.upload_part("dedup", "joined", upload, 3, data[:100], BodyChecks()),
    ]
    request = CompleteRequest(
        parts=tuple(CompletedPart(number=at + 1, etag=part.etag) for at, part in enumerate(parts))
    )
    await engine.complete_multipart_upload("dedup", "joined", upload, request)
    joined = data + data[12345:355555] + data[:100]
    assert await engine.get_object("dedup", "joined") == joined
    assert await engine.get_object("dedup", "joined", range="bytes=390000-450000") == joined[390_000:450_001]
    for bucket, key in (("bucket", "copied"), ("dedup", "copied")):
        await engine.copy_object(bucket, key, CopyRequest(source=CopySource(bucket="dedup", key="joined")))
    await engine.delete_object("dedup", "source")
    await engine.delete_object("dedup", "joined")
    assert await engine.get_object("bucket", "copied") == joined
    assert await engine.get_object("dedup", "copied") == joined


async def test_small_bodies_and_those_under_a_customers_key_are_stored_as_they_are(world: MemoryWorld) -> None:
    await make_bucket(world.engine, {"dedup": "fixed:4KiB"})
    await world.engine.put_object("dedup", "small", body(4999))
    assert recipe_of(world, "small") == []
    key = EncryptionRequest(EncryptionMode.CUSTOMER, customer_key())
    for _ in range(2):
        await world.engine.put_object("dedup", "theirs", body(50_000), PutRequest(encryption=key))
    placement = world.engine.head_object("dedup", "theirs", customer_key=customer_key()).version.placement
    assert isinstance(placement, Extent)
    assert [layer.name for layer in world.blobs.open(placement.blob).info.recipe.layers] == ["encrypt"]
    world.blobs.readers[-1].close()
    assert totals(world) == (0, 0, 0, 0)


def customer_key() -> CustomerKey:
    return CustomerKey(EncryptionKey(bytes(range(32))), md5=b"m" * 16)


async def test_clear_chunks_are_shared_by_buckets_and_sealed_ones_are_not(world: MemoryWorld) -> None:
    engine, data = world.engine, body(200_000)
    await make_bucket(engine, {"dedup": "fixed:16KiB"})
    await engine.put_object("dedup", "k", data)
    clear = totals(world)[0]
    await engine.create_bucket("other", BucketRequest(settings=(("dedup", "fixed:16KiB"),)))
    await engine.put_object("other", "k", data)
    assert totals(world)[0] == clear
    for name in ("other", "dedup"):
        await engine.change_bucket(name, BucketChange(configurations=ENCRYPTED))
        await engine.put_object(name, "sealed", data)
        await engine.put_object(name, "sealed again", data)
    assert totals(world)[0] == 3 * clear
    assert await engine.get_object("other", "sealed again") == await engine.get_object("dedup", "k") == data


async def test_a_chunk_that_repeats_inside_a_body_is_stored_once(world: MemoryWorld) -> None:
    await make_bucket(world.engine, {"dedup": "fixed:4KiB"})
    data = b"".join((b"a" * 4096, b"b" * 4096, b"a" * 4096)) * 40
    await world.engine.put_object("dedup", "k", data)
    assert totals(world)[:2] == (2, 8192)
    assert await world.engine.get_object("dedup", "k") == data


async def test_etag_checksum_and_quota_are_of_the_clients_bytes(engine: StorageEngine) -> None:
    await make_bucket(engine, {"dedup": "fixed:4KiB", "quota_bytes": "250000"})
    data = body(100_000)
    for key in ("one", "two"):
        put = await engine.put_object("dedup", key, data, PutRequest(checks=BodyChecks(checksum_algorithm="CRC32C")))
        assert put.etag == hashlib.md5(data).hexdigest()
        assert put.checksums[0].value == crc32c(data).to_bytes(4, "big")
    assert engine.bucket_status("dedup").counters.bytes == 200_000
    with pytest.raises(QuotaExceeded):
        await engine.put_object("dedup", "three", data)


async def test_a_body_of_unknown_length_is_judged_by_what_came(world: MemoryWorld) -> None:
    await make_bucket(world.engine, {"dedup": "fixed:4KiB"})
    for size, recipe in ((4000, []), (5000, ["dedup"]), (300_000, ["dedup"])):
        await world.engine.put_object("dedup", "k", StreamSource(body(size), 3000, declared_bytes=None))
        assert recipe_of(world, "k") == recipe
        assert await world.engine.get_object("dedup", "k") == body(size)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dedup", ""),
        ("dedup", "on"),
        ("dedup", "fixed:"),
        ("dedup", "fixed:2KiB"),
        ("dedup", "fixed:5000"),
        ("dedup", "fixed:2MiB"),
        ("dedup", "fixed:4KB"),
        ("dedup", "content-defined:12KiB"),
        ("dedup", "off:4KiB"),
        ("dedup_min_object_bytes", "-1"),
        ("dedup_min_object_bytes", "128KiB"),
        ("dedup_min_object_bytes", "99999999999999"),
    ],
)
async def test_settings_of_deduplication_that_mean_nothing_are_refused(
    engine: StorageEngine, name: str, value: str
) -> None:
    with pytest.raises(InvalidArgument):
        await engine.create_bucket("dedup", BucketRequest(settings=((name, value),)))
