from __future__ import annotations

import hashlib
from binascii import crc32

import pytest

from rs3d.engine import StorageEngine
from rs3d.engine.requests import (
    BodyChecks,
    BucketRequest,
    CompletedPart,
    CompleteRequest,
    CopySource,
    ListPartsRequest,
    ListUploadsRequest,
    PartCopyRequest,
    UploadRequest,
)
from rs3d.engine.runtime import PARTS_ON_LOOP
from rs3d.errors import (
    BadDigest,
    EntityTooSmall,
    InvalidArgument,
    InvalidPart,
    InvalidPartOrder,
    InvalidRange,
    NoSuchUpload,
    PreconditionFailed,
)
from rs3d.format.merkletree import merkle_root
from rs3d.types.objects import Checksum, ChecksumType
from rs3d.types.operations import Preconditions
from tests.engine.bodies import noise
from tests.fakes.bodies import StreamSource
from tests.fakes.deps import MemoryWorld

BODIES = [noise(100_000, 1), noise(130_000, 2), noise(7, 3)]


async def begin(engine: StorageEngine, request: UploadRequest | None = None, bucket: str = "bucket") -> str:
    return await engine.create_multipart_upload(bucket, "key", request or UploadRequest())


async def upload_all(engine: StorageEngine, upload: str, bucket: str = "bucket") -> tuple[CompletedPart, ...]:
    parts = []
    for number, body in enumerate(BODIES, 1):
        made = await engine.upload_part(bucket, "key", upload, number, StreamSource(body, 9000))
        parts.append(CompletedPart(number=number, etag=made.etag))
    return tuple(parts)


async def test_parts_become_one_object(engine: StorageEngine) -> None:
    request = UploadRequest(headers=(("content-type", "text/x"),), user_metadata=(("a", "b"),), tags=(("t", "1"),))
    upload = await begin(engine, request)
    parts = await upload_all(engine, upload)
    made = await engine.complete_multipart_upload("bucket", "key", upload, CompleteRequest(parts=parts))
    md5s = b"".join(hashlib.md5(body).digest() for body in BODIES)
    assert made.etag == hashlib.md5(md5s).hexdigest() + "-3"
    assert await engine.get_object("bucket", "key") == b"".join(BODIES)
    version = engine.head_object("bucket", "key").version
    assert (version.meta.headers, version.meta.user_metadata) == (request.headers, request.user_metadata)
    assert version.mutable.tags == request.tags
    assert version.meta.part_count == 3


async def test_the_root_of_an_object_is_over_its_parts_roots(engine: StorageEngine) -> None:
    upload = await begin(engine)
    parts = await upload_all(engine, upload)
    await engine.complete_multipart_upload("bucket", "key", upload, CompleteRequest(parts=parts))
    roots = b"".join(merkle_root(hashlib.sha256(body).digest(), len(body)) for body in BODIES)
    version = engine.head_object("bucket", "key").version
    assert version.meta.merkle_root == merkle_root(roots, sum(map(len, BODIES)))


async def test_with_sha256_the_etag_is_the_like(engine: StorageEngine) -> None:
    await engine.create_bucket("hashed", BucketRequest(settings=(("etag", "sha256"),)))
    upload = await begin(engine, bucket="hashed")
    parts = await upload_all(engine, upload, "hashed")
    assert parts[0].etag == hashlib.sha256(BODIES[0]).hexdigest()
    made = await engine.complete_multipart_upload("hashed", "key", upload, CompleteRequest(parts=parts))
    digests = b"".join(hashlib.sha256(body).digest() for body in BODIES)
    assert made.etag == hashlib.sha256(digests).hexdigest() + "-3"
    assert (await engine.put_object("hashed", "one", b"x")).etag == hashlib.sha256(b"x").hexdigest()


async def test_a_crc_of_the_whole_is_combined_from_the_parts(engine: StorageEngine) -> None:
    upload = await begin(engine, UploadRequest(checksum_algorithm="CRC32", checksum_type=ChecksumType.FULL_OBJECT))
    parts = await upload_all(engine, upload)
    expected = Checksum("CRC32", crc32(b"".join(BODIES)).to_bytes(4, "big"))
    wrong = CompleteRequest(parts=parts, checksums=(Checksum("CRC32", bytes(4)),))
    with pytest.raises(BadDigest):
        await engine.complete_multipart_upload("bucket", "key", upload, wrong)
    right = CompleteRequest(parts=parts, checksums=(expected,), checksum_type=ChecksumType.FULL_OBJECT)
    made = await engine.complete_multipart_upload("bucket", "key", upload, right)
    assert made.checksums == (expected,)


async def test_a_composite_checksum_is_over_the_parts_checksums(engine: StorageEngine) -> None:
    upload = await begin(engine, UploadRequest(checksum_algorithm="SHA256"))
    parts = await upload_all(engine, upload)
    made = await engine.complete_multipart_upload("bucket", "key", upload, CompleteRequest(parts=parts))
    digests = b"".join(hashlib.sha256(body).digest() for body in BODIES)
    assert made.checksums == (Checksum("SHA256", hashlib.sha256(digests).digest(), ChecksumType.COMPOSITE),)


