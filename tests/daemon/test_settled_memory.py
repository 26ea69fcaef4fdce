"""What a child process loads before it serves is not walked over again by the collector of cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from rs3d.daemon.child import settle_memory


class Node:
    """May be part of a cycle."""

    other: Node


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """The tests that follow have everything collected again."""
    yield
    gc.unfreeze()


def test_what_is_there_is_left_out_of_collections() -> None:
    before = len(gc.get_objects())
    settle_memory()
    assert gc.get_freeze_count() >= before // 2
    assert len(gc.get_objects()) < before // 2


def test_cycles_that_come_later_are_collected() -> None:
    settle_memory()
    first, second = Node(), Node()
    first.other, second.other = second, first
    del first, second
    assert gc.collect() >= 2
