"""Records on the loop: what is not in memory is not waited for."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.engine import StorageEngine
from rs3d.format.rows import Place
from rs3d.stores import logreader
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.interfaces import TooLongForLoop
from rs3d.stores.logreader import LogReader, segment_names
from tests.ownprocess import own_descriptors
from tests.stores.coldlog import ColdLog
from tests.stores.coldpages import is_refused_when_cold
from tests.stores.nowait import reads_without_waiting


async def a_record(store: Path) -> tuple[bytes, Place]:
    """A store with one object, "body", and where its record lies."""
    async with StorageEngine.open(str(store)) as engine:
        bucket = await engine.create_bucket("bucket")
        await engine.put_object("bucket", "key", b"body")
        catalog = engine._runtime.catalog
        assert isinstance(catalog, LocalCatalog)
        with catalog.snapshot() as view:
            found = view.latest_with_payload(bucket.bucket_id, "key")
            assert found is not None and found[1] is not None
            return catalog.log._store_id, found[1].place


@pytest.fixture
async def written(tmp_path: Path) -> tuple[Path, bytes, Place]:
    store_id, place = await a_record(tmp_path / "store")
    return tmp_path / "store" / "log", store_id, place


@pytest.fixture
def log(written: tuple[Path, bytes, Place]) -> Iterator[LogReader]:
    """With the segment open."""
    made = LogReader(str(written[0]), written[1])
    made.read(written[2])
    yield made
    made.close()


def forget(log: LogReader) -> None:
    """What was read last is not to be found in the reader itself."""
    log._remembered = logreader._NOTHING


async def test_a_cold_record_and_its_payload_are_left_to_a_thread(
    log: LogReader, written: tuple[Path, bytes, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = written[2]
    crc = log.payload_crc(place)
    cold = ColdLog(monkeypatch)
    for read in (log.read, log.payload, lambda _: log.known_payload(place, crc), lambda _: log.place_of(*place[:2])):
        forget(log)
        with log.in_memory, pytest.raises(TooLongForLoop):
            read(place)
    assert cold.waited == [] and cold.asked == 4
    assert log.payload(place) == b"body"
    assert cold.waited == [threading.get_ident()]


async def test_in_memory_it_is_read_at_once(
    log: LogReader, written: tuple[Path, bytes, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not reads_without_waiting(tmp_path):
        pytest.skip("this file system does not read without waiting")
    cold = ColdLog(monkeypatch)
    cold.is_cold = False
    forget(log)
    with log.in_memory:
        assert log.payload(written[2]) == b"body"
    assert cold.waited == []


async def test_pages_that_the_kernel_dropped_are_cold(log: LogReader, written: tuple[Path, bytes, Place]) -> None:
    descriptor = log._segments[written[2].segment].descriptor
    os.fsync(descriptor)

    def read_at_once() -> bool:
        forget(log)
        try:
            with log.in_memory:
                assert log.payload(written[2]) == b"body"
        except TooLongForLoop:
            return False
        return True

    assert is_refused_when_cold(descriptor, 1 << 16, read_at_once)
    assert log.payload(written[2]) == b"body"
    with log.in_memory:
        assert log.payload(written[2]) == b"body"


async def test_other_threads_wait_while_the_loop_is_inside(
    log: LogReader, written: tuple[Path, bytes, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = ColdLog(monkeypatch)
    forget(log)
    found: list[bytes] = []
    with log.in_memory:
        other = threading.Thread(target=lambda: found.append(log.payload(written[2])))
        other.start()
        other.join()
    assert found == [b"body"] and cold.asked == 0 and cold.waited == [other.ident]


async def test_where_the_file_system_cannot_tell_the_loop_waits_and_asks_no_more(
    log: LogReader, written: tuple[Path, bytes, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refuse(descriptor: int, length: int, offset: int) -> bytes | None:
        asked.append(descriptor)
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(logreader, "pread_resident", refuse)
    with log.in_memory:
        for _ in range(3):
            forget(log)
            assert log.payload(written[2]) == b"body"
    assert len(asked) == 1


async def test_a_segment_is_opened_by_a_thread_and_once(written: tuple[Path, bytes, Place]) -> None:
    log = LogReader(str(written[0]), written[1])
    with log.in_memory, pytest.raises(TooLongForLoop):
        log.read(written[2])
    before = len(own_descriptors())
    start = threading.Barrier(8)

    def read() -> None:
        start.wait()
        log.read(written[2])

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(own_descriptors()) == before + 1
    assert len(segment_names(str(written[0]))) >= 1
    with log.in_memory:
        log.read(written[2])
    log.close()
