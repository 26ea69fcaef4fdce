from __future__ import annotations

import hashlib
from binascii import crc32

import pytest

from rs3d.engine import StorageEngine
from rs3d.engine.requests import (
    BodyChecks,
    CompletedPart,
    CompleteRequest,
    CopyRequest,
    CopySource,
    Directive,
    PartCopyRequest,
    PutRequest,
    ReadConditions,
    UploadRequest,
)
from rs3d.errors import (
    InvalidArgument,
    InvalidRange,
    NoSuchKey,
    NotImplementedHere,
    PreconditionFailed,
    StaleSource,
)
from rs3d.types.objects import Checksum
from rs3d.types.operations import Preconditions, PutVersion
from tests.engine.bodies import noise
from tests.fakes.deps import MemoryWorld

SOURCE = CopySource(bucket="bucket", key="from")
META = PutRequest(headers=(("content-type", "a/b"),), user_metadata=(("k", "v"),), tags=(("t", "1"),))


async def put_parts(engine: StorageEngine, key: str, bodies: list[bytes]) -> None:
    upload = await engine.create_multipart_upload("bucket", key)
    parts = []
    for number, body in enumerate(bodies, 1):
        made = await engine.upload_part("bucket", key, upload, number, body)
        parts.append(CompletedPart(number=number, etag=made.etag))
    await engine.complete_multipart_upload("bucket", key, upload, CompleteRequest(parts=tuple(parts)))


@pytest.mark.parametrize("size", [0, 500, 200_000])
async def test_store_rule_17_a_copy_outlives_its_source(world: MemoryWorld, size: int) -> None:
    """PITFALLS D12: no shared byte is freed while one object refers to it."""
    data = noise(size)
    await world.engine.put_object("bucket", "from", data, META)
    await world.engine.copy_object("bucket", "to", CopyRequest(source=SOURCE))
    assert len(world.blobs.held) == (1 if size > 1000 else 0), "a copy reads and writes no byte"
    await world.engine.delete_object("bucket", "from")
    assert world.state.garbage == {}
    assert await world.engine.get_object("bucket", "to") == data
    version = world.engine.head_object("bucket", "to").version
    assert (version.meta.headers, version.meta.user_metadata) == (META.headers, META.user_metadata)
    assert version.mutable.tags == META.tags
    await world.engine.delete_object("bucket", "to")
    assert len(world.state.garbage) == (1 if size > 1000 else 0)


async def test_store_rule_16_a_copy_of_parts_refers_to_the_same_set(world: MemoryWorld) -> None:
    bodies = [noise(100_000, 1), noise(100_000, 2)]
    await put_parts(world.engine, "from", bodies)
    made = await world.engine.copy_object("bucket", "to", CopyRequest(source=SOURCE))
    assert made.etag.endswith("-2")
    await world.engine.delete_object("bucket", "from")
    assert await world.engine.get_object("bucket", "to") == b"".join(bodies)
    await world.engine.delete_object("bucket", "to")
    assert [len(members) for members in world.state.dead_sets.values()] == [2]


async def test_replaced_metadata_and_tags(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "from", b"x", META)
    request = CopyRequest(
        source=SOURCE,
        metadata_directive=Directive.REPLACE,
        headers=(("content-type", "c/d"),),
        tagging_directive=Directive.REPLACE,
        tags=(("n", "2"),),
    )
    await engine.copy_object("bucket", "to", request)
    version = engine.head_object("bucket", "to").version
    assert version.meta.headers == (("content-type", "c/d"),)
    assert version.meta.user_metadata == ()
    assert version.mutable.tags == (("n", "2"),)


async def test_a_copy_onto_itself_must_change_something(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "from", noise(5000), META)
    with pytest.raises(InvalidArgument):
        await world.engine.copy_object("bucket", "from", CopyRequest(source=SOURCE))
    changed = CopyRequest(source=SOURCE, metadata_directive=Directive.REPLACE, user_metadata=(("z", "1"),))
    await world.engine.copy_object("bucket", "from", changed)
    assert await world.engine.get_object("bucket", "from") == noise(5000)
    assert world.state.garbage == {}, "the blob moved from the old version to the new without dying"


@pytest.mark.parametrize("size", [500, 200_000])
async def test_a_checksum_asked_for_is_computed_from_the_bytes(engine: StorageEngine, size: int) -> None:
    data = noise(size)
    await engine.put_object("bucket", "from", data)
    made = await engine.copy_object("bucket", "to", CopyRequest(source=SOURCE, checksum_algorithm="CRC32"))
    assert made.checksums == (Checksum("CRC32", crc32(data).to_bytes(4, "big")),)


