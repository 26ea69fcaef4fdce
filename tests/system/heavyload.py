"""More clients than a machine likes: `python -m tests.system.heavyload --connections 10000 --uploads 256 --objects
1000000 --seconds 600`.

Four crowds, one after the other, on one daemon: connections that are kept and asked at random; large uploads at once;
small objects, as many as there are or the seconds allow; and more requests at once than the server works on. Nobody is
told anything but success or SlowDown, no process takes more memory than it may, and in the end everything that was
acknowledged is listed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import trio

from rs3d.testing import MiniProcess
from tests.s3.wire.client import Caller
from tests.system.crowd import Client, Figures, crowd
from tests.system.memory import LIMIT_BYTES, MIB, Watch
from tests.system.races import caller_of

LARGE_BYTES: Final = 16 * MIB
BUDGETED_CONNECTIONS: Final = 1000
"""A process may take LIMIT_BYTES with so many of them, and CONNECTION_BYTES for each beyond."""
CONNECTION_BYTES: Final = 8 * 1024
"""perf/scale.py measures 5 KiB for one that is idle."""
SMALL_BYTES: Final = 256


async def kept_connections(caller: Caller, clients: int, seconds: float) -> Figures:
    """Each asks once; then, while all of them stay, each asks again after a random pause, until the time is over."""
    chance, everybody = random.Random(1), trio.Event()
    first = 0

    async def live(client: Client) -> None:
        nonlocal first
        await client.ask("HEAD", "/load")
        first += 1
        if first == clients:
            everybody.set()
        await everybody.wait()
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            await trio.sleep(min(chance.uniform(0, seconds), end - now + 0.001))
            await client.ask("HEAD", "/load")

    return await crowd(caller, clients, live)


async def large_uploads(caller: Caller, clients: int, size_bytes: int = LARGE_BYTES) -> Figures:
    """Everybody puts one object at once, and the ETag has to be that of its bytes."""
    body = random.Random(2).randbytes(size_bytes)
    digest = hashlib.sha256(body).hexdigest()

    async def live(client: Client) -> None:
        await client.ask("PUT", f"/load/large/{client.number}", body, payload_hash=digest)

    return await crowd(caller, clients, live)


async def small_objects(caller: Caller, clients: int, objects: int, seconds: float) -> tuple[Figures, int]:
    """Objects of 256 bytes under names of their own. Returns the figures and how many were acknowledged."""
    body, end, number, done = b"s" * SMALL_BYTES, time.monotonic() + seconds, 0, 0
    digest = hashlib.sha256(body).hexdigest()

    async def live(client: Client) -> None:
        nonlocal number, done
        while number < objects and time.monotonic() < end:
            number += 1
            await client.ask("PUT", f"/load/small/{number:08}", body, payload_hash=digest)
            done += 1

    return await crowd(caller, clients, live), done


async def overload(caller: Caller, clients: int, seconds: float) -> Figures:
    """Everybody puts and reads without a pause."""
    body, end = b"o" * 100_000, time.monotonic() + seconds
    digest = hashlib.sha256(body).hexdigest()

    async def live(client: Client) -> None:
        while time.monotonic() < end:
            await client.ask("PUT", f"/load/over/{client.number}", body, payload_hash=digest)
            await client.ask("GET", f"/load/over/{client.number}")

    return await crowd(caller, clients, live)


def listed(caller: Caller, prefix: str) -> int:
    """Keys under a prefix, page by page."""
    count, after = 0, ""
    while True:
        answer = caller.get(f"/load?list-type=2&prefix={prefix}{after}")
        count += int(answer.text("KeyCount"))
        if answer.text("IsTruncated") != "true":
            return count
        after = "&start-after=" + answer.texts("Contents/Key")[-1]


def judge(name: str, figures: Figures, problems: list[str]) -> None:
    """Tell the figures; what should not have been goes to `problems`."""
    print(f"{name}: {figures.text()}", flush=True)
    if figures.unwanted():
        problems.append(f"{name}: {figures.unwanted()}")
    if not figures.latencies_s:
        problems.append(f"{name}: nothing was done")


def run(server: MiniProcess, *, connections: int, uploads: int, objects: int, seconds: float) -> list[str]:
    """All crowds on a running daemon. Returns what was wrong."""
    caller, problems = caller_of(server), list[str]()
    if caller.put("/load").status != 200:
        raise AssertionError("the bucket could not be made")
    with Watch(server) as watch:
        judge(f"{connections:,} connections", trio.run(kept_connections, caller, connections, seconds / 10), problems)
        judge(f"{uploads} uploads of {LARGE_BYTES // MIB} MiB", trio.run(large_uploads, caller, uploads), problems)
        figures, done = trio.run(small_objects, caller, 64, objects, seconds)
        judge(f"{done:,} small objects", figures, problems)
        judge("overload", trio.run(overload, caller, 4 * uploads, seconds / 10), problems)
        expected = {"small/": done, "large/": uploads, "over/": 4 * uploads}
        found = {prefix: listed(caller, prefix) for prefix in expected}
        if found != expected:
            problems.append(f"listed {found}, acknowledged {expected}")
    limit_bytes = LIMIT_BYTES + max(0, most_of_a_worker(connections) - BUDGETED_CONNECTIONS) * CONNECTION_BYTES
    for name, (anonymous, shared) in sorted(watch.peaks.items()):
        print(f"{name:12} anonymous {anonymous / MIB:6.1f} MiB, shared {shared / MIB:6.1f} MiB")
        if anonymous > limit_bytes:
            problems.append(f"{name} took {anonymous / MIB:.0f} MiB")
    return problems


def most_of_a_worker(connections: int) -> int:
    """Three quarters of them: the other worker may still be starting."""
    return connections * 3 // 4


def environment(connections: int) -> dict[str, str]:
    """What the daemon is told."""
    most = max(BUDGETED_CONNECTIONS, most_of_a_worker(connections))
    return {"RS3D_HTTP__CONNECTIONS": str(most), "RS3D_LOG__LEVEL": "warning"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--uploads", type=int, default=256)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=600.0, help="for the small objects; a tenth for the others")
    parser.add_argument("--below", help="a directory with room for the uploads")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="rs3d-load-", dir=arguments.below) as directory:
        settings = environment(arguments.connections)
        with MiniProcess(Path(directory) / "data", workers=2, environment=settings) as server:
            problems = run(
                server,
                connections=arguments.connections,
                uploads=arguments.uploads,
                objects=arguments.objects,
                seconds=arguments.seconds,
            )
    for problem in problems:
        print("BAD", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
