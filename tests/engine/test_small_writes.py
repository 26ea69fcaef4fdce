"""Small puts and deletes that end in a callback: over the memory store and over the real one."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from rs3d.engine import StorageEngine
from rs3d.engine.plan import BodyPlan
from rs3d.errors import NoSuchBucket, NoSuchKey, OutcomeUnknown, Rs3dError
from rs3d.format.rows import pack_owner
from rs3d.kernels import merkle
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.types.operations import Outcome
from tests.fakes.deps import MemoryWorld


class Begun:
    """A small write, and how it ends."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.outcomes: list[Outcome | Rs3dError] = []

    def settle(self, outcome: Outcome | Rs3dError) -> None:
        self.outcomes.append(outcome)
        self.ended.set()

    async def end(self) -> Outcome:
        await self.ended.wait()
        (outcome,) = self.outcomes
        if isinstance(outcome, Rs3dError):
            raise outcome
        return outcome


class Ended:
    """Small writes that have ended."""

    def __init__(self) -> None:
        self._ended = trio.Event()
        self._writes: list[SmallWrite] = []

    def settle(self, writes: list[SmallWrite]) -> None:
        self._writes += writes
        self._ended.set()

    async def wait(self) -> list[SmallWrite]:
        await self._ended.wait()
        return self._writes


def received(engine: StorageEngine, data: bytes, sha256: bytes | None) -> tuple[SmallWrite | None, Ended]:
    """A put of "key", of what lies in `data` behind two bytes and before two others, that was sent."""
    ended, writes, bucket = Ended(), engine.small_writes(), engine.bucket("bucket")
    buffer, stop, owner = bytearray(data), len(data) - 2, pack_owner(bucket.owner)
    plan, settle = plan_of(engine), ended.settle
    write = writes.put_received(bucket, plan, owner, b"key", buffer, 2, stop, b"text/plain", sha256, None, settle)
    writes.send()
    return write, ended


def plan_of(engine: StorageEngine) -> BodyPlan:
    plan = engine.small_writes().plan(engine.bucket("bucket"))
    assert plan is not None
    return plan


def begin(
    engine: StorageEngine, data: bytes, content_type: bytes | None = b"text/plain", payload_sha256: bytes | None = None
) -> tuple[Begun, bytes | None]:
    """A put of "key" that was sent, and the Merkle root that `put` gave."""
    begun, writes = Begun(), engine.small_writes()
    bucket = engine.bucket("bucket")
    root = writes.put(bucket, plan_of(engine), b"key", memoryview(data), content_type, payload_sha256, begun.settle)
    writes.send()
    return begun, root


async def test_a_small_put_stores_what_the_long_way_stores(engine: StorageEngine) -> None:
    begun, root = begin(engine, b"body", payload_sha256=merkle.sha256(b"body"))
    outcome = await begun.end()
    known = await engine.put_object("bucket", "other", b"body")
    found = engine.head_object("bucket", "key").version
    assert await engine.get_object("bucket", "key") == b"body"
    assert (found.meta.etag, found.meta.size_bytes) == (known.etag, 4)
    assert root == found.meta.merkle_root == known.merkle_root
    assert found.meta.headers == (("content-type", "text/plain"),)
    assert (outcome.sequence, outcome.etag) == (found.version.sequence, found.meta.etag)


@pytest.mark.parametrize("data", [b"", bytes(range(256)) * 3])
async def test_a_small_put_replaces_what_was_there(engine: StorageEngine, data: bytes) -> None:
    await engine.put_object("bucket", "key", b"before")
    await begin(engine, data, content_type=None)[0].end()
    assert await engine.get_object("bucket", "key") == data
    assert engine.head_object("bucket", "key").version.meta.headers == ()


async def test_a_body_that_is_not_what_was_declared_is_not_begun(engine: StorageEngine) -> None:
    begun, root = begin(engine, b"body", payload_sha256=bytes(32))
    assert root is None and not begun.outcomes
    with pytest.raises(NoSuchKey):
        engine.head_object("bucket", "key")


