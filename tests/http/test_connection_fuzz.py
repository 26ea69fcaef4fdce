"""A short run of the connection fuzz."""

from __future__ import annotations

import logging

import pytest
from trio.testing import MockClock

from tests.fuzz.http_connection import run


async def test_s15_pipelines_in_any_shape_are_answered_exactly_and_damaged_ones_end_well(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await run(seed=20261123, count=150)
    assert caplog.records == []
