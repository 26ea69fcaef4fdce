"""Bits flipped one by one in all files of blobs; `python -m tests.crash.everybit` for every one of them."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.crash.everybit import GOOD, MAKES, run


def test_d15_a_flipped_bit_is_detected_and_with_parity_repaired(memory: Path) -> None:
    tally = trio.run(run, memory, 211)
    assert {make for make, _, _ in tally} == {make.name for make in MAKES}
    assert [found for found in tally if found[2] not in GOOD] == []
    assert tally.total() > 450
