"""Curves of rs3d alone, which ought to be flat: `python perf/scale.py CURVE --root DIR --rs3d rs3d`.

    workers      requests/s and CPU per request against worker processes (--steps 1,2,4)
    objects      CPU per request against objects in the bucket (--steps 1000,10000,100000,1000000,10000000), and what a
                 start and the memory cost there; objects are made in the store itself (fillstore.py), 64 bytes each
    sizes        CPU per PUT and GET, and per MiB of them, against the size of an object (--steps 0,4096,…)
    connections  memory of the daemon against connections that made one request and stay (--steps 0,1000,10000)

CPU is that of all processes of the daemon, in µs of one request, until background work has drained; keys are drawn at
random over all there are. A table in Markdown.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fillstore import OBJECT_BYTES, fill, key_of, keys_in_order
from jobs import BUCKET, KIB, MIB, Target, body_of
from loadclient import Prepared, run
from processes import memory_bytes, settled_cpu_s
from servers import KINDS, Server

from rs3d.stores.catalogtables import Access, open_tables
from rs3d.stores.mapresizing import PAGE_BYTES

CONNECTIONS = 16
NEW_KEYS = 5_000
"""Put and deleted again at each step, spread over all there are: each is met on a page of its own."""

Make = Callable[[Target], Iterator[Prepared]]


def started(arguments: argparse.Namespace, workers: int | None = None) -> Server:
    """The daemon over `--root`, with what is there."""
    extra = () if workers is None else ("--workers", str(workers))
    return Server(KINDS["rs3d"], arguments.rs3d, arguments.root, extra)


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


def objects(arguments: argparse.Namespace) -> None:
    """The curve of that name."""
    print(
        "| objects | filled at/s | catalog MiB | log MiB | start s | memory MiB | GET µs | HEAD µs | PUT µs "
        "| LIST 1,000 µs | DELETE µs |\n" + "|---" * 11 + "|"
    )
    for step in arguments.steps or [1_000, 10_000, 100_000, 1_000_000, 10_000_000]:
        shutil.rmtree(arguments.root, ignore_errors=True)
        server = started(arguments)
        make_bucket(server)
        server.stop()
        rate = filled(arguments.root / "data", step)
        sizes_mib = [size / MIB for size in stored_bytes(arguments.root / "data")]
        server = started(arguments)
        try:
            costs = costs_at(server, step, arguments.seconds)
            numbers = [step, rate, *sizes_mib]
            cells = [f"{number:,.0f}" for number in numbers] + [f"{server.ready_s:.2f}"]
            cells += [f"{memory_bytes(server.pid) / MIB:,.0f}"] + [f"{cost:,.0f}" for cost in costs]
            print(f"| {' | '.join(cells)} |", flush=True)
        finally:
            server.stop()


def filled(data: Path, count: int) -> float:
    """Fill the store; objects a second."""
    begun = time.perf_counter()
    fill(str(data), BUCKET, keys_in_order(count), body_of(OBJECT_BYTES, 1))
    return count / (time.perf_counter() - begun)


def stored_bytes(data: Path) -> tuple[int, int]:
    """Of the pages that the catalog has used, and of the log, prepared segments included."""
    tables = open_tables(str(data / "catalog"), access=Access.READ)
    try:
        info = tables.environment.info()
        catalog_bytes = (int(info["last_pgno"]) + 1) * PAGE_BYTES
    finally:
        tables.environment.close()
    return catalog_bytes, sum(path.stat().st_blocks * 512 for path in (data / "log").iterdir())


def costs_at(server: Server, count: int, seconds: float) -> list[float]:
    """µs of CPU of GET, HEAD, PUT, LIST and DELETE with `count` objects in the bucket."""
    target = server.target
    new = [f"/{BUCKET}/{key_of(number)}" for number in range(count, count + NEW_KEYS)]
    body = body_of(OBJECT_BYTES, 1)
    jobs: list[Iterator[Prepared]] = [
        random_keys(target, "GET", count, 1),
        random_keys(target, "HEAD", count, 2),
        iter([target.prepare("PUT", path, body) for path in new]),
        lists(target, count),
        iter([target.prepare("DELETE", path, status=204) for path in new]),
    ]
    return [measured(server, prepared, seconds)[1] for prepared in jobs]


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
