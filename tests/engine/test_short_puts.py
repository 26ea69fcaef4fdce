"""A body in memory goes the short way where nothing unusual is asked for, and is stored as by the long one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from rs3d.engine import StorageEngine, largewrites
from rs3d.engine.blobarrivals import BlobArrivals
from rs3d.engine.requests import BodyChecks, BucketChange, BucketRequest, EncryptionMode, EncryptionRequest, PutRequest
from rs3d.engine.results import ObjectHead, PutResult
from rs3d.errors import (
    BadDigest,
    CommitterGone,
    InvalidKey,
    NoSuchBucket,
    OutcomeUnknown,
    PreconditionFailed,
    Rs3dError,
    StoreReadOnly,
)
from rs3d.kernels.blobarrivals import Arrival
from rs3d.stores.commitclient import CommitClient
from rs3d.types.body import BytesSource
from rs3d.types.buckets import Versioning
from rs3d.types.objects import CanonicalId, Extent, Inline
from rs3d.types.operations import Preconditions, PutSmall
from tests.engine.bodies import noise
from tests.engine.test_encryption import customer
from tests.fakes.deps import MemoryWorld

LARGE = 40_000
"""More than is stored in a record here."""
USUAL = [PutRequest(), PutRequest(headers=(("content-type", "text/plain"),))]
UNUSUAL = [
    PutRequest(headers=(("cache-control", "no-store"),)),
    PutRequest(headers=(("content-type", "text/plain"), ("expires", "never"))),
    PutRequest(headers=(("content-type", "ü"),)),
    PutRequest(user_metadata=(("a", "b"),)),
    PutRequest(tags=(("a", "b"),)),
    PutRequest(owner=CanonicalId("ab" * 32)),
    PutRequest(checks=BodyChecks(checksum_algorithm="CRC32")),
    PutRequest(preconditions=Preconditions(if_none_match=("*",))),
    PutRequest(encryption=EncryptionRequest(EncryptionMode.STORE)),
    PutRequest(encryption=EncryptionRequest(EncryptionMode.CUSTOMER, customer(1))),
]


def of_put(result: PutResult) -> tuple[object, ...]:
    """All of an answer that is the same for the same put at another time."""
    return (
        *(result.etag, result.size_bytes, result.reports_version, result.checksums, result.part_count),
        *(result.envelope, result.merkle_root, len(result.version_text)),
    )


def of_head(head: ObjectHead) -> tuple[object, ...]:
    meta, placement = head.version.meta, head.version.placement
    inline = placement if isinstance(placement, Inline) else None  # blobs are each their own
    return (
        *(meta.size_bytes, meta.etag, meta.owner, meta.headers, meta.user_metadata, meta.checksums, meta.merkle_root),
        *(head.version.mutable, inline, head.version.is_null, head.version.is_latest),
    )


async def by_both_ways(engine: StorageEngine, body: bytes, request: PutRequest) -> PutResult:
    """Put twice; what is told and what is found have to be the same."""
    long = await engine.put_object("bucket", "key", BytesSource(body), request)
    found = of_head(engine.head_object("bucket", "key"))
    short = await engine.put_object("bucket", "key", body, request)
    assert of_put(short) == of_put(long)
    assert of_head(engine.head_object("bucket", "key")) == found
    assert short.sequence > long.sequence and short.last_modified_ns >= long.last_modified_ns
    assert await engine.get_object("bucket", "key") == body
    return short


@pytest.mark.parametrize("request_", USUAL, ids=str)
@pytest.mark.parametrize("size_bytes", [0, 1, 1000, 1001, LARGE, 1 << 20])
@pytest.mark.parametrize("versioning", [None, Versioning.ENABLED, Versioning.SUSPENDED])
async def test_both_ways_store_and_tell_the_same(
    engine: StorageEngine, request_: PutRequest, size_bytes: int, versioning: Versioning | None
) -> None:
    if versioning is not None:
        await engine.set_versioning("bucket", versioning)
    await by_both_ways(engine, noise(size_bytes), request_)


@pytest.mark.parametrize("body", [b"body", bytearray(b"body"), memoryview(b"xbodyx")[1:5]], ids=type)
async def test_a_usual_small_body_is_a_small_put(world: MemoryWorld, body: bytes | bytearray | memoryview) -> None:
    for request in USUAL:
        await world.engine.put_object("bucket", "key", body, request)
        assert type(world.committer.committed[-1]) is PutSmall
        assert await world.engine.get_object("bucket", "key") == b"body"


@pytest.mark.parametrize("request_", UNUSUAL, ids=str)
async def test_whoever_asks_for_more_goes_the_long_way(world: MemoryWorld, request_: PutRequest) -> None:
    await world.engine.put_object("bucket", "key", b"body", request_)
    assert type(world.committer.committed[-1]) is not PutSmall


@pytest.mark.parametrize("key", ["ü", "k" * 463, "k" * 1024])
async def test_keys_that_a_small_put_does_not_hold_go_the_long_way(world: MemoryWorld, key: str) -> None:
    await world.engine.put_object("bucket", key, b"body")
    assert type(world.committer.committed[-1]) is not PutSmall
    assert await world.engine.get_object("bucket", key) == b"body"


@pytest.mark.parametrize(
    "settings", [(("compression", "lz4"),), (("quota_bytes", "100"),), (("sign", "hmac"),)], ids=str
)
async def test_buckets_with_settings_of_their_own_go_the_long_way(
    world: MemoryWorld, settings: tuple[tuple[str, str], ...]
) -> None:
    await world.engine.create_bucket("other", BucketRequest(settings=settings))
    await world.engine.put_object("other", "key", b"body")
    assert type(world.committer.committed[-1]) is not PutSmall


async def test_refusals_are_those_of_the_long_way(world: MemoryWorld) -> None:
    engine = world.engine
    with pytest.raises(NoSuchBucket):
        await engine.put_object("missing", "key", b"body")
    with pytest.raises(InvalidKey):
        await engine.put_object("bucket", "", b"body")
    with pytest.raises(BadDigest):
        await engine.put_object("bucket", "key", b"body", PutRequest(checks=BodyChecks(content_md5=bytes(16))))
    await engine.put_object("bucket", "key", b"body")
    with pytest.raises(PreconditionFailed):
        held = PutRequest(preconditions=Preconditions(if_none_match=("*",)))
        await engine.put_object("bucket", "key", b"other", held)


async def test_an_error_of_the_commit_is_the_callers(world: MemoryWorld) -> None:
    failure: Rs3dError = StoreReadOnly(reason="test")
    world.committer.fail_next.append(failure)
    with pytest.raises(StoreReadOnly):
        await world.engine.put_object("bucket", "key", b"body")
    await world.engine.put_object("bucket", "key", b"body")


async def test_a_cancelled_caller_leaves_when_the_commit_has_ended(world: MemoryWorld) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.engine.put_object("bucket", "key", b"body")
    assert await world.engine.get_object("bucket", "key") == b"body"


async def test_a_committer_without_room_is_waited_for(world: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.committer, "submit", lambda operation, settle: False)
    await world.engine.put_object("bucket", "key", b"body")
    assert type(world.committer.committed[-1]) is not PutSmall
    assert await world.engine.get_object("bucket", "key") == b"body"


async def test_a_usual_large_body_goes_by_the_kernel_once_and_as_it_is(tmp_path: Path) -> None:
    body = bytearray(noise(1 << 20))
    async with StorageEngine.open(tmp_path / "store") as engine:
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "first", body)  # waits for a segment
        put = await engine.put_object("bucket", "key", body)
        kernel = engine._runtime.blob_arrivals._kernel
        assert kernel is not None and kernel.pieces == 1 and engine._runtime.buffers.leased == 0
        assert put.etag == hashlib.md5(body).hexdigest()
        for request in UNUSUAL[:-2]:
            with contextlib.suppress(PreconditionFailed):
                await engine.put_object("bucket", "key", body, request)
        await engine.put_object("bucket", "k" * 1000, body)
        await engine.put_object("bucket", "longer", body + b"x")
        assert kernel.pieces == 1
    async with StorageEngine.open(tmp_path / "store") as engine:
        for key, size in (("key", 0), ("k" * 1000, 0), ("longer", 1)):
            assert await engine.get_object("bucket", key) == body + b"x" * size


async def test_the_thread_itself_tells_the_committer_of_a_body_that_is_all_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    arrived = largewrites._ArrivingByKernel.arrived

    def watched(self: largewrites._ArrivingByKernel, arrival: Arrival) -> None:
        told.append((arrival.is_sent, self._early is not None))
        arrived(self, arrival)

    monkeypatch.setattr(largewrites._ArrivingByKernel, "arrived", watched)
    async with StorageEngine.open(tmp_path / "store") as engine:
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "first", noise(LARGE))  # waits for a segment
        for body in (noise(LARGE), bytearray(noise(LARGE))):
            put = await engine.put_object("bucket", "key", body)
            assert put.etag == hashlib.md5(body).hexdigest()
            assert engine.head_object("bucket", "key").version.meta.merkle_root == put.merkle_root
        assert told == [(True, True), (False, False)]  # of the second, whoever has it may change it


async def test_a_packet_for_which_there_is_no_room_goes_by_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = os.open("/dev/null", os.O_WRONLY)
    monkeypatch.setattr(BlobArrivals, "channel", lambda self, descriptor: nowhere)
    async with StorageEngine.open(tmp_path / "store") as engine:
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "first", noise(LARGE))
        await engine.put_object("bucket", "key", noise(LARGE))
        assert await engine.get_object("bucket", "key") == noise(LARGE)
        assert engine._runtime.buffers.leased == 0
    os.close(nowhere)


async def test_a_committer_that_ends_while_a_body_is_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with StorageEngine.open(tmp_path / "store") as engine:
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "first", noise(LARGE))
        committer = engine._runtime.committer
        assert isinstance(committer, CommitClient)
        monkeypatch.setattr(CommitClient, "_take", lambda self, raw: None)  # its answer does not come before its end

        async def fail() -> None:
            with pytest.raises((OutcomeUnknown, CommitterGone, StoreReadOnly)):
                await engine.put_object("bucket", "key", noise(LARGE))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.testing.wait_all_tasks_blocked()
            committer._gone = "test"
            committer._lose()
        assert engine._runtime.buffers.leased == 0


async def test_large_bodies_at_the_same_time_are_each_their_own(tmp_path: Path) -> None:
    async with StorageEngine.open(tmp_path / "store") as engine:
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "first", noise(LARGE))  # waits for a segment

        async def put(number: int) -> None:
            body = noise(1_000_000 + number, number)
            assert (await engine.put_object("bucket", f"key {number}", body)).etag == hashlib.md5(body).hexdigest()
            assert await engine.get_object("bucket", f"key {number}") == body

        async with trio.open_nursery() as nursery:
            for number in range(24):
                nursery.start_soon(put, number)
        kernel = engine._runtime.blob_arrivals._kernel
        assert kernel is not None and 0 < kernel.pieces <= 24


async def test_a_large_body_that_is_refused_leaves_nothing_and_the_long_way_says_why(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "first", noise(LARGE))  # opens a segment
    failure: Rs3dError = StoreReadOnly(reason="test")
    world.committer.fail_next += [failure, failure]  # of either way
    with pytest.raises(StoreReadOnly):
        await world.engine.put_object("bucket", "key", noise(LARGE))
    await world.engine.put_object("bucket", "key", noise(LARGE))
    assert await world.engine.get_object("bucket", "key") == noise(LARGE)


async def test_a_cancelled_caller_of_a_large_body_leaves_when_the_commit_has_ended(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "first", noise(LARGE))  # opens a segment
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.engine.put_object("bucket", "key", noise(LARGE))
    assert await world.engine.get_object("bucket", "key") == noise(LARGE)


class Watched:
    """Of which bodies the hash was begun ahead, and which were forsaken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[int] = []
        self.forsaken = 0
        begin, forsake = BlobArrivals.begin_hashing, BlobArrivals.forsake

        def watch_begin(arrivals: BlobArrivals, body: bytes) -> Arrival | None:
            found = begin(arrivals, body)
            if found is not None:
                self.begun.append(len(body))
            return found

        def watch_forsake(arrivals: BlobArrivals, arrival: Arrival) -> None:
            kernel = arrivals._kernel
            assert kernel is not None
            self.forsaken += arrival.is_ahead
            forsake(arrivals, arrival)

        monkeypatch.setattr(BlobArrivals, "begin_hashing", watch_begin)
        monkeypatch.setattr(BlobArrivals, "forsake", watch_forsake)


