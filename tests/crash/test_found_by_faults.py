"""What the faults found: a failing call that took the committer with it, each by its shortest sequence of events."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from rs3d.errors import SlowDown, StoreFull
from rs3d.format.rows import LOG_DEAD
from rs3d.stores.ballast import Ballast, StoreReserve
from rs3d.stores.committerspace import SpaceGuard
from rs3d.stores.compaction import Compacted, compact
from rs3d.types import operations as ops
from tests.stores.committed import CommittedStore
from tests.stores.faultfiles import Fault, FaultFiles


def test_replaced_log_segments_that_cannot_be_removed_are_a_refusal_and_the_operation_may_be_repeated(
    tmp_path: Path,
) -> None:
    files = FaultFiles()
    store = CommittedStore(tmp_path, segment_bytes=64 << 10, files=files.as_files())
    bucket = store.bucket()
    for number in range(40):
        store.put(bucket, f"key {number % 5}", bytes(4000))
    for _ in compact(store.core, first=0, last=0, result=Compacted()):
        pass
    with store.view() as view:
        dead = tuple(number for number, row in view.log_segments() if row.state == LOG_DEAD)
    files.faults.append(Fault("sync", errno.EIO))
    with pytest.raises(SlowDown, match="log segments"):
        store.commit(ops.DropLogSegments(id=store.id(), numbers=dead))
    files.faults.clear()
    store.put(bucket, "the committer lives")
    store.commit(ops.DropLogSegments(id=store.id(), numbers=dead))
    with store.view() as view:
        assert not set(dead) & {number for number, _ in view.log_segments()}
    store.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_a_ballast_that_cannot_be_looked_at_refuses_what_adds_data_and_nothing_else(
    tmp_path: Path, number: int
) -> None:
    store = CommittedStore(tmp_path)
    bucket = store.bucket()
    store.put(bucket, "key")
    (tmp_path / "staging").mkdir()
    files = FaultFiles(Fault("create", number), Fault("open_for_writing", number))
    reserve = StoreReserve(Ballast(str(tmp_path), 1 << 20, files=files.as_files()), (), 0, files=files.as_files())
    store.core.space = SpaceGuard(str(tmp_path), store.tables, store.core.log.preparation, reserve=reserve)
    with pytest.raises(StoreFull, match="reserve"):
        store.put(bucket, "more")
    store.remove(bucket, "key")
    files.faults.clear()
    store.core.space.look_again()
    store.put(bucket, "more")
    assert store.keys(bucket) == ["more"]
    store.close()
