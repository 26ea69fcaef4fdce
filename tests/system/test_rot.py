"""Bits that flip in files of a daemon that serves (long forms: `python -m tests.system.rot`, and `catalogrot`)."""

from __future__ import annotations

from pathlib import Path

from rs3d.testing import MiniProcess
from tests.system import catalogrot
from tests.system.rot import VERIFIED, run


def test_d15_flips_under_reads_are_found_by_a_get_or_one_scrub_and_served_by_none(tmp_path: Path) -> None:
    kinds = ("data, packed", "sidecar, plain", "log record, plain")
    with MiniProcess(tmp_path / "data", workers=1, environment=VERIFIED) as server:
        found = run(server, 1, 5, kinds)
    assert set(found.flips) == set(kinds)
    assert (found.wrong, found.missed) == ([], []), found.table()
    assert found.mended == {"data, packed": 1, "sidecar, plain": 0, "log record, plain": 0}, found.table()
    assert found.reads > 6


def test_d15_flips_in_pages_of_the_catalog_are_found_and_a_rebuild_gives_everything_back(tmp_path: Path) -> None:
    with MiniProcess(tmp_path / "data", workers=1, environment=VERIFIED) as server:
        found = catalogrot.run(server, 1, 5, ("branches",), keys=40)
    assert found.flips == {"branches": 1}
    assert found.problems == [], found.table()
