"""GETs of a few hot objects while another connection reads cold ones: `python perf/cold.py --root DIR --rs3d rs3d`.

One worker serves a store of many small objects whose pages were put out of the page cache before it was started: those
of the log alone (`--cold log`: the catalog's file is read once first), or those of log and catalog. The hot objects are
read until they are in memory. Then their p50, p99 and longest wait, alone and beside one process whose connections read
objects that nobody has read yet, one after the other. What ought to be seen: whoever reads from memory does not wait
for the disk of others.

Several trees may be measured in turn, on stores of the same objects (`--rs3d` again and again).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fillstore import OBJECT_BYTES, fill, key_of, keys_in_order
from jobs import BUCKET, MIB, Target, body_of
from loadclient import Measurement, Prepared, repeated, run
from servers import KINDS, Server

HOT_OBJECTS = 200
WARM_UP_S = 1.0


def make_store(binary: str, root: Path, objects: int) -> None:
    """A store with that many objects, closed."""
    shutil.rmtree(root, ignore_errors=True)
    server = Server(KINDS["rs3d"], binary, root)
    try:
        bucket = server.target.prepare("PUT", f"/{BUCKET}")
        run(server.target.endpoint, iter([bucket]), connections=1, seconds=30, most=1)
    finally:
        server.stop()
    fill(str(root / "data"), BUCKET, keys_in_order(objects), body_of(OBJECT_BYTES, 1))


def put_out_of_memory(data: Path, *, keeps_catalog: bool) -> None:
    """Drop the pages of log and catalog from the page cache. Nobody may have the files open or mapped."""
    catalog = data / "catalog" / "data.mdb"
    for path in [catalog, *(data / "log").iterdir()]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    if keeps_catalog:
        with catalog.open("rb") as file:
            while file.read(MIB):
                continue


def cold_reads(target: Target, objects: int, seed: int) -> Iterator[Prepared]:
    """GETs of objects that are not hot, each at most once, in no order."""
    numbers = list(range(HOT_OBJECTS, objects))
    random.Random(seed).shuffle(numbers)
    return (target.prepare("GET", f"/{BUCKET}/{key_of(number)}") for number in numbers)


def read_cold(
    target: Target, reads: Iterator[Prepared], connections: int, stop: Event, figures: list[Synchronized[float]]
) -> None:
    """Read until `stop`; in the end `figures` are objects a second, and their p50 in ms."""
    sofar = Measurement()
    while not stop.is_set():
        part = run(target.endpoint, reads, connections=connections, seconds=0.2, most=1_000_000)
        sofar.requests += part.requests
        sofar.elapsed_s += part.elapsed_s
        sofar.latencies_s += part.latencies_s
    figures[0].value = sofar.requests / sofar.elapsed_s
    figures[1].value = sofar.percentile_s(0.5) * 1e3


def measure(options: argparse.Namespace, binary: str, root: Path, seed: int) -> str:
    """A row of the table: one start of the server."""
    put_out_of_memory(root / "data", keeps_catalog=options.cold == "log")
    server = Server(KINDS["rs3d"], binary, root, ("--workers", "1"))
    try:
        target = server.target
        hot = [target.prepare("GET", f"/{BUCKET}/{key_of(number)}") for number in range(HOT_OBJECTS)]

        def hot_reads(seconds: float) -> Measurement:
            many = options.connections
            return run(target.endpoint, repeated(hot), connections=many, seconds=seconds, most=10_000_000)

        run(target.endpoint, iter(hot), connections=1, seconds=120, most=HOT_OBJECTS)
        hot_reads(WARM_UP_S)
        alone = hot_reads(options.seconds)
        stop = multiprocessing.Event()
        figures = [multiprocessing.Value("d", 0.0) for _ in range(2)]
        reads = cold_reads(target, options.objects, seed)
        reader = multiprocessing.Process(target=read_cold, args=(target, reads, options.readers, stop, figures))
        reader.start()
        try:
            hot_reads(0.2)
            beside = hot_reads(options.seconds)
        finally:
            stop.set()
            reader.join()
    finally:
        server.stop()
    cells = [f"{found.requests / found.elapsed_s:,.0f} | {_waits(found)}" for found in (alone, beside)]
    return f"{' | '.join(cells)} | {figures[0].value:,.0f} | {figures[1].value:.2f}"


def _waits(found: Measurement) -> str:
    shares = [found.percentile_s(share) * 1e3 for share in (0.5, 0.99, 0.999, 1.0)]
    return " | ".join(f"{wait_ms:.2f}" for wait_ms in shares)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="a folder on a journaled ext4 or XFS; emptied")
    parser.add_argument("--rs3d", metavar="BINARY", action="append", required=True)
    parser.add_argument("--cold", choices=("log", "both"), default="both", help="what is not in memory")
    parser.add_argument("--objects", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=4, help="that read hot objects")
    parser.add_argument("--readers", type=int, default=1, help="connections that read cold ones")
    options = parser.parse_args()
    roots = [options.root / f"cold{number}" for number in range(len(options.rs3d))]
    try:
        for binary, root in zip(options.rs3d, roots, strict=True):
            make_store(binary, root, options.objects)
        waits = "p50 ms | p99 | p99.9 | longest"
        print(f"| server | hot alone/s | {waits} | beside cold ones/s | {waits} | cold/s | cold p50 ms |")
        print("|---" * 13 + "|")
        for number in range(options.rounds):
            for binary, root in zip(options.rs3d, roots, strict=True):
                print(f"| {binary} | {measure(options, binary, root, number)} |", flush=True)
    finally:
        for root in roots:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
