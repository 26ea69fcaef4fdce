"""The short form of `python -m tests.system.chaos --moments 200`."""

from __future__ import annotations

import random
from pathlib import Path

from rs3d.stores.check import CheckMode, assert_files_reachable, check_store
from rs3d.testing import MiniProcess
from tests.system.chaos import play_round


def test_d1_kills_at_random_moments_of_mixed_load_lose_nothing_and_leave_nothing_half_done(tmp_path: Path) -> None:
    server = MiniProcess(tmp_path / "data", workers=2)
    load, checked = play_round(server, random.Random(3), seed=1, kills=3)
    assert load.acknowledged > 20 and checked > 10
    check_store(str(server.directory), mode=CheckMode.REPAIR)
    assert_files_reachable(str(server.directory))
