"""Curves of rs3d alone, which ought to be flat: `python perf/scale.py CURVE --root DIR --rs3d rs3d`.

    workers      requests/s and CPU per request against worker processes (--steps 1,2,4)
    objects      CPU per request against objects in the bucket (--steps 1000,10000,100000,1000000,10000000); objects
                 are made in the store itself, by the library, while no daemon runs
    sizes        CPU per PUT and GET, and per MiB of them, against the size of an object (--steps 0,4096,…)
    connections  memory of the daemon against connections that made one request and stay (--steps 0,1000,10000)

CPU is that of all processes of the daemon, in µs of one request, until background work has drained; keys are drawn at
random over all there are. A table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parent))

from jobs import BUCKET, KIB, MIB, Target, body_of
from loadclient import Prepared, run
from processes import memory_bytes, settled_cpu_s
from servers import KINDS, Server

from rs3d.engine import StorageEngine

CONNECTIONS = 16
FILLERS = 128
"""Callers that fill the store at once: their commits go together."""

Make = Callable[[Target], Iterator[Prepared]]


def started(arguments: argparse.Namespace, workers: int | None = None) -> Server:
    """The daemon over `--root`, with what is there."""
    os.environ.pop("RS3D_PERF_WORKERS", None)
    if workers is not None:
        os.environ["RS3D_PERF_WORKERS"] = str(workers)
    return Server(KINDS["rs3d"], arguments.rs3d, arguments.root)


def measured(
    server: Server, prepared: Iterator[Prepared], seconds: float, connections: int = CONNECTIONS
) -> tuple[float, float]:
    """Requests a second, and µs of the daemon's CPU a request."""
    before = settled_cpu_s(server.pid)
    found = run(server.target.endpoint, prepared, connections=connections, seconds=seconds, most=10_000_000)
    used = settled_cpu_s(server.pid) - before
    return found.requests / found.elapsed_s, used / found.requests * 1e6


def make_bucket(server: Server) -> None:
    run(server.target.endpoint, iter([server.target.prepare("PUT", f"/{BUCKET}")]), connections=1, seconds=30, most=1)


def key_of(number: int) -> str:
    """Spread over the order of keys as it grows: neighbours in time are none in the catalog."""
    return f"k/{number * 2_654_435_761 % 4_294_967_296:010}"


def random_keys(target: Target, method: str, count: int, seed: int, status: int = 200) -> Iterator[Prepared]:
    """20,000 requests for objects drawn from `count`."""
    dice = random.Random(seed)
    numbers = [dice.randrange(count) for _ in range(20_000)]
    return iter([target.prepare(method, f"/{BUCKET}/{key_of(number)}", status=status) for number in numbers])


def lists(target: Target, count: int) -> Iterator[Prepared]:
    """Pages of 1,000 from random keys on."""
    dice = random.Random(count)
    path = f"/{BUCKET}?list-type=2&max-keys=1000&start-after=k%2F"
    return iter([target.prepare("GET", f"{path}{dice.randrange(4_000_000_000):010}") for _ in range(2_000)])


def puts(target: Target, size_bytes: int, prefix: str, count: int) -> Iterator[Prepared]:
    body = body_of(size_bytes, 1)
    return iter([target.prepare("PUT", f"/{BUCKET}/{prefix}/{number:06}", body) for number in range(count)])


def workers(arguments: argparse.Namespace) -> None:
    """The curve of that name."""
    print("| workers | GET 4 KiB/s | CPU µs | PUT 4 KiB/s | CPU µs | LIST 1,000/s | CPU µs |\n" + "|---" * 7 + "|")
    for step in arguments.steps or [1, 2, 4]:
        shutil.rmtree(arguments.root, ignore_errors=True)
        server = started(arguments, step)
        try:
            make_bucket(server)
            target = server.target
            cells = []
            body = body_of(4 * KIB, 1)
            objects = [target.prepare("PUT", f"/{BUCKET}/{key_of(number)}", body) for number in range(1_000)]
            run(target.endpoint, iter(objects), connections=CONNECTIONS, seconds=60, most=1_000)
            for prepared in (
                random_keys(target, "GET", 1_000, 1),
                puts(target, 4 * KIB, "put", 20_000),
                lists(target, 1_000),
            ):
                rate, cpu = measured(server, prepared, arguments.seconds)
                cells += [f"{rate:,.0f}", f"{cpu:,.0f}"]
            print(f"| {step} | {' | '.join(cells)} |", flush=True)
        finally:
            server.stop()


async def fill(root: Path, first: int, count: int) -> None:
    """Objects of 64 bytes by the library, those numbered `first` to `count`."""
    numbers = iter(range(first, count))
    body = body_of(64, 1)

    async def put(engine: StorageEngine) -> None:
        for number in numbers:
            await engine.put_object(BUCKET, key_of(number), body)

    async with StorageEngine.open(root / "data") as engine, trio.open_nursery() as nursery:
        for _ in range(FILLERS):
            nursery.start_soon(put, engine)


