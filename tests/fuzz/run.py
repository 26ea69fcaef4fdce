"""Fuzz of everything that reads bytes from strangers, from a disk or from another process.

python -m tests.fuzz.run --count 100000 [--guided 5000] [--target NAME] [--seed 1]
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

from tests.fuzz.engine import Fuzzed, fuzz, search
from tests.fuzz.parsers import PARSERS
from tests.fuzz.stored import STORED

TARGETS: Final[dict[str, Fuzzed]] = {**PARSERS, **STORED}


def main() -> int:
    """Returns 1 when anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="blind executions of each target")
    parser.add_argument("--guided", type=int, default=0, help="executions guided by coverage, besides")
    parser.add_argument("--target", choices=sorted(TARGETS), default=None)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    findings, total = list[str](), 0
    for name in [arguments.target] if arguments.target else TARGETS:
        started = time.monotonic()
        blind = fuzz(name, TARGETS[name], arguments.count, arguments.seed)
        guided = search(name, TARGETS[name], arguments.guided, arguments.seed)
        total += arguments.count + arguments.guided
        print(
            f"{arguments.count + arguments.guided:10,}  {name}: {blind.read + guided.read:,} read, "
            f"{guided.reached:,} steps reached by {guided.kept} inputs, {time.monotonic() - started:.0f} s, "
            f"findings: {len(blind.findings) + len(guided.findings)}",
            flush=True,
        )
        findings += blind.findings + guided.findings
    print(f"{total:10,}  executions, findings: {len(findings)}")
    for finding in findings:
        print("   ", finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
