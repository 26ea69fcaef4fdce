"""A flipped bit anywhere in a store is found, and never served (long form: `python -m tests.crash.flips`). PITFALLS
D15."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.crash.flips import Answer, run


def test_d15_a_flipped_bit_in_any_kind_of_file_is_found_and_never_served(memory: Path) -> None:
    tally = run(memory, 60, seed=5)
    kinds = Counter[str]()
    for (kind, answer), count in tally.items():
        assert answer not in (Answer.WRONG, Answer.UNNOTICED), tally
        kinds[kind] += count
    assert set(kinds) == {"catalog page", "data", "log run", "log segment", "sidecar"}
    assert not {("data", Answer.HARMLESS), ("sidecar", Answer.HARMLESS)} & set(tally)