async def test_conditions_hold_for_source_and_target(engine: StorageEngine) -> None:
    made = await engine.put_object("bucket", "from", b"x")
    await engine.put_object("bucket", "to", b"y")
    with pytest.raises(PreconditionFailed):
        source = CopySource(bucket="bucket", key="from", conditions=ReadConditions(if_none_match=(made.etag,)))
        await engine.copy_object("bucket", "to", CopyRequest(source=source))
    with pytest.raises(PreconditionFailed):
        request = CopyRequest(source=SOURCE, preconditions=Preconditions(if_none_match=("*",)))
        await engine.copy_object("bucket", "to", request)
    with pytest.raises(NoSuchKey):
        await engine.copy_object("bucket", "to", CopyRequest(source=CopySource(bucket="bucket", key="none")))
    with pytest.raises(NotImplementedHere):
        await engine.copy_object("bucket", "to", CopyRequest(source=SOURCE, storage_class="GLACIER"))
    assert await engine.get_object("bucket", "to") == b"y"


async def test_store_rule_14_a_stale_source_is_planned_again_three_times(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "from", noise(5000))
    world.committer.fail_next = [StaleSource(blob="b")] * 3
    await world.engine.copy_object("bucket", "to", CopyRequest(source=SOURCE))
    world.committer.fail_next = [StaleSource(blob="b")] * 4
    with pytest.raises(StaleSource):
        await world.engine.copy_object("bucket", "to", CopyRequest(source=SOURCE))
    assert sum(isinstance(operation, PutVersion) for operation in world.committer.committed) == 2


# -------------------------------------------------------------------------------------------------- UploadPartCopy


async def copied_part(engine: StorageEngine, text: str | None, algorithm: str = "") -> bytes:
    upload = await engine.create_multipart_upload("bucket", "to", UploadRequest(checksum_algorithm=algorithm))
    made = await engine.upload_part_copy("bucket", "to", upload, 1, PartCopyRequest(source=SOURCE, source_range=text))
    part = CompletedPart(number=1, etag=made.etag)
    await engine.complete_multipart_upload("bucket", "to", upload, CompleteRequest(parts=(part,)))
    data = await engine.get_object("bucket", "to")
    assert made.etag == hashlib.md5(data).hexdigest()
    assert made.source is not None
    return data


@pytest.mark.parametrize("text", [None, "bytes=0-0", "bytes=65535-131072", "bytes=100000-199999"])
async def test_store_rule_17_a_part_shares_the_bytes_of_a_blob(world: MemoryWorld, text: str | None) -> None:
    data = noise(200_000)
    await world.engine.put_object("bucket", "from", data)
    first, last = (0, 199_999) if text is None else map(int, text[6:].split("-"))
    assert await copied_part(world.engine, text) == data[first : last + 1]
    assert len(world.blobs.held) == 1
    await world.engine.delete_object("bucket", "from")
    assert await world.engine.get_object("bucket", "to") == data[first : last + 1]
    assert world.state.garbage == {}


async def test_a_whole_object_whose_digests_are_known_is_not_read(world: MemoryWorld) -> None:
    checks = BodyChecks(checksum_algorithm="SHA256")
    await world.engine.put_object("bucket", "from", noise(200_000), PutRequest(checks=checks))
    upload = await world.engine.create_multipart_upload("bucket", "to", UploadRequest(checksum_algorithm="SHA256"))
    await world.engine.upload_part_copy("bucket", "to", upload, 1, PartCopyRequest(source=SOURCE))
    assert world.blobs.readers == []


async def test_the_root_of_a_shared_run_is_that_of_its_bytes(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "from", noise(200_000))
    upload = await engine.create_multipart_upload("bucket", "to")
    request = PartCopyRequest(source=SOURCE, source_range="bytes=5-150004")
    await engine.upload_part_copy("bucket", "to", upload, 1, request)
    await engine.upload_part("bucket", "to", upload, 2, noise(200_000)[5:150_005])
    one, two = engine.list_parts("bucket", "to", upload).parts
    assert one.merkle_root == two.merkle_root


@pytest.mark.parametrize("text", [None, "bytes=10-20"])
async def test_store_rule_17_bytes_of_an_inlined_source_are_written_anew(
    engine: StorageEngine, text: str | None
) -> None:
    await engine.put_object("bucket", "from", noise(900))
    assert await copied_part(engine, text, "CRC32") == (noise(900) if text is None else noise(900)[10:21])


async def test_bytes_over_several_parts_are_written_anew_and_within_one_are_shared(world: MemoryWorld) -> None:
    bodies = [noise(100_000, 1), noise(100_000, 2), noise(50_000, 3)]
    await put_parts(world.engine, "from", bodies)
    data = b"".join(bodies)
    assert await copied_part(world.engine, "bytes=99990-200010") == data[99990:200011]
    assert len(world.blobs.held) == 4
    assert await copied_part(world.engine, "bytes=100000-199999") == bodies[1]
    assert len(world.blobs.held) == 4


async def test_ranges_that_are_refused(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "from", noise(5000))
    for text, error in (
        ("bytes=0-5000", InvalidRange),
        ("bytes=0-", InvalidArgument),
        ("bytes=-5", InvalidArgument),
        ("bytes=9-5", InvalidArgument),
        ("0-5", InvalidArgument),
    ):
        with pytest.raises(error):
            await copied_part(engine, text)