async def test_pairs_of_algorithm_and_type_that_s3_does_not_have(engine: StorageEngine) -> None:
    for algorithm, kind in (
        ("SHA256", ChecksumType.FULL_OBJECT),
        ("CRC64NVME", ChecksumType.COMPOSITE),
        ("CRC33", None),
        ("", ChecksumType.COMPOSITE),
    ):
        with pytest.raises(InvalidArgument):
            await begin(engine, UploadRequest(checksum_algorithm=algorithm, checksum_type=kind))


async def test_a_part_with_another_checksum_than_the_upload_is_refused(engine: StorageEngine) -> None:
    upload = await begin(engine, UploadRequest(checksum_algorithm="SHA256"))
    checks = BodyChecks(checksum_algorithm="CRC32")
    with pytest.raises(InvalidArgument):
        await engine.upload_part("bucket", "key", upload, 1, b"x", checks)


async def test_what_complete_refuses(engine: StorageEngine) -> None:
    upload = await begin(engine)
    one, two, three = await upload_all(engine, upload)
    refusals: list[tuple[tuple[CompletedPart, ...], type[Exception]]] = [
        ((), InvalidArgument),
        ((two, one), InvalidPartOrder),
        ((one, one), InvalidPartOrder),
        ((one, CompletedPart(number=9, etag=two.etag)), InvalidPart),
        ((one, CompletedPart(number=2, etag=one.etag)), InvalidPart),
        ((one, CompletedPart(number=10_001, etag=one.etag)), InvalidArgument),
        ((one, CompletedPart(number=2, etag=two.etag, checksum=Checksum("CRC32", bytes(4)))), InvalidPart),
    ]
    for parts, error in refusals:
        with pytest.raises(error):
            await engine.complete_multipart_upload("bucket", "key", upload, CompleteRequest(parts=parts))
    with pytest.raises(InvalidArgument):
        wrong_size = CompleteRequest(parts=(one, two, three), size_bytes=1)
        await engine.complete_multipart_upload("bucket", "key", upload, wrong_size)
    small = await engine.upload_part("bucket", "key", upload, 2, b"small")
    with pytest.raises(EntityTooSmall):
        parts = (one, CompletedPart(number=2, etag=small.etag), three)
        await engine.complete_multipart_upload("bucket", "key", upload, CompleteRequest(parts=parts))


async def test_complete_takes_the_parts_it_names_and_frees_the_others(world: MemoryWorld) -> None:
    upload = await begin(world.engine)
    one, _, three = await upload_all(world.engine, upload)
    await world.engine.complete_multipart_upload("bucket", "key", upload, CompleteRequest(parts=(one, three)))
    assert await world.engine.get_object("bucket", "key") == BODIES[0] + BODIES[2]
    assert len(world.state.garbage) == 1


async def test_a_repeated_complete_answers_the_same(engine: StorageEngine) -> None:
    """PITFALLS D24."""
    upload = await begin(engine)
    parts = await upload_all(engine, upload)
    request = CompleteRequest(parts=parts)
    first = await engine.complete_multipart_upload("bucket", "key", upload, request)
    again = await engine.complete_multipart_upload("bucket", "key", upload, request)
    assert (again.etag, again.version_text, again.size_bytes) == (first.etag, first.version_text, first.size_bytes)
    with pytest.raises(NoSuchUpload):
        other = CompleteRequest(parts=parts[:2])
        await engine.complete_multipart_upload("bucket", "key", upload, other)
    await engine.delete_object("bucket", "key")
    with pytest.raises(NoSuchUpload):
        await engine.complete_multipart_upload("bucket", "key", upload, request)


async def test_complete_is_conditional(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "key", b"there")
    upload = await begin(engine)
    parts = await upload_all(engine, upload)
    request = CompleteRequest(parts=parts, preconditions=Preconditions(if_none_match=("*",)))
    with pytest.raises(PreconditionFailed):
        await engine.complete_multipart_upload("bucket", "key", upload, request)
    assert await engine.get_object("bucket", "key") == b"there"


async def test_a_replaced_part_frees_its_blob(world: MemoryWorld) -> None:
    upload = await begin(world.engine)
    await world.engine.upload_part("bucket", "key", upload, 1, noise(5000))
    await world.engine.upload_part("bucket", "key", upload, 1, noise(6000))
    page = world.engine.list_parts("bucket", "key", upload)
    assert [(part.number, part.size_bytes) for part in page.parts] == [(1, 6000)]
    assert len(world.state.garbage) == 1


