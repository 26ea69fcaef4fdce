"""The harness is worth something: it finds each of these bugs (and nothing without them: test_crash_states)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.exploring import Explorer, Tally
from tests.crash.histories import record
from tests.crash.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: str(mutation.name))
def test_the_harness_finds(memory: Path, mutation: Mutation) -> None:
    tally = Tally()
    with mutation.apply():
        (memory / "live").mkdir()
        recording = record(mutation.name, mutation.history, memory / "live")
        Explorer(memory / "image", tally, stop_at_bad=1).explore(
            recording, limit=mutation.limit, nested=mutation.nested
        )
    assert tally.bad, f"{tally.states} disks, none of them bad"


def test_there_are_ten_of_them() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) >= 10
