"""Deduplicated bodies that fail, are cancelled or refused, or whose chunks go away or rot: nothing is left behind,
nothing shared is lost, and no wrong byte is handed out."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from rs3d.engine import dedupwriting
from rs3d.engine.requests import BucketChange, BucketRequest, PutRequest
from rs3d.errors import CommitterGone, NoSuchKey, ObjectDamaged, OutcomeUnknown, PreconditionFailed, SlowDown
from rs3d.types.identifiers import BlobId
from rs3d.types.operations import FreeChunks, Operation, Outcome, PinChunks, PutVersion
from tests.engine.test_dedup import ENCRYPTED
from tests.engine.test_faults import cancelled_everywhere
from tests.fakes.bodies import StreamSource
from tests.fakes.deps import MemoryWorld

DATA = random.Random(3).randbytes(200_000)
HALF = DATA[:100_000] + random.Random(4).randbytes(100_000)


async def dedup_world(world: MemoryWorld, *, sealed: bool = False) -> None:
    settings = (("dedup", "fixed:8KiB"), ("dedup_min_object_bytes", "5000"))
    await world.engine.create_bucket("dedup", BucketRequest(settings=settings))
    if sealed:
        await world.engine.change_bucket("dedup", BucketChange(configurations=ENCRYPTED))


def watch(world: MemoryWorld, before: Callable[[Operation], None]) -> None:
    """Call `before` ahead of every commit."""
    commit = world.committer.commit

    async def watched(operation: Operation) -> Outcome:
        before(operation)
        return await commit(operation)

    world.committer.commit = watched  # type: ignore[method-assign]


def held(world: MemoryWorld) -> tuple[set[BlobId], dict[bytes, int]]:
    """Blobs on disk that are not garbage, and the count of every chunk."""
    state = world.state
    return set(world.blobs.held) - set(state.garbage), {key: row.references for key, row in state.chunks.items()}


@pytest.fixture(params=[0, 40_000, 8 << 20], ids=["pins at once", "pins wait", "pins wait to the end"])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much of a body may wait for its pins."""
    monkeypatch.setattr(dedupwriting, "WAITING_BYTES", request.param)


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("data", [DATA, HALF], ids=["known", "half known"])
async def test_a_deduplicated_put_cancelled_anywhere_is_whole_or_nothing(world: MemoryWorld, data: bytes) -> None:
    await dedup_world(world)
    await world.engine.put_object("dedup", "kept", DATA)
    before = held(world)

    async def put() -> None:
        await world.engine.put_object("dedup", "key", StreamSource(data, 30_000))

    async def check(finished: bool) -> None:
        try:
            assert await world.engine.get_object("dedup", "key") == data
            await world.engine.delete_object("dedup", "key")
        except NoSuchKey:
            assert not finished
            assert held(world) == before
        assert world.unreachable_blobs() == set()
        assert world.engine._runtime.buffers.leased == 0
        assert world.engine._runtime.chunk_memory.reserved_bytes == 0
        assert await world.engine.get_object("dedup", "kept") == DATA
        await collect(world)

    assert await cancelled_everywhere(put, check) > 10


async def collect(world: MemoryWorld) -> None:
    """What a steward does with garbage."""
    runtime = world.engine._runtime
    for blob in list(world.state.garbage):
        await runtime.unlink((blob,))
        world.state.garbage.pop(blob)
    for blob in list(world.state.garbage):  # packs whose last chunk was freed just now
        await runtime.unlink((blob,))
        world.state.garbage.pop(blob)


@pytest.mark.parametrize("kind", [PinChunks, PutVersion])
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_refused_step_leaves_neither_file_nor_pin(
    world: MemoryWorld, kind: type[Operation], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedupwriting, "WAITING_BYTES", 0)
    await dedup_world(world)
    await world.engine.put_object("dedup", "kept", DATA)
    before, seen = held(world), 0

    def refuse(operation: Operation) -> None:
        nonlocal seen
        if isinstance(operation, kind):
            seen += 1
            if seen == number or kind is PutVersion:
                raise SlowDown(what="test")

    watch(world, refuse)
    with pytest.raises(SlowDown):
        await world.engine.put_object("dedup", "key", StreamSource(HALF, 30_000))
    assert held(world) == before


@pytest.mark.parametrize("unknown", [OutcomeUnknown(reason="test"), CommitterGone(reason="test")])
async def test_store_rule_13_nothing_is_unlinked_when_the_outcome_of_a_pin_is_unknown(
    world: MemoryWorld, unknown: Exception
) -> None:
    await dedup_world(world)

    def lose(operation: Operation) -> None:
        if isinstance(operation, PinChunks):
            raise unknown

    watch(world, lose)
    with pytest.raises(type(unknown)):
        await world.engine.put_object("dedup", "key", DATA)
    orphans = world.unreachable_blobs()
    assert len(orphans) == 2 and len(world.blobs.segments) == 1
    await world.engine.put_object("bucket", "plain", DATA)
    assert len(world.blobs.segments) == 2
    world.blobs.delete(list(orphans))


