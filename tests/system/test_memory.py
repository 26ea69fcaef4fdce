"""Memory stays bounded: the short form of `python -m tests.system.memory --gib 20`."""

from __future__ import annotations

from pathlib import Path

from rs3d.testing import MiniProcess
from tests.system.memory import LIMIT_BYTES, MIB, measure


def test_a_large_object_and_idle_connections_do_not_take_memory(tmp_path: Path) -> None:
    with MiniProcess(tmp_path / "data", workers=2) as server:
        peaks = measure(server, size=1024 * MIB, connections=200)
    assert {"supervisor", "committer", "worker", "steward"} <= set(peaks)
    too_much = {name: anonymous for name, (anonymous, _) in peaks.items() if anonymous > LIMIT_BYTES}
    assert too_much == {}
