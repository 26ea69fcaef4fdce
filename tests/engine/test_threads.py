"""Jobs in threads: waited for by the loop or by other threads, or by nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from rs3d.engine.threads import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(3)
    yield made
    made.stop()


async def test_a_thread_may_wait_for_a_job_before_and_after_it_has_ended(threads: Threads) -> None:
    may_end = threading.Event()
    job = threads.start(may_end.wait)
    waited = [threads.start(job.ended.wait) for _ in range(2)]  # as many as there are other threads
    assert not job.is_done
    may_end.set()
    assert [await each.wait() for each in waited] == [True, True]
    assert await job.wait() is True
    assert job.ended.is_set()


async def test_a_job_is_joined_by_another_thread_with_its_result_or_its_exception(threads: Threads) -> None:
    job = threads.start(lambda: 7)
    assert await threads.run(job.join) == 7

    def fail() -> None:
        raise OSError(5, "broken")

    failing = threads.start(fail)
    with pytest.raises(OSError, match="broken"):
        await threads.run(failing.join)


async def test_a_call_that_nobody_waits_for_runs_beside_the_job_that_is_started_next(threads: Threads) -> None:
    helps, is_helped = threading.Event(), threading.Event()

    def help_it() -> None:
        helps.set()
        is_helped.wait(10)

    threads.start_unawaited(help_it)
    assert threads.outstanding == 0
    assert await threads.run(lambda: helps.wait(10))  # two threads at once, though one job is counted
    is_helped.set()


async def test_what_a_call_raises_that_nobody_waits_for_is_logged_and_its_thread_goes_on(
    threads: Threads, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("nobody's")

    for _ in range(3):
        threads.start_unawaited(fail)
    threads.stop()  # all of them have run
    assert [record.message for record in caplog.records] == ["a call that nobody waits for failed"] * 3
    assert await threads.run(lambda: 1) == 1
