"""Mishaps at random moments under mixed load with a checking client: `python -m tests.system.chaos --minutes 60`.

Processes are killed, stopped, restarted and reloaded, the disk below the store fails, dawdles and fills up. After each
the daemon has to serve again; after each round of some every key and version is read back and compared with what was
acknowledged, and the store is checked offline: files on disk == files reachable, every byte verified. The round before
is read back once more, and the one before that deleted.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rs3d.stores.check import CheckMode, assert_files_reachable, check_store
from rs3d.testing import MiniProcess
from tests.system.chaosload import ChaosLoad
from tests.system.clients import s3_client
from tests.system.faultydisk import FaultyDisk
from tests.system.mishaps import Mishaps
from tests.system.smalldisk import MIB, small_disk

ENVIRONMENT = {
    "RS3D_DAEMON__HEARTBEAT_TIMEOUT_S": "6",
    "RS3D_STORAGE__SPACE__BALLAST_BYTES": str(32 * MIB),
    "RS3D_STORAGE__SPACE__MINIMUM_FREE_BYTES": str(32 * MIB),
}
DISK_BYTES = 6 << 30


@dataclass
class Total:
    """Of all rounds."""

    acknowledged: int = 0
    failed: int = 0
    checked: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    earlier: deque[ChaosLoad] = field(default_factory=deque)

    def add(self, load: ChaosLoad, checked: int) -> None:
        self.acknowledged += load.acknowledged
        self.failed += load.failed
        self.checked += checked
        self.operations += load.counts
        self.earlier.append(load)


def play_round(mishaps: Mishaps, total: Total, seed: int, strikes: list[str]) -> None:
    """One stretch of load with these mishaps in it; what was acknowledged before and in it is read back."""
    server, pause = mishaps.server, threading.Event()
    server.start()
    try:
        client = s3_client(server)
        checked = total.earlier[-1].verify(client) if total.earlier else 0
        while len(total.earlier) > 1:
            total.earlier.popleft().remove(client)
        load = ChaosLoad(server, f"round-{seed}", writers=2, seed=seed)
        load.make_buckets(client)
        with load:
            for name in strikes:
                pause.wait(mishaps.chance.uniform(0.05, 1.5))
                mishaps.strike(load, name)
        checked += load.verify(s3_client(server))
        status = server.stop()
        if status != 0:
            raise AssertionError(f"the daemon ended with {status}")
    except BaseException:
        print(server.output[-20000:], file=sys.stderr)
        raise
    finally:
        server.kill()
    total.add(load, checked)


def check_offline(directory: Path) -> str:
    """What the check counted. Raises AssertionError at anything that is not as it should be."""
    check_store(str(directory), mode=CheckMode.REPAIR)
    report = assert_files_reachable(str(directory))
    return f"{report.versions} versions, {report.blobs} blobs"


def schedule(chance: random.Random, names: list[str]) -> list[str]:
    """Every mishap once, in any order; a round takes the next of them."""
    return chance.sample(names, len(names))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no round after so long")
    parser.add_argument("--strikes", type=int, default=8, help="mishaps a round")
    parser.add_argument("--only", default="", help="mishaps whose name contains this: 'kill -9'")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--below", type=Path, default=None, help="a directory for the disk's image and the store")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays mounted or running
    chance, total, started = random.Random(arguments.seed), Total(), time.monotonic()
    print(f"seed {arguments.seed}", flush=True)
    with ExitStack() as stack:
        below = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rs3d-chaos-", dir=arguments.below)))
        place = stack.enter_context(small_disk(below, DISK_BYTES)) if os.geteuid() == 0 else None
        directory = (place or below) / "data"
        disk = FaultyDisk(directory, below)
        server = MiniProcess(directory, workers=arguments.workers, environment={**ENVIRONMENT, **disk.environment()})
        mishaps = Mishaps(server, chance, disk, place, tell=partial(print, flush=True))
        seed, waiting = 0, list[str]()
        while time.monotonic() - started < arguments.minutes * 60:
            seed += 1
            while len(waiting) < arguments.strikes:
                waiting += schedule(chance, sorted(name for name in mishaps.kinds() if arguments.only in name))
            play_round(mishaps, total, seed, waiting[: arguments.strikes])
            del waiting[: arguments.strikes]
            left = check_offline(directory)
            print(
                f"{time.monotonic() - started:6.0f} s, round {seed}: {mishaps.counts.total()} mishaps, "
                f"{total.acknowledged:,} acknowledged, {total.failed:,} refused or without an answer, "
                f"{total.checked:,} read back; {left}, all as they should be",
                flush=True,
            )
        print(f"{mishaps.compactions:8,}  compactions that came to an end")
        for table in (mishaps.counts, total.operations, Counter(disk.hits())):
            print("\n".join(f"{count:8,}  {name}" for name, count in sorted(table.items())), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
