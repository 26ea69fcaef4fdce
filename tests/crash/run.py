"""`python -m tests.crash.run --states 100000`: explore until so many distinct disks were recovered and judged.

Every fixed history first, then histories drawn from seeds, each cut after every event; recoveries and rebuilds are cut
in turn. Prints how many distinct disks there were of each kind of operation under way.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.crash.deduphistories import SHARED, mixed_sharing
from tests.crash.exploring import Explorer, Tally
from tests.crash.histories import HISTORIES, History, mixed, record
from tests.crash.layeredhistories import LAYERED, mixed_makes
from tests.crash.servicehistories import SERVED, mixed_services

ALL: Final = {**HISTORIES, **LAYERED, **SHARED, **SERVED}

DRAWN: Final = (mixed, mixed_makes, mixed_sharing, mixed_services)

Task = tuple[str, int, int, float, float]


def explore(task: Task) -> Tally:
    """One history, recorded and explored in this process."""
    name, seed, limit, nested, deadline_s = task
    history: History = ALL[name] if name in ALL else DRAWN[seed % len(DRAWN)](seed)
    memory = Path("/dev/shm")
    work = Path(tempfile.mkdtemp(prefix="rs3d-crash-", dir=memory if memory.is_dir() else None))
    tally = Tally()
    try:
        (work / "live").mkdir()
        recording = record(name, history, work / "live")
        Explorer(work / "image", tally, deadline_s=deadline_s).explore(recording, limit=limit, seed=seed, nested=nested)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return tally


def main() -> int:
    """Returns 1 when any disk was bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=100_000, help="distinct disks to check")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=int, default=16, help="disks after each event; all when there are fewer")
    parser.add_argument("--nested", type=float, default=0.05, help="share of recoveries that are cut in turn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long, however many there are")
    parser.add_argument("--sharing", action="store_true", help="only histories of bodies that share chunks")
    arguments = parser.parse_args()
    limit, nested = arguments.limit, arguments.nested
    deadline_s = time.monotonic() + arguments.seconds
    fixed = ((name, arguments.seed, limit, nested, deadline_s) for name in (SHARED if arguments.sharing else ALL))
    every = len(DRAWN) if arguments.sharing else 1
    first = DRAWN.index(mixed_sharing) if arguments.sharing else 0
    seeds = itertools.count(every * arguments.seed + first, every)
    drawn = ((f"mixed {seed}", seed, limit, nested, deadline_s) for seed in seeds)
    tasks = itertools.chain(fixed, drawn)
    total, started = Tally(), time.monotonic()
    with multiprocessing.Pool(arguments.jobs, maxtasksperchild=8) as pool:
        running = [pool.apply_async(explore, (task,)) for task in itertools.islice(tasks, arguments.jobs * 2)]
        while running:
            total.merge(running.pop(0).get())
            print(f"{total.states:,} disks, {time.monotonic() - started:.0f} s, bad: {len(total.bad)}", flush=True)
            if total.states < arguments.states and not total.bad and time.monotonic() < deadline_s:
                running.append(pool.apply_async(explore, (next(tasks),)))
            elif total.bad:
                pool.terminate()
                break
    print(total.table())
    for bad in total.bad:
        print(f"BAD: {bad}")
    return 1 if total.bad else 0


if __name__ == "__main__":
    sys.exit(main())
