"""Small GETs beside a large upload: `python perf/latency.py --root DIR --rs3d rs3d [--minio …] [--versitygw …]`.

p50 and p99 of 4 KiB GETs over 16 connections, alone and while another process uploads 64 MiB again and again, in
alternating rounds. What the speed budget asks: p99 alone at most five times p50, and not doubled by the upload.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import sys
import time
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from jobs import BUCKET, KIB, MIB, Target, body_of
from loadclient import Measurement, Prepared, repeated, run
from servers import KINDS, Server

OBJECTS = 1_000
UPLOAD_BYTES = 64 * MIB


def prepare(target: Target) -> list[Prepared]:
    """Make the objects; the requests that read them."""
    run(target.endpoint, iter([target.prepare("PUT", f"/{BUCKET}")]), connections=1, seconds=30, most=1)
    keys = [f"/{BUCKET}/small/{number:04}" for number in range(OBJECTS)]
    body = body_of(4 * KIB, 1)
    run(target.endpoint, iter([target.prepare("PUT", keys[0], body)]), connections=1, seconds=60, most=1)
    puts = (target.prepare("PUT", key, body) for key in keys[1:])
    run(target.endpoint, puts, connections=4, seconds=600, most=OBJECTS)
    return [target.prepare("GET", key) for key in keys]


def upload(target: Target, stop: Event, rate: Synchronized[float]) -> None:
    """Put one large object over and over; in the end `rate` is how many MiB went a second."""
    put = target.prepare("PUT", f"/{BUCKET}/large", body_of(UPLOAD_BYTES, 2))
    bodies, start = 0, time.perf_counter()
    while not stop.is_set():
        run(target.endpoint, iter([put]), connections=1, seconds=60, most=1)
        bodies += 1
    rate.value = bodies * UPLOAD_BYTES / MIB / (time.perf_counter() - start)


def warm_up(target: Target, gets: list[Prepared], connections: int) -> None:
    """A second of them, before either figure is taken."""
    run(target.endpoint, repeated(gets), connections=connections, seconds=1.0, most=1_000_000)


def beside_an_upload(
    target: Target, gets: list[Prepared], seconds: float, connections: int
) -> tuple[Measurement, float]:
    """The GETs while another process uploads, and how many MiB a second that one got through."""
    stop = multiprocessing.Event()
    rate = multiprocessing.Value("d", 0.0)
    uploader = multiprocessing.Process(target=upload, args=(target, stop, rate))
    uploader.start()
    try:
        warm_up(target, gets, connections)
        measured = run(target.endpoint, repeated(gets), connections=connections, seconds=seconds, most=1_000_000)
    finally:
        stop.set()
        uploader.join()
    return measured, rate.value


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="a folder on a journaled ext4 or XFS; emptied")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=16)
    for name in KINDS:
        parser.add_argument(f"--{name}", metavar="BINARY", default="")
    options = parser.parse_args()
    columns = "alone: GET/s | p50 ms | p99 ms | p99 ÷ p50 | beside an upload: GET/s | p99 ms | p99 ÷ alone"
    print(f"| server | {columns} | upload MiB/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, kind in KINDS.items():
        binary = getattr(options, name)
        if not binary:
            continue
        root = options.root / kind.name
        shutil.rmtree(root, ignore_errors=True)
        server = Server(kind, binary, root)
        try:
            gets = prepare(server.target)
            alone, beside, uploads = [], [], []
            for _ in range(options.rounds):
                warm_up(server.target, gets, options.connections)
                alone.append(
                    run(
                        server.target.endpoint,
                        repeated(gets),
                        connections=options.connections,
                        seconds=options.seconds,
                        most=1_000_000,
                    )
                )
                measured, rate = beside_an_upload(server.target, gets, options.seconds, options.connections)
                beside.append(measured)
                uploads.append(rate)
        finally:
            server.stop()
        rate, p50, p99 = (statistics.median(figures) for figures in zip(*map(_figures, alone), strict=True))
        rate_beside, _, p99_beside = (
            statistics.median(figures) for figures in zip(*map(_figures, beside), strict=True)
        )
        print(
            f"| {kind.name} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {p99 / p50:.1f} "
            f"| {rate_beside:,.0f} | {p99_beside:.2f} | {p99_beside / p99:.1f} | {statistics.median(uploads):,.0f} |",
            flush=True,
        )


def _figures(measured: Measurement) -> tuple[float, float, float]:
    """Requests a second, and p50 and p99 in milliseconds."""
    rate = measured.requests / measured.elapsed_s
    return rate, measured.percentile_s(0.5) * 1e3, measured.percentile_s(0.99) * 1e3


if __name__ == "__main__":
    main()
