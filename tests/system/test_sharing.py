"""The short form of `python -m tests.system.sharing --minutes 10`."""

from __future__ import annotations

import random
from pathlib import Path

from tests.system.sharing import play, remove_everything, server_at


def test_d12_kills_while_shared_chunks_are_put_deleted_collected_and_moved_lose_nothing_and_leave_nothing(
    tmp_path: Path,
) -> None:
    server = server_at(tmp_path / "data")
    acknowledged, checked = play(server, random.Random(5), seed=1, kills=4)
    assert acknowledged > 20 and checked > 5
    remove_everything(server)