def objects(arguments: argparse.Namespace) -> None:
    """The curve of that name."""
    shutil.rmtree(arguments.root, ignore_errors=True)
    server = started(arguments)
    make_bucket(server)
    server.stop()
    print(
        "| objects | filled at/s | catalog MiB | GET µs | HEAD µs | PUT µs | LIST 1,000 µs | DELETE µs |\n"
        + "|---" * 8
        + "|"
    )
    have = 0
    for step in arguments.steps or [1_000, 10_000, 100_000, 1_000_000]:
        begun = time.perf_counter()
        trio.run(fill, arguments.root, have, step)
        rate = (step - have) / (time.perf_counter() - begun)
        have = step
        size = (arguments.root / "data" / "catalog" / "data.mdb").stat().st_blocks * 512 / MIB
        server = started(arguments)
        try:
            target = server.target
            cells = []
            for prepared in (
                random_keys(target, "GET", have, 1),
                random_keys(target, "HEAD", have, 2),
                puts(target, 64, f"put{step}", 5_000),
                lists(target, have),
                iter(
                    [
                        target.prepare("DELETE", f"/{BUCKET}/put{step}/{number:06}", status=204)
                        for number in range(5_000)
                    ]
                ),
            ):
                _, cpu = measured(server, prepared, arguments.seconds)
                cells.append(f"{cpu:,.0f}")
            print(f"| {step:,} | {rate:,.0f} | {size:,.0f} | {' | '.join(cells)} |", flush=True)
        finally:
            server.stop()


def sizes(arguments: argparse.Namespace) -> None:
    """The curve of that name."""
    shutil.rmtree(arguments.root, ignore_errors=True)
    server = started(arguments)
    print("| bytes | PUT µs | PUT µs/MiB | GET µs | GET µs/MiB |\n|---|---|---|---|---|")
    try:
        make_bucket(server)
        target = server.target
        usual = [0, KIB, 4 * KIB, 32 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB]
        for step in arguments.steps or usual:
            count = max(8, min(2_000, 512 * MIB // max(step, 1)))
            connections = CONNECTIONS if step < 16 * MIB else 4
            _, put = measured(server, puts(target, step, f"s{step}", count), arguments.seconds, connections)
            made = [f"/{BUCKET}/s{step}/{number:06}" for number in range(8)]
            gets = [target.prepare("GET", made[number % 8]) for number in range(20_000 if step < MIB else 2_000)]
            run(target.endpoint, iter(gets[:16]), connections=1, seconds=30, most=16)  # warm, verified
            _, get = measured(server, iter(gets), arguments.seconds, connections)
            mebibytes = max(step, 1) / MIB
            per = ("–", "–") if step < 64 * KIB else (f"{put / mebibytes:,.0f}", f"{get / mebibytes:,.0f}")
            print(f"| {step:,} | {put:,.0f} | {per[0]} | {get:,.0f} | {per[1]} |", flush=True)
    finally:
        server.stop()


def connections(arguments: argparse.Namespace) -> None:
    """The curve of that name."""
    shutil.rmtree(arguments.root, ignore_errors=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    server = started(arguments)
    print("| connections | memory MiB | KiB a connection |\n|---|---|---|")
    held: list[socket.socket] = []
    try:
        make_bucket(server)
        request = server.target.prepare("HEAD", f"/{BUCKET}").head
        base = 0
        for step in arguments.steps or [0, 100, 1_000, 10_000]:
            while len(held) < step:
                link = socket.create_connection(server.target.endpoint)
                link.sendall(request)
                if not link.recv(4096).startswith(b"HTTP/1.1 200"):
                    sys.exit("a HEAD of the bucket failed")
                held.append(link)
            memory = memory_bytes(server.pid)
            base = base or memory
            each = f"{(memory - base) / len(held) / KIB:,.1f}" if held else "–"
            print(f"| {step:,} | {memory / MIB:,.1f} | {each} |", flush=True)
    finally:
        for link in held:
            link.close()
        server.stop()


CURVES = {"workers": workers, "objects": objects, "sizes": sizes, "connections": connections}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curve", choices=CURVES)
    parser.add_argument("--root", type=Path, required=True, help="a folder on a journaled ext4 or XFS; emptied")
    parser.add_argument("--rs3d", metavar="BINARY", default="rs3d")
    parser.add_argument("--seconds", type=float, default=3.0, help="at most this long a figure")
    parser.add_argument("--steps", type=lambda text: [int(step) for step in text.split(",")])
    arguments = parser.parse_args()
    CURVES[arguments.curve](arguments)
    shutil.rmtree(arguments.root, ignore_errors=True)


if __name__ == "__main__":
    main()
