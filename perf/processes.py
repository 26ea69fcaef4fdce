"""What a server costs: CPU and memory of a process and all its descendants, from /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def descendants(root: int) -> list[int]:
    """`root` and every process below it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_s(root: int) -> float:
    """User and system seconds of the tree, reaped children included."""
    total = 0
    for pid in descendants(root):
        fields = _stat(pid)
        if fields is not None:
            total += sum(int(value) for value in fields[11:15])
    return total * _TICK_S


AT_REST = 0.06
"""Of a core: what a server of several processes may take with nothing to do (beats, watchdogs). With less, each job
waited for a rest that never came, and ten seconds of ticks were counted among its requests."""


def settled_cpu_s(root: int, *, quiet_s: float = 0.5, at_most_s: float = 10.0) -> float:
    """`cpu_s` once background work has drained: no more than AT_REST of a core for `quiet_s`."""
    deadline = time.monotonic() + at_most_s
    last = cpu_s(root)
    while time.monotonic() < deadline:
        time.sleep(quiet_s)
        now = cpu_s(root)
        if now - last <= AT_REST * quiet_s:
            return now
        last = now
    return last


def memory_bytes(root: int) -> int:
    """Anonymous and shared memory of the tree (smaps_rollup), file mappings left out."""
    total = 0
    for pid in descendants(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                total += int(line.split()[1]) * 1024
    return total
