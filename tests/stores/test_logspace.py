"""A full disk and the log: one spare segment, removals go on, adding begins again without a restart.

STORE.md 22, PITFALLS D2.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.errors import StoreFull
from rs3d.stores.compaction import Compacted, compact
from rs3d.types.identifiers import BucketId
from tests.stores.committed import CommittedStore, rows_without_positions
from tests.stores.faultfiles import NO_SPACE, Fault, FaultFiles


@pytest.fixture
def files() -> FaultFiles:
    return FaultFiles()


@pytest.fixture
def store(tmp_path: Path, files: FaultFiles) -> Iterator[CommittedStore]:
    opened = CommittedStore(tmp_path, segment_bytes=64 << 10, files=files.as_files())
    opened.core.log.preparation.wait()
    yield opened
    files.faults.clear()
    opened.close()


def fill_segment(store: CommittedStore, bucket: BucketId, key: str) -> None:
    number = store.core.log.number
    while store.core.log.number == number:
        store.core.space.look_again()
        store.put(bucket, key, bytes(4000))
    store.core.log.preparation.wait()


def test_store_rule_22_a_spare_segment_is_always_there(store: CommittedStore) -> None:
    bucket = store.bucket()
    for _ in range(3):
        assert store.core.log.preparation.has_spare
        fill_segment(store, bucket, "key")


def test_store_rule_22_without_a_spare_adding_is_refused_and_removing_is_not(
    store: CommittedStore, files: FaultFiles
) -> None:
    bucket = store.bucket()
    for number in range(5):
        store.put(bucket, str(number))
    files.faults.append(Fault("create", NO_SPACE))
    fill_segment(store, bucket, "key")  # goes on into the spare; the next one cannot be made
    store.core.space.look_again()
    with pytest.raises(StoreFull):
        store.put(bucket, "more")
    for number in range(5):
        store.remove(bucket, str(number))
    files.faults.clear()
    for _ in range(3):  # a look tries again in the background; the next one finds the spare
        store.core.space.look_again()
        store.core.space.refusal()
        store.core.log.preparation.wait()
    store.put(bucket, "more")
    assert store.keys(bucket) == ["key", "more"]


def test_pitfall_d2_a_compaction_without_room_changes_nothing(store: CommittedStore, files: FaultFiles) -> None:
    bucket = store.bucket()
    for _ in range(3):
        fill_segment(store, bucket, "key")
    before = rows_without_positions(store.tables)
    for method in ("create", "pwrite", "rename"):
        files.faults.append(Fault(method, NO_SPACE))
        with pytest.raises(OSError, match="space"):
            for _ in compact(store.core, first=0, last=0, result=Compacted()):
                pass
        files.faults.clear()
        assert rows_without_positions(store.tables) == before
        assert not [path for path in (store.root / "log").iterdir() if "-" in path.name]
    done = Compacted()
    for _ in compact(store.core, first=0, last=0, result=done):
        pass
    assert done.sources and rows_without_positions(store.tables) == before


def test_a_write_that_finds_no_room_ends_writing_and_opening_again_goes_on(
    store: CommittedStore, files: FaultFiles
) -> None:
    bucket = store.bucket()
    store.put(bucket, "before")
    files.short_write_bytes = 100
    store.put(bucket, "short writes are continued")
    files.short_write_bytes = None
    files.faults.append(Fault("pwrite", NO_SPACE))
    with pytest.raises(Exception, match="unknown"):
        store.put(bucket, "unknown")
    files.faults.clear()
    store.reopen()
    assert store.keys(bucket) == ["before", "short writes are continued"]
    store.put(bucket, "after")