async def test_a_small_delete_removes_the_latest_version(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "key", b"body")
    ended, writes = Ended(), engine.small_writes()
    write = writes.delete(engine.bucket("bucket"), b"key", ended.settle)
    writes.send()
    assert write is not None and await ended.wait() == [write] and write.answer == b""
    with pytest.raises(NoSuchKey):
        engine.head_object("bucket", "key")


async def test_a_delete_of_a_key_that_is_too_long_for_a_small_one_is_not_begun(engine: StorageEngine) -> None:
    assert engine.small_writes().delete(engine.bucket("bucket"), b"k" * 463, lambda _: None) is None


async def test_received_bytes_are_stored_as_the_long_way_stores_them(engine: StorageEngine) -> None:
    write, writes = received(engine, b"..body..", merkle.sha256(b"body"))
    assert write is not None and await writes.wait() == [write]
    known = await engine.put_object("bucket", "other", b"body")
    found = engine.head_object("bucket", "key").version
    assert await engine.get_object("bucket", "key") == b"body"
    assert (found.meta.etag, found.meta.size_bytes) == (known.etag, 4)
    assert found.meta.merkle_root == known.merkle_root and found.meta.owner == engine.bucket("bucket").owner
    assert found.meta.headers == (("content-type", "text/plain"),)
    assert (write.sequence, write.answer) == (found.version.sequence, b"")


async def test_received_bytes_that_are_not_those_declared_are_the_long_ways(engine: StorageEngine) -> None:
    write, writes = received(engine, b"..body..", bytes(32))
    assert write is not None and await writes.wait() == [write] and write.answer is None
    with pytest.raises(NoSuchKey):
        engine.head_object("bucket", "key")


async def test_those_of_a_turn_are_sent_together_but_for_what_is_not_as_declared(world: MemoryWorld) -> None:
    engine, ended, refused = world.engine, Ended(), Ended()
    writes, bucket, plan = engine.small_writes(), engine.bucket("bucket"), plan_of(engine)
    owner, bodies = pack_owner(bucket.owner), [bytearray(b"body %d" % number) for number in range(20)]
    for number, body in enumerate(bodies):
        declared, settle = (bytes(32), refused.settle) if number == 7 else (None, ended.settle)
        key = b"key-%d" % number
        assert writes.put_received(bucket, plan, owner, key, body, 0, len(body), None, declared, None, settle)
    writes.send()
    writes.send()
    await ended.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert len(await refused.wait()) == 1 and len(await ended.wait()) == 19
    for number, body in enumerate(bodies):
        if number != 7:
            assert await engine.get_object("bucket", f"key-{number}") == bytes(body)


async def test_a_write_whose_commit_fails_has_no_answer(world: MemoryWorld) -> None:
    world.committer.fail_next.append(OutcomeUnknown(reason="test"))
    write, writes = received(world.engine, b"..body..", None)
    assert write is not None and await writes.wait() == [write]
    assert write.answer is None and write.sequence == 0


async def test_a_put_into_a_bucket_that_went_meanwhile_is_refused(engine: StorageEngine) -> None:
    bucket, plan = engine.bucket("bucket"), plan_of(engine)
    await engine.delete_bucket("bucket")
    begun, writes = Begun(), engine.small_writes()
    assert writes.put(bucket, plan, b"key", memoryview(b"body"), None, None, begun.settle) is not None
    writes.send()
    with pytest.raises(NoSuchBucket):
        await begun.end()


async def test_a_failure_of_the_commit_is_told_once(world: MemoryWorld) -> None:
    world.committer.fail_next.append(OutcomeUnknown(reason="test"))
    begun, root = begin(world.engine, b"body")
    assert root is not None
    with pytest.raises(OutcomeUnknown):
        await begun.end()
    with pytest.raises(NoSuchKey):
        world.engine.head_object("bucket", "key")
