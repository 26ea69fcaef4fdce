"""Bodies that share chunks, put and deleted while processes are killed: `python -m tests.system.sharing --minutes 10`.

The collector, the sweep and the rewriting of packs run all the time, so that each kill -9 meets some of them. After
each round everything acknowledged is read back, and the store is checked offline: the counts of all chunks are those
of the pins, files on disk == files reachable, every byte verified. After the last one everything is deleted, and
nothing is left.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from rs3d.testing import MiniProcess
from tests.system.chaos import check_offline
from tests.system.chaosload import SHARED, ChaosLoad
from tests.system.clients import s3_client
from tests.system.mishaps import KILLS, Mishaps
from tests.system.waiting import wait_until

ENVIRONMENT = {
    "RS3D_SERVICES__GARBAGE_INTERVAL_S": "0.05",
    "RS3D_SERVICES__SWEEP_INTERVAL_S": "0.2",
    "RS3D_SERVICES__COMPACTION_INTERVAL_S": "0.5",
    "RS3D_SERVICES__PACK_INTERVAL_S": "0.1",
    "RS3D_SERVICES__PACK_LIVE_SHARE": "0.95",
    "RS3D_SERVICES__PACK_MINIMUM_DEAD_BYTES": "1000",
}


def server_at(directory: Path) -> MiniProcess:
    """A daemon that cleans up as often as it can."""
    return MiniProcess(directory, workers=2, environment=ENVIRONMENT)


def play(server: MiniProcess, chance: random.Random, *, seed: int, kills: int) -> tuple[int, int]:
    """One round of load with `kills` kills in it, everything read back, and the store checked.

    Returns:
        How many answers were acknowledged, and how many objects and versions read back.
    """
    server.start()
    try:
        load = ChaosLoad(server, f"sharing-{seed}", writers=2, seed=seed, makes=SHARED)
        load.make_buckets(s3_client(server))
        mishaps, pause = Mishaps(server, chance), threading.Event()
        with load:
            for _ in range(kills):
                pause.wait(chance.uniform(0.1, 1.0))
                mishaps.strike(load, f"kill -9 {chance.choice(KILLS)}")
        assert not load.problems, load.problems[:5]
        checked = load.verify(s3_client(server))
        assert server.stop() == 0
    except BaseException:
        print(server.output[-20000:], file=sys.stderr)
        raise
    finally:
        server.kill()
    check_offline(server.directory)
    return load.acknowledged, checked


def remove_everything(server: MiniProcess) -> None:
    """Delete all objects; every chunk, pack and manifest goes with them."""
    server.start()
    try:
        client = s3_client(server)
        for bucket in client.list_buckets()["Buckets"]:
            for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket["Name"]):
                for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    client.delete_object(Bucket=bucket["Name"], Key=entry["Key"], VersionId=entry["VersionId"])
            for upload in client.list_multipart_uploads(Bucket=bucket["Name"]).get("Uploads", []):
                client.abort_multipart_upload(Bucket=bucket["Name"], Key=upload["Key"], UploadId=upload["UploadId"])
        wait_until(lambda: not list((server.directory / "blobs").glob("*/*.data")))
        assert server.stop() == 0
    finally:
        server.kill()
    check_offline(server.directory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="begin no round after so long")
    parser.add_argument("--kills", type=int, default=12, help="in each round")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--below", type=Path, default=None)
    arguments = parser.parse_args()
    chance, started, kills = random.Random(arguments.seed), time.monotonic(), 0
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="rs3d-sharing-", dir=arguments.below) as below:
        server, number = server_at(Path(below) / "data"), 0
        while time.monotonic() - started < arguments.minutes * 60:
            number += 1
            acknowledged, checked = play(server, chance, seed=number, kills=arguments.kills)
            kills += arguments.kills
            print(
                f"{time.monotonic() - started:6.0f} s, round {number}: {kills} kills, {acknowledged:,} acknowledged, "
                f"{checked:,} read back, all as they should be",
                flush=True,
            )
        remove_everything(server)
        print("everything deleted, nothing left", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
