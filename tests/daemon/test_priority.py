"""Lowering a thread's priority: for that thread alone, and harmless where it is refused."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

import rs3d
from rs3d.priority import lower_priority


def own_nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def in_thread(steps: int) -> list[int]:
    """The nice value of a new thread before and after it lowers its priority."""
    seen: list[int] = []

    def work() -> None:
        seen.append(own_nice())
        lower_priority(steps)
        seen.append(own_nice())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return seen


def test_a_thread_lowers_its_own_priority_and_no_others() -> None:
    before = own_nice()
    assert in_thread(3) == [before, min(before + 3, 19)]
    assert own_nice() == before


def test_the_lowest_priority_is_the_end() -> None:
    assert in_thread(100)[1] == 19


def test_a_refusal_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(steps: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "nice", refuse)
    before = own_nice()
    assert in_thread(3) == [before, before]


def test_nothing_asks_the_kernel_without_being_ready_for_a_refusal() -> None:
    """Under a filter that refuses `setpriority`, `os.nice` raises, and without a steward there is no daemon."""
    package = Path(rs3d.__file__).parent
    asking = {path.name for path in package.rglob("*.py") if re.search(r"os\.(nice|setpriority)\(", path.read_text())}
    assert asking == {"priority.py"}
