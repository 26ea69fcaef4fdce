from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from rs3d.admin.protocol import Event, Progress
from rs3d.admin.server import Reporter
from rs3d.admin.state import Compaction, CompactRun, StateVerbs


class Log:
    """A log in which so many runs are worth compacting."""

    def __init__(self, worth: int) -> None:
        self.worth = worth

    async def compact(self, first: int, last: int) -> Compaction:
        if not first and self.worth == 0:
            return Compaction(0, 0)
        self.worth -= 1
        return Compaction(sequence=100 - self.worth, freed_bytes=1000)

    def traced(self) -> AbstractAsyncContextManager[AsyncIterator[object]]:
        raise NotImplementedError

    def verbs(self) -> StateVerbs:
        return StateVerbs(status=dict, compact=self.compact, accept_clock=lambda: None, traced=self.traced)


@pytest.mark.parametrize(
    ("run", "expected", "told"),
    [
        (CompactRun(), Compaction(sequence=100, freed_bytes=3000, runs=3), [0, 1, 2, 3]),
        (CompactRun(first=2, last=4), Compaction(sequence=98, freed_bytes=1000, runs=1), [0]),
    ],
)
async def test_compact_goes_on_until_no_run_is_worth_it_or_does_the_one_named(
    run: CompactRun, expected: Compaction, told: list[int]
) -> None:
    sent: list[Event] = []

    async def send(event: Event) -> None:
        sent.append(event)

    assert await Log(worth=3).verbs().run_compact(run, Reporter(send)) == expected
    assert [event.done for event in sent if isinstance(event, Progress)] == told
