"""Where lookups go, and that the loop waits for none of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from rs3d.engine import StorageEngine, lookups
from rs3d.engine.library import open_store_parts
from rs3d.engine.lookups import CALM_LOOKS, COLD_FAULTS, RECENT_LOOKS, Lookups, Where
from rs3d.engine.requests import CopyRequest, CopySource
from rs3d.engine.threads import Threads
from rs3d.errors import NoSuchKey
from rs3d.stores.catalogsnapshot import Snapshot
from rs3d.stores.interfaces import CatalogSnapshot, TooLongForLoop
from rs3d.types.identifiers import BucketId, Sequence
from rs3d.types.objects import ObjectVersion
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.fakes.deps import MemoryWorld
from tests.fakes.memory_store import MemoryCatalog, MemorySnapshot, MemoryState
from tests.stores.coldlog import ColdLog

View = TypeVar("View")


class Faults:
    """Waits of threads for pages, as a test wants them: of the loop's thread, and one for each call in another when
    `is_cold`."""

    def __init__(self) -> None:
        self.loop = threading.get_ident()
        self.of_loop = 7
        self.is_cold = False
        self._of_others = 0

    def __call__(self) -> int:
        if threading.get_ident() == self.loop:
            return self.of_loop
        self._of_others += self.is_cold
        return self._of_others


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def made(faults: Faults) -> Iterator[Lookups]:
    threads = Threads(2)
    yield Lookups(MemoryCatalog(MemoryState()), threads, faults)
    threads.stop()


def go_aside(made: Lookups, faults: Faults) -> None:
    made.look()
    faults.of_loop += COLD_FAULTS
    made.look()
    assert made.is_aside


async def test_lookups_stay_on_the_loop_while_it_hardly_waits(made: Lookups, faults: Faults) -> None:
    for waits in (1000, COLD_FAULTS - 1, 0, 1):
        if waits != 1000:
            faults.of_loop += waits
        made.look()
        assert not made.is_aside
        assert await made.run(threading.get_ident) == faults.loop
        assert made.may_look_up(b"/bucket/key")
    assert made.done_aside == 0


async def test_they_go_to_threads_when_the_loop_waited_for_pages(made: Lookups, faults: Faults) -> None:
    go_aside(made, faults)
    assert await made.run(threading.get_ident) != faults.loop
    assert made.done_aside == 1


async def test_they_come_back_when_none_has_waited_for_a_while(made: Lookups, faults: Faults) -> None:
    go_aside(made, faults)
    for cold in (True, True, False):
        faults.is_cold = cold
        for _ in range(CALM_LOOKS):
            assert made.is_aside
            await made.run(lambda: None)
            made.look()
    assert not made.is_aside
    assert await made.run(threading.get_ident) == faults.loop


async def test_new_waits_of_the_loop_keep_them_in_threads(made: Lookups, faults: Faults) -> None:
    go_aside(made, faults)
    for _ in range(3 * CALM_LOOKS):
        faults.of_loop += COLD_FAULTS
        made.look()
        assert made.is_aside


async def test_what_was_looked_up_a_moment_ago_may_be_on_the_loop(made: Lookups, faults: Faults) -> None:
    made.remember("bucket", "before")
    go_aside(made, faults)
    faults.is_cold = True
    assert not made.may_look_up(b"/bucket/before")
    made.remember("bucket", "key")
    made.remember("bucket", "other")
    for look in range(3 * RECENT_LOOKS):
        assert made.may_look_up(b"/bucket/key"), look
        await made.run(lambda: None)
        made.look()
    assert not made.may_look_up(b"/bucket/other")


async def test_no_more_is_remembered_than_the_limit(
    made: Lookups, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "RECENT_OBJECTS", 4)
    go_aside(made, faults)
    for number in range(100):
        made.remember("bucket", str(number))
        assert made.may_look_up(b"/bucket/%d" % number)
        assert len(made._recent) + len(made._older) <= 8


async def test_what_a_lookup_raises_goes_to_its_caller(made: Lookups, faults: Faults) -> None:
    def fail() -> None:
        raise NoSuchKey(bucket="bucket", key="key")

    for _ in range(2):
        with pytest.raises(NoSuchKey):
            await made.run(fail)
        go_aside(made, faults)


async def test_the_kernel_counts_the_waits_of_a_thread() -> None:
    assert lookups.faults_of_thread() >= 0


BODY = b"body" * 10


async def read_whole(engine: StorageEngine, key: str) -> bytes:
    async with await engine.open_object("bucket", key) as reader:
        return await reader.read()


READS: list[Callable[[StorageEngine], object]] = [
    lambda engine: engine.head_object("bucket", "key").version.meta.size_bytes,
    lambda engine: engine.object_attributes("bucket", "key").head.version.meta.size_bytes,
    lambda engine: engine.object_tags("bucket", "key").meta.size_bytes,
]


async def test_cold_records_are_waited_for_in_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE) as opened:
        engine = opened.engine
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "key", BODY)
        cold = ColdLog(monkeypatch)
        for read in READS:
            opened.store.catalog.known_versions.clear()
            opened.store.catalog.log._remembered = (None, b"")
            assert await engine.looked_up(lambda read=read: read(engine)) == len(BODY)  # type: ignore[misc]
            assert cold.waited
        assert await read_whole(engine, "key") == BODY
        assert await engine.copy_object("bucket", "copy", copy_of("key")) is not None
        await engine.set_object_tags("bucket", "key", (("a", "b"),))
        assert threading.get_ident() not in cold.waited
        assert cold.asked


def copy_of(key: str) -> CopyRequest:
    return CopyRequest(source=CopySource(bucket="bucket", key=key))


async def test_no_place_in_the_horizon_is_kept_by_a_lookup_that_was_made_anew(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "key", BODY)
    runtime, seen = world.engine._runtime, []

    def look(view: CatalogSnapshot, where: Where) -> Sequence:
        seen.append((where, len(world.horizon.inside)))
        if where is Where.LOOP:
            raise TooLongForLoop("a test")
        return view.sequence

    _, reading = await runtime.look_up_reading(look)
    assert seen == [(Where.LOOP, 1), (Where.THREAD, 1)]
    assert len(world.horizon.inside) == 1
    reading.leave()
    with pytest.raises(NoSuchKey):
        await world.engine.open_object("bucket", "absent")
    world.engine.lookups.is_aside = True
    with pytest.raises(NoSuchKey):
        await world.engine.open_object("bucket", "absent")
    assert not world.horizon.inside


async def test_rows_of_keys_are_looked_up_in_threads_while_the_catalog_is_too_large(
    engine: StorageEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.put_object("bucket", "key", BODY)
    looked: list[int] = []
    monkeypatch.setattr(Snapshot, "latest", noting(Snapshot.latest, looked))
    monkeypatch.setattr(MemorySnapshot, "latest", noting(MemorySnapshot.latest, looked))
    engine.lookups.is_aside = True
    assert await read_whole(engine, "key") == BODY
    await engine.looked_up(lambda: engine.head_object("bucket", "key"))
    await engine.copy_object("bucket", "copy", copy_of("key"))
    await engine.set_object_tags("bucket", "key", (("a", "b"),))
    assert len(looked) >= 4 and threading.get_ident() not in looked
    assert engine.lookups.done_aside >= 4


def noting(latest: Callable[[View, BucketId, str], ObjectVersion | None], looked: list[int]) -> Callable[..., object]:
    def noted(self: View, bucket: BucketId, key: str) -> ObjectVersion | None:
        looked.append(threading.get_ident())
        return latest(self, bucket, key)

    return noted
