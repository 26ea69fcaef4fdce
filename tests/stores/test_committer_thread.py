"""The committer as a thread: an error that nobody foresaw ends it, and all who wait, or come later, are told."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from rs3d.errors import CommitterGone, OutcomeUnknown, Rs3dError, StoreReadOnly
from rs3d.stores import committerservice, messages
from rs3d.stores.committerlocal import LocalStore, open_local
from rs3d.stores.committeropen import CommitterSettings
from rs3d.stores.log import LogWriter
from rs3d.types import operations as ops
from rs3d.types.identifiers import BucketId
from tests.crash.faults import FailingFiles
from tests.crash.recording import inline_preparation
from tests.stores.committed import STORE_ID, UnsyncedFiles
from tests.stores.test_commitclient import opened, put

PATIENCE_S = 60
SETTINGS = CommitterSettings(store_id=STORE_ID, segment_bytes=64 << 10, map_bytes=4 << 20)


async def refusals(store: LocalStore, bucket: BucketId, count: int) -> list[Rs3dError]:
    """What `count` commits that are sent together raise."""
    found: list[Rs3dError] = []

    async def commit(number: int) -> None:
        try:
            await store.committer.commit(put(store.committer.next_id(), bucket, f"lost-{number}"))
        except Rs3dError as error:
            found.append(error)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(commit, number)
    return found


async def test_an_opening_that_fails_at_any_call_can_be_tried_again_in_the_same_process(tmp_path: Path) -> None:
    refused = 0
    with inline_preparation():
        for call in range(200):
            files = FailingFiles(call, errno.EIO)
            files.armed = True
            try:
                async with open_local(str(tmp_path), SETTINGS, files=files):
                    files.armed = False
            except (Rs3dError, OSError):
                refused += 1
            if not files.failed:
                break
            async with open_local(str(tmp_path), SETTINGS, files=UnsyncedFiles()):
                pass
    assert refused > 5 and not files.failed


async def check_closed_for_writes(store: LocalStore, bucket: BucketId) -> None:
    with pytest.raises(StoreReadOnly, match=r"the committer failed \(ZeroDivisionError: a bug\); open the store again"):
        await store.committer.commit(put(store.committer.next_id(), bucket, "later"))
    with store.catalog.snapshot() as view:
        assert view.latest(bucket, "kept") is not None


async def check_reopened(root: Path) -> None:
    async with opened(root) as (store, bucket):
        with store.catalog.snapshot() as view:
            assert view.latest(bucket, "kept") is not None
        await store.committer.commit(put(store.committer.next_id(), bucket, "later"))


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Callable[[], None]:
    """Let the next call of a method raise what no code expects, once it was armed."""
    genuine, armed = getattr(owner, name), threading.Event()

    def broken(*arguments: Any, **named: Any) -> Any:
        if armed.is_set():
            armed.clear()
            raise ZeroDivisionError("a bug")
        return genuine(*arguments, **named)

    monkeypatch.setattr(owner, name, broken)
    return armed.set


@pytest.mark.parametrize("where", ["flush", "add"])
async def test_a_failure_in_a_batch_reaches_all_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    arm = fail_once(monkeypatch, LogWriter, where)
    async with opened(tmp_path) as (store, bucket):
        await store.committer.commit(put(store.committer.next_id(), bucket, "kept"))
        arm()
        found = await refusals(store, bucket, 20)
        assert len(found) == 20
        assert {type(error) for error in found} <= {OutcomeUnknown, CommitterGone, StoreReadOnly}
        assert all("ZeroDivisionError: a bug" in str(error) for error in found)
        await check_closed_for_writes(store, bucket)
    assert "a bug" in caplog.text
    await check_reopened(tmp_path)


async def test_who_stands_in_line_behind_the_limit_is_told_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "OUTSTANDING_OPERATIONS", 2)
    arm = fail_once(monkeypatch, LogWriter, "flush")
    async with opened(tmp_path) as (store, bucket):
        await store.committer.commit(put(store.committer.next_id(), bucket, "kept"))
        arm()
        assert len(await refusals(store, bucket, 10)) == 10
    await check_reopened(tmp_path)


async def test_a_failure_in_compaction_reaches_who_asked_for_it_and_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Iterator[None]:
        yield
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(committerservice, "compact", broken)
    async with opened(tmp_path) as (store, bucket):
        await store.committer.commit(put(store.committer.next_id(), bucket, "kept"))
        with trio.fail_after(PATIENCE_S), pytest.raises(OutcomeUnknown, match="a bug"):
            await store.committer.commit(ops.CompactLog(id=store.committer.next_id(), first=0, last=0))
        await check_closed_for_writes(store, bucket)
    await check_reopened(tmp_path)
