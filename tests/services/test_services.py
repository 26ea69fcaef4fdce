from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import trio
import trio.testing

from rs3d.errors import CommitterGone, Rs3dError
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.services.compaction import CompactionService
from rs3d.services.readers import ReaderCheck
from rs3d.services.running import FIRST_PAUSE_S, LONGEST_PAUSE_S, ServiceState, run_service
from rs3d.types.identifiers import Epoch, OperationId, Sequence
from rs3d.types.operations import CompactLog, DropLogSegments, Operation, Outcome


class Scripted:
    """A service whose steps follow a script: seconds to wait, or an error."""

    name = "scripted"

    def __init__(self, script: list[float | Exception]) -> None:
        self.times: list[float] = []
        self._script = script

    async def step(self) -> float:
        self.times.append(trio.current_time())
        if len(self.times) > len(self._script):
            await trio.sleep_forever()
        entry = self._script[len(self.times) - 1]
        if isinstance(entry, Exception):
            raise entry
        return entry


async def run_script(script: list[float | Exception]) -> tuple[list[float], ServiceState]:
    service, state = Scripted(script), ServiceState("scripted")
    with trio.move_on_after(10_000):
        await run_service(service, state)
    return [round(at_s - service.times[0], 3) for at_s in service.times], state


async def test_a_service_waits_as_long_as_it_says(autojump_clock: trio.testing.MockClock) -> None:
    times, state = await run_script([5.0, 60.0])
    assert times == [0, 5.0, 65.0]
    assert (state.steps, state.failures) == (2, 0)


async def test_failures_back_off_and_are_counted(autojump_clock: trio.testing.MockClock) -> None:
    failures: list[float | Exception] = [CommitterGone(reason="killed") for _ in range(9)]
    times, state = await run_script([*failures, 1.0])
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[0] == FIRST_PAUSE_S
    assert max(pauses) == LONGEST_PAUSE_S
    assert state.failures == 9
    assert "killed" in state.last_failure


async def test_a_bug_ends_the_process_instead_of_being_waited_out() -> None:
    with pytest.raises(ZeroDivisionError):
        await run_service(Scripted([ZeroDivisionError()]), ServiceState("scripted"))


async def test_freed_reader_slots_are_counted() -> None:
    counted: list[int] = []
    found = iter([0, 3])
    check = ReaderCheck(check=lambda: next(found), freed=counted.append, interval_s=60)
    assert [await check.step(), await check.step()] == [60, 60]
    assert counted == [3]


class Committer:
    """Takes operations down and answers what it is told to."""

    def __init__(self, answer: Callable[[Operation], Outcome]) -> None:
        self.operations: list[Operation] = []
        self._answer = answer

    def next_id(self) -> OperationId:
        return OperationId(Epoch(1), len(self.operations) + 1)

    async def commit(self, operation: Operation) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.operations.append(operation)
        return self._answer(operation)

    def submit(self, operation: Operation, settle: Callable[[Outcome | Rs3dError], None]) -> bool:
        raise AssertionError("a service waits for its commits")

    def submit_write(self, write: SmallWrite) -> bool:
        raise AssertionError("a service waits for its commits")

    def submit_writes(self, writes: list[SmallWrite]) -> list[SmallWrite]:
        raise AssertionError("a service waits for its commits")

    def reserve(self, operation: Operation, settle: Callable[[Outcome | Rs3dError], None]) -> tuple[int, bytes] | None:
        raise AssertionError("services wait for their commits")

    def give_up_reserved(self, operation: OperationId) -> None:
        raise AssertionError("services wait for their commits")

    def send_submitted(self) -> None:
        raise AssertionError("nothing was submitted")


class Catalog:
    """A catalog with replaced log segments; tells when it was read."""

    def __init__(self, rows: list[tuple[int, Sequence]], events: list[str]) -> None:
        self._rows = rows
        self._events = events

    def replaced_log_segments(self) -> Iterator[tuple[int, Sequence]]:
        self._events.append("rows")
        return iter(self._rows)

    @contextmanager
    def snapshot(self) -> Iterator[Catalog]:
        yield self


def compaction(
    rows: list[tuple[int, Sequence]], minimum: int, answer: Outcome
) -> tuple[CompactionService, Committer, list[int], list[str]]:
    events: list[str] = []
    freed: list[int] = []

    def read_pages() -> Sequence:
        events.append("pages")
        return Sequence(minimum)

    committer = Committer(
        lambda operation: answer if isinstance(operation, CompactLog) else Outcome(sequence=Sequence(0))
    )
    service = CompactionService(
        catalog=Catalog(rows, events),
        committer=committer,
        horizon_minimum=read_pages,
        freed=freed.append,
        interval_s=60,
    )
    return service, committer, freed, events


async def test_store_rule_15_replaced_segments_go_only_below_the_horizon_and_rows_are_read_first() -> None:
    rows = [(1, Sequence(10)), (2, Sequence(20)), (3, Sequence(30))]
    service, committer, _, events = compaction(rows, 20, Outcome(sequence=Sequence(0)))
    assert await service.step() == 60
    drops = [operation for operation in committer.operations if isinstance(operation, DropLogSegments)]
    assert [drop.numbers for drop in drops] == [(1, 2)]
    assert events == ["rows", "pages"]


async def test_a_run_that_paid_is_followed_by_another_look_soon() -> None:
    service, committer, freed, _ = compaction([], 0, Outcome(sequence=Sequence(7), remaining=4096))
    assert await service.step() < 60
    assert freed == [4096]
    assert [type(operation) for operation in committer.operations] == [CompactLog]
