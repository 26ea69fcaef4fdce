from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from rs3d.daemon.children import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    LONGEST_START_DOUBLINGS,
    SETTLED_S,
    START_PATIENCE_S,
    SUSPICION_WINDOW_S,
    ChildProcess,
    Role,
    State,
    Suspicion,
)


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    made = ChildProcess.make("worker-0", Role.WORKER)
    yield made
    os.close(made.metrics_fd)


def die(child: ChildProcess, *, after_s: float, now_s: float, returncode: int = -signal.SIGKILL) -> float:
    """Let a child that ran for `after_s` end; returns the pause before its successor."""
    child.state = State.SERVING
    child.started_at_s = now_s - after_s
    child.buried(returncode, now_s)
    assert child.start_at_s is not None
    return round(child.start_at_s - now_s, 6)


def test_pauses_between_restarts_double_up_to_a_bound(child: ChildProcess) -> None:
    pauses = [die(child, after_s=1, now_s=100.0 * turn) for turn in range(1, 12)]
    assert pauses[:3] == [FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]
    assert pauses[-1] == LONGEST_DELAY_S
    assert child.restarts == 11


def test_a_child_that_settled_is_forgiven(child: ChildProcess) -> None:
    for turn in range(1, 8):
        die(child, after_s=1, now_s=100.0 * turn)
    assert die(child, after_s=SETTLED_S, now_s=5000.0) == FIRST_DELAY_S


def test_a_drained_child_has_no_successor(child: ChildProcess) -> None:
    child.state = State.DRAINING
    child.start_at_s = None
    child.buried(0, 10.0)
    assert child.state is State.DOWN
    assert child.start_at_s is None
    assert child.restarts == 0


def test_deaths_by_signal_are_remembered_with_their_time(child: ChildProcess) -> None:
    for now_s in (1.0, 2.0):
        die(child, after_s=1, now_s=now_s, returncode=-signal.SIGBUS)
    die(child, after_s=1, now_s=3.0, returncode=1)
    assert child.deaths_by_signal == [(signal.SIGBUS, 1.0), (signal.SIGBUS, 2.0)]


@pytest.mark.parametrize(
    ("role", "numbers", "suspected", "stops_writing"),
    [
        (Role.COMMITTER, (signal.SIGSEGV,), False, False),
        (Role.COMMITTER, (signal.SIGSEGV, signal.SIGSEGV), True, True),
        (Role.COMMITTER, (signal.SIGABRT, signal.SIGKILL, signal.SIGBUS), True, True),
        (Role.COMMITTER, (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM), False, False),
        (Role.WORKER, (signal.SIGSEGV, signal.SIGSEGV), True, False),
        (Role.WORKER, (signal.SIGBUS, signal.SIGSEGV), True, False),
        (Role.WORKER, (signal.SIGBUS, signal.SIGBUS), True, True),
        (Role.STEWARD, (signal.SIGSEGV, signal.SIGSEGV), True, True),
    ],
)
def test_two_deaths_as_damaged_pages_cause_them_within_a_minute_make_the_catalog_suspected(
    child: ChildProcess, role: Role, numbers: tuple[int, ...], suspected: bool, stops_writing: bool
) -> None:
    child.role = role
    for turn, number in enumerate(numbers):
        die(child, after_s=1, now_s=100.0 + turn, returncode=-number)
    suspicion = child.suspected_of_the_catalog()
    assert (bool(suspicion.reason), suspicion.stops_writing) == (suspected, stops_writing)


def test_two_such_deaths_far_apart_make_nothing_suspected(child: ChildProcess) -> None:
    child.role = Role.COMMITTER
    die(child, after_s=1, now_s=100.0, returncode=-signal.SIGSEGV)
    die(child, after_s=1, now_s=100.1 + SUSPICION_WINDOW_S, returncode=-signal.SIGSEGV)
    assert child.suspected_of_the_catalog() == Suspicion()


def test_a_place_says_why_it_is_empty_until_a_process_serves_there(child: ChildProcess) -> None:
    for returncode in (1, -signal.SIGABRT):
        child.state = State.STARTING
        assert child.cannot_start == ""
        child.buried(returncode, 10.0)
    assert child.cannot_start == "worker-0 ended 2 times before it served, last by SIGABRT; its log says more"
    child.start_failure = "its catalog is damaged"
    assert child.cannot_start == "worker-0 cannot start: its catalog is damaged"
    child.state = State.STARTING
    child.serves()
    assert child.cannot_start == ""


def test_a_starting_child_is_given_more_patience_than_a_silent_one(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChildProcess, "alive", True)
    child.heard_at_s = 100.0
    assert not child.is_overdue(100.0 + START_PATIENCE_S, 10.0)
    assert child.is_overdue(100.1 + START_PATIENCE_S, 10.0)
    child.has_beaten = True
    assert not child.is_overdue(110.0, 10.0)
    assert child.is_overdue(110.1, 10.0)


def test_a_start_that_was_cut_short_gives_the_next_one_twice_the_time(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChildProcess, "alive", True)
    child.heard_at_s = 100.0
    for doublings in (1, 2, 3, LONGEST_START_DOUBLINGS, LONGEST_START_DOUBLINGS):
        child.slow_starts += 1
        patience_s = START_PATIENCE_S * 2**doublings
        assert not child.is_overdue(100.0 + patience_s, 10.0)
        assert child.is_overdue(100.1 + patience_s, 10.0)
