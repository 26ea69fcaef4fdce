"""STORE.md rule 15: what readers publish, and what the collector may take from it."""

from __future__ import annotations

import os

import pytest

from rs3d.errors import ProtocolMismatch, SlowDown
from rs3d.stores.horizon import (
    NO_READERS,
    Horizon,
    HorizonView,
    clear_horizon_page,
    horizon_minimum,
    make_horizon_page,
)
from rs3d.types.identifiers import Sequence


def test_store_rule_15_the_minimum_is_that_of_all_responses_of_all_processes() -> None:
    pages = [make_horizon_page(4), make_horizon_page(4)]
    first, second = (Horizon(page) for page in pages)
    views = [HorizonView(page) for page in pages]
    assert horizon_minimum(views) == NO_READERS
    slots = [first.enter(Sequence(30)), second.enter(Sequence(20)), first.enter(Sequence(25))]
    assert horizon_minimum(views) == 20
    second.leave(slots[1])
    assert horizon_minimum(views) == 25
    assert first.minimum() == 25
    first.leave(slots[2])
    first.leave(slots[0])
    assert horizon_minimum(views) == NO_READERS
    for page in pages:
        os.close(page)


def test_store_rule_15_a_reader_that_knows_no_sequence_yet_holds_everything() -> None:
    horizon = Horizon()
    slot = horizon.enter(Sequence(0))
    assert horizon.minimum() == 0
    horizon.leave(slot)


def test_store_rule_15_a_full_page_is_slow_down_and_a_freed_slot_is_used_again() -> None:
    page = make_horizon_page(2)
    horizon = Horizon(page)
    slots = [horizon.enter(Sequence(1)), horizon.enter(Sequence(2))]
    with pytest.raises(SlowDown):
        horizon.enter(Sequence(3))
    horizon.leave(slots[0])
    assert horizon.enter(Sequence(3)) == slots[0]
    assert HorizonView(page).minimum() == 2
    os.close(page)


def test_store_rule_15_a_dead_process_holds_until_its_page_is_cleared() -> None:
    page = make_horizon_page(2)
    horizon = Horizon(page)
    horizon.enter(Sequence(7))
    horizon.close()
    view = HorizonView(page)
    assert view.minimum() == 7
    clear_horizon_page(page)
    assert view.minimum() == NO_READERS
    view.close()
    os.close(page)


def test_a_slot_is_left_once() -> None:
    horizon = Horizon()
    slot = horizon.enter(Sequence(1))
    horizon.leave(slot)
    with pytest.raises(ValueError, match="not taken"):
        horizon.leave(slot)


def test_what_is_no_page_is_refused_and_a_page_keeps_its_size() -> None:
    for size in (0, 63, 4096):
        descriptor = os.memfd_create("other")
        os.ftruncate(descriptor, size)
        with pytest.raises(ProtocolMismatch):
            HorizonView(descriptor)
        with pytest.raises(ProtocolMismatch):
            Horizon(descriptor)
        os.close(descriptor)
    page = make_horizon_page()
    with pytest.raises(PermissionError):
        os.ftruncate(page, 0)
    os.close(page)
