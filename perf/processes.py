"""What a server costs: CPU and memory of a process and all its descendants, from /proc."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

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


def idle_shares(roots: Sequence[int], *, looks: int = 5, seconds: float = 2.0) -> list[float]:
    """How much of a core each tree takes with nothing to do: the least of `looks` windows of so many seconds, for work
    that goes on after a start is not rest."""
    found = [float("inf")] * len(roots)
    for _ in range(looks):
        before, begun = [cpu_s(root) for root in roots], time.monotonic()
        time.sleep(seconds)
        shares = [(cpu_s(root) - used) / (time.monotonic() - begun) for root, used in zip(roots, before, strict=True)]
        found = [min(pair) for pair in zip(found, shares, strict=True)]
    return found


def settled_cpu_s(root: int, idle: float = 0.0, *, quiet_s: float = 0.5, at_most_s: float = 10.0) -> float:
    """`cpu_s` once background work has drained: no more than AT_REST of a core beyond `idle`, for `quiet_s`.

    What the tree takes with nothing to do, `idle` of a core, is taken off for the time waited here: who waits longer
    for a rest, or has more to do in it, pays for the work alone.
    """
    begun = time.monotonic()
    last = cpu_s(root)
    while time.monotonic() < begun + at_most_s:
        time.sleep(quiet_s)
        now = cpu_s(root)
        is_at_rest = now - last <= (AT_REST + idle) * quiet_s
        last = now
        if is_at_rest:
            break
    return last - idle * (time.monotonic() - begun)


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


def private_bytes(pids: Sequence[int]) -> int:
    """Anonymous and shared memory that these have mapped, as the kernel counts it anyway: cheap enough to be asked for
    under load. What several share counts for each."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
    return total


class MemoryPeak:
    """The most `private_bytes` that a tree had while this was open; looked at ten times a second, by a thread."""

    def __init__(self, root: int) -> None:
        self.bytes = 0
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryPeak:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        looks, pids = 0, list[int]()
        while True:
            if looks % 10 == 0:
                pids = descendants(self._root)
            looks += 1
            self.bytes = max(self.bytes, private_bytes(pids))
            if self._stop.wait(0.1):
                self.bytes = max(self.bytes, private_bytes(pids))
                return
