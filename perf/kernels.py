"""Kernel figures: every kernel beside its peers, interleaved in one run on one core.

    python perf/kernels.py                     all kernels
    python perf/kernels.py crc posix           some
    python perf/kernels.py crc --rounds 9 --json

Each kernel adds a file `perf/kernel_benches/NAME.py` with `cases() -> list[Case]`; nothing here knows a kernel. A case
whose peer is not installed is left out by its own file, and says so in `cases()` by a `Case` with `run=None`.

How it measures: each case is calibrated to run about 50 ms, all cases of a group take turns within each round (so that
a noisy neighbour hits them alike), and the median and the best of the rounds are given, by CPU time of the process.
Trust ratios within a group, not absolute figures from shared cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

ROUND_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to time.

    Args:
        group: cases of a group do the same work and are compared.
        name: the implementation: a kernel's variant, a peer, the oracle.
        run: does the work once; None says that the peer is absent, with the reason in `note`.
        units: bytes (or items) that one run handles.
        unit: "B" is shown as GB/s; anything else as items/s and µs an item.
        prepare: runs untimed before every turn: forces a kernel's variant, say.
    """

    group: str
    name: str
    run: Callable[[], object] | None
    units: int = 0
    unit: str = "B"
    note: str = ""
    prepare: Callable[[], object] | None = None


@dataclass(slots=True)
class Timing:
    case: Case
    repeat: int = 1
    seconds: list[float] = field(default_factory=list)

    def prepare(self) -> None:
        """Bring the kernel into the state that the case is about."""
        if self.case.prepare is not None:
            self.case.prepare()

    def calibrate(self) -> None:
        """Find a repeat count that takes about ROUND_S."""
        assert self.case.run is not None
        self.prepare()
        while True:
            spent = _spend(self.case.run, self.repeat)
            if spent >= ROUND_S / 4:
                break
            self.repeat *= 4
        self.repeat = max(1, round(self.repeat * ROUND_S / spent))

    def measure(self) -> None:
        assert self.case.run is not None
        self.prepare()
        self.seconds.append(_spend(self.case.run, self.repeat) / self.repeat)


def _spend(run: Callable[[], object], repeat: int) -> float:
    started = time.process_time()
    for _ in range(repeat):
        run()
    return time.process_time() - started


def measure(cases: Iterable[Case], rounds: int) -> list[Timing]:
    """Time the cases, taking turns."""
    timings = [Timing(case) for case in cases if case.run is not None]
    for timing in timings:
        timing.calibrate()
    for _ in range(rounds):
        for timing in timings:
            timing.measure()
    return timings


def describe(case: Case, seconds: float) -> str:
    """A rate for people: GB/s for bytes, items/s and microseconds otherwise."""
    if case.unit == "B":
        return f"{case.units / seconds / 1e9:8.2f} GB/s"
    return f"{case.units / seconds:12,.0f} {case.unit}/s {seconds / case.units * 1e6:9.3f} µs"


def found_benches() -> list[str]:
    """Names of the bench files."""
    return sorted(found.name for found in pkgutil.iter_modules([str(ROOT / "perf" / "kernel_benches")]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kernels", nargs="*", help="bench files to run; all without")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    if unknown := sorted(set(options.kernels) - set(found_benches())):
        parser.error(f"no bench file for {', '.join(unknown)}; there are {', '.join(found_benches())}")
    for name in options.kernels or found_benches():
        bench = importlib.import_module(f"perf.kernel_benches.{name}")
        cases: list[Case] = bench.cases()
        for group in dict.fromkeys(case.group for case in cases):
            members = [case for case in cases if case.group == group]
            if not options.json:
                print(f"\n{name}: {group}")
            for absent in (case for case in members if case.run is None):
                if not options.json:
                    print(f"  {absent.name:34} absent: {absent.note}")
            for timing in measure(members, options.rounds):
                middle, best = statistics.median(timing.seconds), min(timing.seconds)
                case = timing.case
                if options.json:
                    row = {"kernel": name, "group": group, "name": case.name, "unit": case.unit, "note": case.note}
                    rate = {"per_s": case.units / middle, "best_per_s": case.units / best, "rounds": options.rounds}
                    print(json.dumps(row | rate))
                else:
                    print(f"  {case.name:34} {describe(case, middle)}   best {describe(case, best)}  {case.note}")


if __name__ == "__main__":
    sys.modules["perf.kernels"] = sys.modules["__main__"]
    main()
