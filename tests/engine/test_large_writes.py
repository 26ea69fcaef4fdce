"""Puts that receive their bodies themselves: whole or nothing, and what was received is given back (the fixture `world`
checks blobs, buffers, horizon)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio

from rs3d.engine.largewrites import LargeWrites, _Arriving
from rs3d.engine.plan import BodyPlan
from rs3d.errors import CommitterGone, NoSuchBucket, NoSuchKey, OutcomeUnknown, StoreFull
from rs3d.kernels import merkle
from rs3d.types.operations import Outcome
from tests.engine.bodies import noise
from tests.fakes.bodies import StreamSource
from tests.fakes.deps import MemoryWorld

DATA = noise(50_000)


class Put:
    """One put by the short way of a body of which 1000 bytes have come, and of the rest what `sent` has."""

    def __init__(self, world: MemoryWorld, sent: bytes = DATA[1000:], payload_sha256: bytes | None = None) -> None:
        self.ended = trio.Event()
        self.outcome: Outcome | None = None
        self.merkle_root = b""
        self.received = b""
        self.source = Sent(sent)
        self.begun = LargeWrites(world.engine._runtime).put(
            world.engine.bucket("bucket"),
            plan_of(world),
            b"key",
            len(DATA),
            b"text/plain",
            payload_sha256,
            memoryview(DATA)[:1000],
            self.source,
            self.done,
        )

    def done(self, outcome: Outcome | None, merkle_root: bytes, received: memoryview) -> None:
        assert not self.ended.is_set()
        self.outcome, self.merkle_root, self.received = outcome, merkle_root, bytes(received)
        self.ended.set()

    async def end(self) -> Outcome | None:
        assert self.begun
        await self.ended.wait()
        return self.outcome


class Sent:
    """What a client sends, in memory."""

    patience_ns = 0

    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self.is_given_back = False

    def receive(self, buffer: memoryview) -> int:
        buffer[: len(self._sent)] = self._sent
        return len(self._sent)

    def lend(self, stop: Callable[[], None]) -> int:
        """Of one in line: blobs in memory have no kernel."""
        self.stop = stop
        return -1

    def give_back(self, *, is_slow: bool) -> None:
        assert not is_slow
        self.is_given_back = True


def plan_of(world: MemoryWorld) -> BodyPlan:
    plan = world.engine.small_writes().plan(world.engine.bucket("bucket"))
    assert plan is not None
    return plan


async def check_given_back(world: MemoryWorld, put: Put, received: bytes = DATA) -> None:
    """Nothing is stored, and the same bytes can go the long way."""
    assert await put.end() is None
    assert put.received == received
    with pytest.raises(NoSuchKey):
        await world.engine.get_object("bucket", "key")


@pytest.fixture
async def ready(world: MemoryWorld) -> MemoryWorld:
    """With a segment for blobs, which the long way opens."""
    await world.engine.put_object("bucket", "first", StreamSource(DATA, 30_000))
    return world


async def test_a_body_is_stored_as_by_the_long_way(ready: MemoryWorld) -> None:
    put = Put(ready, payload_sha256=merkle.sha256(DATA))
    found = await put.end()
    known = await ready.engine.put_object("bucket", "other", StreamSource(DATA, 30_000))
    assert found is not None
    assert (found.etag, put.merkle_root) == (known.etag, known.merkle_root)
    assert await ready.engine.get_object("bucket", "key") == DATA
    assert ready.engine.head_object("bucket", "key").version.meta.headers == (("content-type", "text/plain"),)


async def test_only_bodies_of_one_leaf_that_need_a_file_go_this_way(ready: MemoryWorld) -> None:
    writes, plan = LargeWrites(ready.engine._runtime), plan_of(ready)
    lengths = (0, 1000, 1001, 65536, 65537)
    assert [writes.takes(plan, length) for length in lengths] == [False, False, True, True, False]


@pytest.mark.parametrize("count", [0, 5000, len(DATA) - 1001])
async def test_a_body_that_does_not_come_whole_is_given_back(ready: MemoryWorld, count: int) -> None:
    await check_given_back(ready, Put(ready, DATA[1000 : 1000 + count]), DATA[: 1000 + count])


async def test_a_body_that_is_not_what_was_declared_is_given_back(ready: MemoryWorld) -> None:
    await check_given_back(ready, Put(ready, payload_sha256=bytes(32)))


async def test_a_body_that_cannot_be_written_is_given_back(ready: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreFull(what="the disk", free_bytes=0, needed_bytes=1)

    monkeypatch.setattr(ready.blobs, "create", full)
    await check_given_back(ready, Put(ready))


async def test_a_body_is_given_back_when_something_breaks_in_its_thread(
    ready: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready.blobs, "create", lambda *_, **__: 1 / 0)
    await check_given_back(ready, Put(ready))


async def test_what_breaks_behind_the_first_byte_leaves_no_file(
    ready: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(ready.blobs.held)
    monkeypatch.setattr(_Arriving, "_origin", lambda _: 1 / 0)
    await check_given_back(ready, Put(ready))
    monkeypatch.undo()
    monkeypatch.setattr(ready.committer, "submit", lambda *_: 1 / 0)
    await check_given_back(ready, Put(ready))
    assert set(ready.blobs.held) == before


async def test_a_refused_body_is_unlinked_and_given_back(ready: MemoryWorld) -> None:
    refused = NoSuchBucket(bucket="bucket")
    ready.committer.fail_next.append(refused)
    await check_given_back(ready, Put(ready))


async def test_a_body_that_the_committer_has_no_room_for_is_unlinked_and_given_back(
    ready: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready.committer, "submit", lambda *_: False)
    await check_given_back(ready, Put(ready))


@pytest.mark.parametrize("error", [OutcomeUnknown(reason="test"), CommitterGone(reason="test")])
async def test_nothing_is_unlinked_when_nobody_knows_what_became_of_it(ready: MemoryWorld, error: Exception) -> None:
    before = set(ready.blobs.held)
    ready.committer.fail_next.append(error)
    await check_given_back(ready, Put(ready))
    (left,) = set(ready.blobs.held) - before
    taken = await ready.engine._runtime.numbers.take()
    assert taken.segment != left.segment
    ready.blobs.delete([left])


async def test_nothing_is_begun_where_it_would_have_to_wait(ready: MemoryWorld) -> None:
    runtime = ready.engine._runtime
    leases = [lease for _ in range(100) if (lease := runtime.buffers.try_large()) is not None]
    assert not Put(ready).begun
    for lease in leases:
        lease.release()
    assert runtime.buffers.leased == 0


async def test_bodies_wait_in_line_for_a_segment(world: MemoryWorld) -> None:
    runtime = world.engine._runtime
    for _ in range(2):
        puts = [Put(world), Put(world)]
        assert all(put.begun for put in puts) and len(runtime.put_line) == 2 and runtime.buffers.leased == 0
        for put in puts:
            assert await put.end() is not None
        runtime.numbers.retire((await runtime.numbers.take()).segment)


async def test_where_no_segment_can_be_opened_bodies_go_the_long_way_until_one_is(world: MemoryWorld) -> None:
    world.committer.fail_next.append(CommitterGone(reason="test"))
    puts = [Put(world), Put(world)]
    assert all(put.begun for put in puts)
    for put in puts:
        assert await put.end() is None
        assert put.received == DATA[:1000]
    assert not Put(world).begun
    await world.engine.put_object("bucket", "other", StreamSource(DATA, 30_000))
    assert await Put(world).end() is not None


async def test_a_body_waits_in_line_where_all_threads_are_busy(ready: MemoryWorld) -> None:
    runtime = ready.engine._runtime
    runtime.hashing.kernel.pause()  # whoever comes to hash waits
    try:
        puts = [Put(ready) for _ in range(runtime.config.threads + 2)]
        assert all(put.begun for put in puts) and len(runtime.put_line) == 2
        leaves = puts[-1]
        leaves.source.stop()
        await check_given_back(ready, leaves, DATA[:1000])
        assert len(runtime.put_line) == 1 and leaves.source.is_given_back
    finally:
        runtime.hashing.kernel.resume()
    for put in puts[:-1]:
        assert await put.end() is not None
    assert len(runtime.put_line) == 0


async def test_a_body_in_line_for_which_the_disk_has_no_room_any_more_is_given_back(
    ready: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = ready.engine._runtime
    runtime.hashing.kernel.pause()
    try:
        puts = [Put(ready) for _ in range(runtime.config.threads + 1)]
        monkeypatch.setattr(runtime, "deps", replace(runtime.deps, space=Full()))
    finally:
        runtime.hashing.kernel.resume()
    for put in puts[:-1]:
        assert await put.end() is not None
    assert await puts[-1].end() is None
    assert puts[-1].received == DATA[:1000]


class Full:
    """A disk without room."""

    def require(self, added_bytes: int, added_files: int = 2) -> None:
        raise StoreFull(what="the disk", free_bytes=0, needed_bytes=added_bytes)
