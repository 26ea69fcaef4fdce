"""A failing system call anywhere: a clear error, nothing acknowledged lost, nothing left behind (long form:
`python -m tests.crash.faults`). PITFALLS D2."""

from __future__ import annotations

import errno
from pathlib import Path

from tests.crash.faults import ERRORS, FailingFiles, calls_of, live, run
from tests.crash.recovering import small_and_quick


def test_d02_a_full_or_failing_disk_at_any_call_is_a_clear_error_and_loses_nothing(memory: Path) -> None:
    calls = calls_of(memory / "store")
    assert calls > 80
    tally, bad = run(memory / "store", [(call, ERRORS[call % 4]) for call in range(3, calls, 7)])
    assert not bad, "\n".join(bad)
    assert sum(tally.values()) > 8, tally


def test_too_many_open_files_while_opening_a_blobs_directory_is_refused_and_over_when_they_are_closed(
    memory: Path,
) -> None:
    with small_and_quick():
        calls = live(memory / "store", FailingFiles()).calls
        outcome = live(memory / "store", FailingFiles(calls.index("open_directory"), errno.EMFILE))
    assert outcome.failed and outcome.refused and not outcome.problems


def test_short_writes_everywhere_change_nothing(memory: Path) -> None:
    with small_and_quick():
        whole = live(memory / "store", FailingFiles())
        outcome = live(memory / "store", FailingFiles(short=True))
    assert not outcome.problems and not outcome.unknown
    assert len(outcome.calls) > len(whole.calls) and outcome.refused == whole.refused