async def test_a_body_is_hashed_ahead_where_its_bucket_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, body = Watched(monkeypatch), noise(LARGE)
    async with StorageEngine.open(tmp_path / "store") as engine:
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "first", body)  # waits for a segment
        await engine.put_object("bucket", "second", body)  # the kernel's first
        for data in (body, bytearray(body), memoryview(body)[1:], body[:10], noise((1 << 20) + 1)):
            put = await engine.put_object("bucket", "key", data)
            assert put.etag == hashlib.md5(data).hexdigest() and put.size_bytes == len(data)
            assert await engine.get_object("bucket", "key") == data
        await engine.put_object("bucket", "key", body, PutRequest(tags=(("a", "b"),)))
        assert (watched.begun, watched.forsaken) == ([LARGE], 0)


async def test_a_body_hashed_ahead_for_nothing_is_forsaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, body = Watched(monkeypatch), noise(LARGE)
    async with StorageEngine.open(tmp_path / "store") as engine:

        async def put(key: str, body: bytes) -> bytes:
            kernel = engine._runtime.blob_arrivals._kernel
            while kernel is not None and kernel.outstanding:  # one that was forsaken
                await trio.lowlevel.checkpoint()
            await engine.put_object("bucket", key, body)
            return await engine.get_object("bucket", key)

        await engine.create_bucket("bucket")
        assert await put("first", body) == await put("second", body) == body
        with pytest.raises(InvalidKey):
            await put("", body)
        assert await put("ü", body) == body  # by the long way
        assert (len(watched.begun), watched.forsaken) == (2, 2)
        await engine.change_bucket("bucket", BucketChange(settings={"compression": "lz4"}))
        assert await put("packed", bytes(LARGE)) == bytes(LARGE)
        placement = engine.head_object("bucket", "packed").version.placement
        assert isinstance(placement, Extent) and engine.blob_info(placement.blob).stored_bytes < LARGE
        await engine.change_bucket("bucket", BucketChange(settings={"compression": None}))
        assert await put("third", body) == body
        assert (len(watched.begun), watched.forsaken) == (4, 3)
        for key in ("first", "second", "ü", "packed", "third"):
            await engine.delete_object("bucket", key)
        await engine.delete_bucket("bucket")
        with pytest.raises(NoSuchBucket):
            await put("key", body)
        assert watched.forsaken == 4 and engine._runtime.buffers.leased == 0