@pytest.mark.usefixtures("waiting")
async def test_d12_a_chunk_that_goes_between_look_and_pin_is_written_again(world: MemoryWorld) -> None:
    await dedup_world(world)
    await world.engine.put_object("dedup", "old", DATA)
    placement = world.engine.head_object("dedup", "old").version.placement
    await world.engine.delete_object("dedup", "old")

    def free_first(operation: Operation) -> None:
        """The steward is faster than the first pin."""
        if isinstance(operation, PinChunks) and world.state.pins:
            for manifest, batch in [key for key in world.state.pins if key[0] == placement.blob]:  # type: ignore[union-attr]
                hashes = world.state.pins[manifest, batch]
                world.committer._apply(
                    FreeChunks(id=world.committer.next_id(), manifest=manifest, batch=batch, hashes=hashes)
                )

    watch(world, free_first)
    await world.engine.put_object("dedup", "new", StreamSource(DATA, 30_000))
    await collect(world)
    assert await world.engine.get_object("dedup", "new") == DATA


async def test_p8_one_of_two_identical_objects_outlives_the_other(world: MemoryWorld) -> None:
    await dedup_world(world)
    for key in ("one", "two"):
        await world.engine.put_object("dedup", key, DATA)
    await world.engine.delete_object("dedup", "one")
    await collect(world)
    assert await world.engine.get_object("dedup", "two") == DATA
    await world.engine.delete_object("dedup", "two")
    await collect(world)
    assert world.blobs.held == [] and not world.state.chunks and not world.state.pins


async def test_a_refused_precondition_frees_what_was_pinned(world: MemoryWorld) -> None:
    await dedup_world(world)
    await world.engine.put_object("dedup", "key", DATA)
    before = held(world)
    world.committer.state.sequence += 1

    def overtaken(operation: Operation) -> None:
        if isinstance(operation, PutVersion):
            raise PreconditionFailed(condition="If-None-Match")

    watch(world, overtaken)
    with pytest.raises(PreconditionFailed):
        await world.engine.put_object("dedup", "key", DATA, PutRequest())
    assert held(world) == before


@pytest.mark.parametrize("sealed", [False, True], ids=["clear", "sealed"])
async def test_bytes_of_a_chunk_that_are_not_those_it_is_named_for_are_never_handed_out(
    world: MemoryWorld, sealed: bool
) -> None:
    await dedup_world(world, sealed=sealed)
    await world.engine.put_object("dedup", "key", DATA)
    names = list(world.state.chunks)
    first, second = world.state.chunks[names[0]], world.state.chunks[names[1]]
    first.place, second.place = second.place, first.place
    with pytest.raises(ObjectDamaged):
        await world.engine.get_object("dedup", "key")
    assert await world.engine.get_object("dedup", "key", range="bytes=16384-") == DATA[16_384:]
    del world.state.chunks[names[5]]
    with pytest.raises(ObjectDamaged):
        await world.engine.get_object("dedup", "key", range="bytes=16384-")
    world.state.chunks.clear()
    world.state.pins.clear()


def pins_of_known_body(world: MemoryWorld) -> list[int]:
    """How many chunks each commit pins, from now on."""
    seen: list[int] = []

    def note(operation: Operation) -> None:
        if isinstance(operation, PinChunks):
            seen.append(len(operation.chunks))

    watch(world, note)
    return seen


async def test_the_known_chunks_of_a_body_are_pinned_by_one_commit(world: MemoryWorld) -> None:
    await dedup_world(world)
    await world.engine.put_object("dedup", "one", DATA)
    seen = pins_of_known_body(world)
    await world.engine.put_object("dedup", "two", StreamSource(DATA, 30_000))
    assert seen == [25]
    assert world.engine._runtime.chunk_memory.reserved_bytes == 0


async def test_bodies_wait_for_their_pins_only_while_half_of_the_memory_is_free(world: MemoryWorld) -> None:
    await dedup_world(world)
    await world.engine.put_object("dedup", "one", DATA)
    memory = world.engine._runtime.chunk_memory
    memory.reserve(memory.LIMIT_BYTES // 2)
    seen = pins_of_known_body(world)
    await world.engine.put_object("dedup", "two", StreamSource(DATA, 30_000))
    assert sum(seen) == 25 and len(seen) == 4, "one commit a piece of 64 KiB"
    assert memory.reserved_bytes == memory.LIMIT_BYTES // 2
    memory.give_back(memory.LIMIT_BYTES // 2)
    assert await world.engine.get_object("dedup", "two") == DATA


async def test_memory_for_chunks_is_bounded(world: MemoryWorld) -> None:
    settings = (("dedup", "content-defined:1MiB"), ("dedup_min_object_bytes", "5000"))
    await world.engine.create_bucket("large", BucketRequest(settings=settings))
    memory = world.engine._runtime.chunk_memory
    memory.reserve(memory.LIMIT_BYTES)
    with pytest.raises(SlowDown):
        await world.engine.put_object("large", "key", DATA)
    memory.give_back(memory.LIMIT_BYTES)
    await world.engine.put_object("large", "key", DATA)
