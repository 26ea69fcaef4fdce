"""Cuts of the power at every event of short histories (the long form: `python -m tests.crash.run --states 100000`).
PITFALLS D1, D2, D18, D19."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.deduphistories import SHARED, mixed_sharing
from tests.crash.exploring import Explorer, Tally
from tests.crash.histories import HISTORIES, mixed, record
from tests.crash.layeredhistories import LAYERED, mixed_makes
from tests.crash.mutations import compacted, rotating
from tests.crash.servicehistories import SERVED, mixed_services


def explored(memory: Path, name: str, limit: int, nested: float = 0.0, seed: int = 0) -> Tally:
    (memory / "live").mkdir()
    known = {**HISTORIES, **LAYERED, **SHARED, **SERVED, "rotating": rotating, "compacted": compacted}
    drawn = {"mixed": mixed, "makes": mixed_makes, "shares": mixed_sharing, "services": mixed_services}
    history = known.get(name) or drawn[name](seed, 12)
    recording = record(name, history, memory / "live")
    tally = Tally()
    Explorer(memory / "image", tally).explore(recording, limit=limit, nested=nested, seed=seed)
    return tally


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("puts", 60),
        ("small puts", 60),
        ("small removals", 60),
        ("versions", 60),
        ("multipart", 90),
        ("sweeps", 90),
        ("layers", 150),
        ("seals", 90),
    ],
)
def test_d01_no_acknowledged_write_is_lost_and_none_is_half_visible_after_a_cut_at_any_event(
    memory: Path, name: str, least: int
) -> None:
    tally = explored(memory, name, limit=2)
    assert not tally.bad, "\n".join(map(str, tally.bad))
    assert tally.states >= least, tally.table()


def test_d02_a_cut_during_compaction_and_the_dropping_of_its_sources_loses_nothing(memory: Path) -> None:
    tally = explored(memory, "compacted", limit=2)
    assert not tally.bad, "\n".join(map(str, tally.bad))
    assert {"compaction", "log segments dropped"} <= {kind for kind, _ in tally.seen.values()}


@pytest.mark.parametrize(("name", "least"), [("sharing", 60), ("rewriting", 60), ("shared parts", 60)])
def test_d12_chunks_that_bodies_share_outlive_a_cut_at_any_event_and_no_body(
    memory: Path, name: str, least: int
) -> None:
    tally = explored(memory, name, limit=1)
    assert not tally.bad, "\n".join(map(str, tally.bad))
    assert tally.states >= least, tally.table()


@pytest.mark.parametrize(("name", "least"), [("rekeys", 150), ("master keys", 150), ("mends", 80), ("signatures", 60)])
def test_a_cut_while_keys_are_rotated_damage_is_mended_or_objects_are_signed_loses_nothing(
    memory: Path, name: str, least: int
) -> None:
    tally = explored(memory, name, limit=1, nested=0.004, seed=3)
    assert not tally.bad, "\n".join(map(str, tally.bad))
    assert tally.states >= least, tally.table()


def test_a_cut_during_recovery_loses_nothing(memory: Path) -> None:
    tally = explored(memory, "rotating", limit=1, nested=0.04, seed=4)
    assert not tally.bad, "\n".join(map(str, tally.bad))
    kinds = {kind.partition(" (")[0] for kind, _ in tally.seen.values()}
    assert {"recovery cut", "death, then recovery cut"} <= kinds, tally.table()


@pytest.mark.parametrize("name", ["mixed", "makes", "shares", "services"])
def test_a_history_drawn_from_a_seed(memory: Path, name: str) -> None:
    tally = explored(memory, name, limit=2, nested=0.005, seed=7)
    assert not tally.bad, "\n".join(map(str, tally.bad))
    assert tally.states > 100, tally.table()