async def test_abort_frees_everything_and_ends_the_upload(world: MemoryWorld) -> None:
    upload = await begin(world.engine)
    await upload_all(world.engine, upload)
    await world.engine.abort_multipart_upload("bucket", "key", upload)
    assert len(world.state.garbage) == 3
    assert world.engine.list_multipart_uploads("bucket").uploads == []
    with pytest.raises(NoSuchUpload):
        await world.engine.abort_multipart_upload("bucket", "key", upload)
    with pytest.raises(NoSuchUpload):
        await world.engine.upload_part("bucket", "key", upload, 1, b"late")


async def test_an_upload_belongs_to_its_key(engine: StorageEngine) -> None:
    upload = await begin(engine)
    for key, text in (("kez", upload), ("key", upload[:-1]), ("key", "../.."), ("key", "")):
        with pytest.raises(NoSuchUpload):
            await engine.upload_part("bucket", key, text, 1, b"x")
        with pytest.raises(NoSuchUpload):
            engine.list_parts("bucket", key, text)


async def test_part_numbers_end_at_ten_thousand(engine: StorageEngine) -> None:
    upload = await begin(engine)
    for number in (0, -1, 10_001):
        with pytest.raises(InvalidArgument):
            await engine.upload_part("bucket", "key", upload, number, b"x")
    await engine.upload_part("bucket", "key", upload, 10_000, b"x")


@pytest.mark.parametrize("size", range(1, 8))
async def test_d21_pages_of_parts_join_to_the_whole(engine: StorageEngine, size: int) -> None:
    upload = await begin(engine)
    numbers = [1, 2, 3, 5, 8, 13, 21, 9999, 10_000]
    for number in reversed(numbers):
        await engine.upload_part("bucket", "key", upload, number, b"x")
    seen: list[int] = []
    after = 0
    while True:
        page = engine.list_parts("bucket", "key", upload, ListPartsRequest(after=after, maximum=size))
        seen += [part.number for part in page.parts]
        if not page.is_truncated:
            break
        after = page.next_marker
    assert seen == numbers


async def test_attributes_page_the_parts_of_a_finished_object(engine: StorageEngine) -> None:
    upload = await begin(engine)
    parts = await upload_all(engine, upload)
    await engine.complete_multipart_upload("bucket", "key", upload, CompleteRequest(parts=parts))
    found = engine.object_attributes("bucket", "key", parts=ListPartsRequest(after=1, maximum=1))
    assert found.parts is not None
    assert ([part.number for part in found.parts.parts], found.parts.total) == ([2], 3)
    assert (found.parts.is_truncated, found.parts.next_marker) == (True, 2)
    await engine.put_object("bucket", "plain", b"x")
    assert engine.object_attributes("bucket", "plain").parts is None


@pytest.mark.parametrize("size", range(1, 8))
async def test_d21_pages_of_uploads_join_to_the_whole(engine: StorageEngine, size: int) -> None:
    keys = ["a", "a", "a", "b/1", "b/2", "c", "d/x/y", "é", "é"]
    ids = [(key, await engine.create_multipart_upload("bucket", key)) for key in keys]
    for delimiter, expected in (("", ids), ("/", [pair for pair in ids if "/" not in pair[0]])):
        seen: list[tuple[str, str]] = []
        prefixes: list[str] = []
        key_marker = upload_marker = ""
        while True:
            page = engine.list_multipart_uploads(
                "bucket",
                ListUploadsRequest(
                    delimiter=delimiter, key_marker=key_marker, upload_marker=upload_marker, maximum=size
                ),
            )
            seen += [(upload.key, upload.upload.text()) for upload in page.uploads]
            prefixes += page.common_prefixes
            if not page.is_truncated:
                break
            key_marker, upload_marker = page.next_key_marker, page.next_upload_marker
        assert seen == expected
        assert prefixes == (["b/", "d/"] if delimiter else [])


async def test_a_table_of_many_parts_is_read_in_a_thread(engine: StorageEngine) -> None:
    config = engine.config
    await engine.put_object("bucket", "from", noise(config.minimum_part_bytes))
    upload = await begin(engine)
    request = PartCopyRequest(source=CopySource(bucket="bucket", key="from"))
    etag = (await engine.upload_part_copy("bucket", "key", upload, 1, request)).etag
    for number in range(2, PARTS_ON_LOOP + 2):
        await engine.upload_part_copy("bucket", "key", upload, number, request)
    parts = tuple(CompletedPart(number=number, etag=etag) for number in range(1, PARTS_ON_LOOP + 2))
    made = await engine.complete_multipart_upload("bucket", "key", upload, CompleteRequest(parts=parts))
    assert made.part_count == PARTS_ON_LOOP + 1
    first = 150 * config.minimum_part_bytes + 7
    async with await engine.open_object("bucket", "key", range=f"bytes={first}-{first + 9}") as reader:
        assert await reader.read() == noise(config.minimum_part_bytes)[7:17]
    with pytest.raises(InvalidRange):
        await engine.open_object("bucket", "key", range=f"bytes={made.size_bytes}-")
