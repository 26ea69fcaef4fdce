"""Kill processes at random moments under mixed load, restart, and check everything: `python -m tests.system.chaos
--moments 200`.

Each round kills one process, or all at once with the supervisor, with SIGKILL, at a random moment of the load. After
every kill the daemon has to serve again; after each round of a few kills every key is read back and compared with
what was acknowledged, and the store is checked offline: files on disk == files reachable, every byte verified.
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
from pathlib import Path

from rs3d.stores.check import CheckMode, assert_files_reachable, check_store
from rs3d.testing import MiniProcess
from tests.system.clients import s3_client
from tests.system.mixedload import MixedLoad
from tests.system.waiting import wait_until

KILLS_A_ROUND = 10
VICTIMS = ("worker", "committer", "steward", "all", "worker", "committer", "supervisor")


def strike(server: MiniProcess, victim: str) -> bool:
    """Kill; returns whether the whole daemon has to be started again."""
    if victim in ("all", "supervisor"):
        doomed = [server.pid] if victim == "supervisor" else [server.pid, *server.children().values()]
        for process in doomed:
            os.kill(process, signal.SIGKILL)
        server.kill()
        return True
    pid = server.children().get(victim)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in server.children().values())
    return False


def play_round(server: MiniProcess, chance: random.Random, seed: int, kills: int) -> tuple[MixedLoad, int]:
    """One stretch of load with kills in it. Returns the load and how many objects and versions were read back."""
    pause = threading.Event()
    server.start()
    try:
        client = s3_client(server)
        bucket = f"round-{seed}"
        load = MixedLoad(server, bucket, writers=4, seed=seed)
        load.make_buckets(client)
        with load:
            for _ in range(kills):
                pause.wait(chance.uniform(0.05, 1.5))
                before = load.acknowledged
                if strike(server, chance.choice(VICTIMS)):
                    server.start()
                wait_until(lambda seen=before: load.acknowledged > seen + 5)  # type: ignore[misc]
        client = s3_client(server)
        checked = load.verify(client)
        status = server.stop()
        if status != 0:
            raise AssertionError(f"the daemon ended with {status}")
    except BaseException:
        print(server.output[-20000:], file=sys.stderr)
        raise
    finally:
        server.kill()
    return load, checked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=200, help="kills in all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory(prefix="rs3d-chaos-") as directory:
        server = MiniProcess(Path(directory) / "data", workers=arguments.workers)
        done = 0
        while done < arguments.moments:
            kills = min(KILLS_A_ROUND, arguments.moments - done)
            load, checked = play_round(server, chance, done + 1, kills)
            done += kills
            check_store(str(server.directory), mode=CheckMode.REPAIR)
            report = assert_files_reachable(str(server.directory))
            print(
                f"{done} kills: {load.acknowledged} acknowledged, {load.failed} without an answer; "
                f"{checked} read back; {report.versions} versions, {report.blobs} blobs, all as they should be",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
