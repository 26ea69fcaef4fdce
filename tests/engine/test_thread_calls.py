"""Calls that threads ask the loop for: by trio, and by whoever watches a descriptor."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable

import trio
import trio.testing

from rs3d.engine.threadcalls import ThreadCalls


class Watching:
    """One that is told when it looks."""

    def __init__(self) -> None:
        self.fd = -1
        self._come: Callable[[], None] | None = None

    def watch(self, fd: int, come: Callable[[], None]) -> Callable[[], None]:
        self.fd, self._come = fd, come

        def end() -> None:
            self._come = None

        return end

    def look(self) -> bool:
        """Whether there was something."""
        ready, _, _ = select.select([self.fd], [], [], 0)
        if ready and self._come is not None:
            self._come()
        return bool(ready)


def in_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


async def test_without_a_watch_trio_makes_the_calls() -> None:
    calls, made = ThreadCalls().on_this_loop(), trio.Event()
    in_thread(lambda: calls.run_sync_soon(made.set))
    with trio.fail_after(30):
        await made.wait()


async def test_who_watches_makes_them_in_order_and_nobody_else() -> None:
    calls, watching = ThreadCalls().on_this_loop(), Watching()
    told: list[int] = []
    end = calls.read_by(watching.watch)
    for number in range(3):
        in_thread(lambda number=number: calls.run_sync_soon(lambda: told.append(number)))  # type: ignore[misc]
    await trio.testing.wait_all_tasks_blocked()
    assert told == []
    assert watching.look()
    assert told == [0, 1, 2]
    assert not watching.look()
    end()


async def test_those_that_were_not_told_of_are_made_at_the_end_of_the_watch_and_later_ones_by_trio() -> None:
    calls, watching = ThreadCalls().on_this_loop(), Watching()
    told: list[str] = []
    end = calls.read_by(watching.watch)
    in_thread(lambda: calls.run_sync_soon(lambda: told.append("before")))
    end()
    assert told == ["before"]
    made = trio.Event()
    in_thread(lambda: calls.run_sync_soon(made.set))
    with trio.fail_after(30):
        await made.wait()


async def test_a_call_may_ask_for_another() -> None:
    calls, watching = ThreadCalls().on_this_loop(), Watching()
    told: list[str] = []
    end = calls.read_by(watching.watch)
    calls.run_sync_soon(lambda: calls.run_sync_soon(lambda: told.append("second")))
    assert watching.look()
    assert told == ["second"]
    end()
