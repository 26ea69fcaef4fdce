"""Threads that hash and write bodies let the loop go first, where both want a core."""

from __future__ import annotations

import os
import threading

import pytest
import trio

from rs3d.engine.runtime import BODIES_BEHIND
from rs3d.engine.threads import Threads
from rs3d.kernels.bodyhash import BodyHash
from rs3d.stores.interfaces import BlobWriter
from rs3d.types.identifiers import BlobId
from tests.engine.bodies import noise
from tests.fakes.deps import MemoryWorld


def own_nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_threads_stay_behind_the_one_that_starts_their_jobs() -> None:
    behind, beside = Threads(2, steps_behind=3), Threads(2)
    assert await behind.run(own_nice) == min(own_nice() + 3, 19)
    assert await beside.run(own_nice) == own_nice()
    behind.stop()
    beside.stop()


async def test_every_thread_of_a_pool_stays_behind_once(world: MemoryWorld) -> None:
    threads = world.engine._runtime.body_threads
    met = threading.Barrier(3)

    def look() -> int:
        met.wait(10)
        return own_nice()

    jobs = [threads.start(look) for _ in range(3)]
    assert [await job.wait() for job in jobs] == [min(own_nice() + BODIES_BEHIND, 19)] * 3
    assert await threads.run(own_nice) == min(own_nice() + BODIES_BEHIND, 19)


async def test_bodies_are_written_behind_the_loop_and_read_beside_it(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing: list[int] = []
    create = world.blobs.create

    def noted(blob: BlobId, *, size_hint_bytes: int | None = None, tables: BodyHash | None = None) -> BlobWriter:
        writing.append(own_nice())
        return create(blob, size_hint_bytes=size_hint_bytes, tables=tables)

    monkeypatch.setattr(world.blobs, "create", noted)
    await world.engine.put_object("bucket", "key", noise(100_000))
    assert writing == [min(own_nice() + BODIES_BEHIND, 19)]
    assert await world.engine._runtime.threads.run(own_nice) == own_nice()


async def test_an_engine_that_is_closed_has_ended_its_threads(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "key", noise(100_000))
    made = list(world.engine._runtime.body_threads._threads)
    await world.quiet()
    await trio.to_thread.run_sync(world.engine.close)
    assert made and not any(thread.is_alive() for thread in made)
