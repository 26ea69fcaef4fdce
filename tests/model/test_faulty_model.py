"""Faults in the steps of a store's life, over every kind of bucket (long form: `python -m tests.model.faulty`).

PITFALLS D8, D10, D12.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase

from tests.model.faulty import BUCKETS, TALLY, run


@pytest.mark.parametrize("kind", BUCKETS)
def test_d10_a_fault_at_any_call_or_await_leaves_every_request_whole_or_undone(kind: str) -> None:
    TALLY.clear()
    run(4, 16, kinds=(kind,), derandomize=True, phases=[Phase.generate])
    assert sum(TALLY.values()) >= 2, TALLY
