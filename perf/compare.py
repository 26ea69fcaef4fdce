"""rs3d beside its peers, in one run on one file system: requests/s, MiB/s, p50, p99, server CPU per request, memory.

    python perf/compare.py --root /mnt/journaled --rs3d rs3d --minio …/minio --versitygw …/versitygw --seaweedfs
    …/weed --rclone …/rclone

Every job runs on one server after the other, and all that again for each round (interleaved, so that drift of the
machine hits all alike); medians of the rounds are shown with their spread. CPU is that of all processes of a server
until its background work has drained. Answers are checked (status, length, small bodies by SHA-256, large ones once by
SHA-256).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from jobs import Job, populate, populate_list, standard_jobs
from loadclient import WrongAnswer
from plot import write_svg
from processes import memory_bytes, settled_cpu_s
from servers import KINDS, Server


@dataclass(frozen=True, slots=True)
class Figure:
    """One job on one server in one round."""

    server: str
    job: str
    connections: int
    round: int
    requests: int
    requests_per_s: float
    mib_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float
    memory_mib: float


def measure(server: Server, job: Job, round_number: int) -> Figure:
    """Run one job once."""
    # Signing the requests and whatever the job puts there first is not the server's cost.
    before = settled_cpu_s(server.pid)
    prepared = job.prepare(server.target, round_number)
    before = settled_cpu_s(server.pid) if job.prepares_on_server else before
    measured = job.run(server.target, prepared)
    after = settled_cpu_s(server.pid)
    return Figure(
        server=server.kind.name,
        job=job.name,
        connections=job.connections,
        round=round_number,
        requests=measured.requests,
        requests_per_s=measured.requests / measured.elapsed_s,
        mib_per_s=measured.body_bytes / measured.elapsed_s / 2**20,
        p50_ms=measured.percentile_s(0.5) * 1e3,
        p99_ms=measured.percentile_s(0.99) * 1e3,
        cpu_us_per_request=(after - before) / max(1, measured.requests) * 1e6,
        memory_mib=memory_bytes(server.pid) / 2**20,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """The median of one job on one server over the rounds; `spread` is (largest - smallest) / median of requests/s."""

    server: str
    job: str
    connections: int
    requests_per_s: float
    mib_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float
    memory_mib: float
    spread: float


def medians(figures: list[Figure]) -> list[Row]:
    """One row for each (job, connections, server), in the order measured."""
    groups: dict[tuple[str, int, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.job, figure.connections, figure.server), []).append(figure)
    rows = []
    for (job, connections, server), group in groups.items():
        rates = [figure.requests_per_s for figure in group]
        rows.append(
            Row(
                server=server,
                job=job,
                connections=connections,
                requests_per_s=statistics.median(rates),
                mib_per_s=statistics.median(figure.mib_per_s for figure in group),
                p50_ms=statistics.median(figure.p50_ms for figure in group),
                p99_ms=statistics.median(figure.p99_ms for figure in group),
                cpu_us_per_request=statistics.median(figure.cpu_us_per_request for figure in group),
                memory_mib=max(figure.memory_mib for figure in group),
                spread=(max(rates) - min(rates)) / statistics.median(rates),
            )
        )
    return rows


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table, with rs3d's ratios to the best peer in each figure."""
    lines = [
        "| job | conns | server | req/s | MiB/s | p50 ms | p99 ms | CPU µs/req | memory MiB | spread "
        "| rs3d × best req/s | rs3d ÷ best CPU |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    by_job: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        by_job.setdefault((row.job, row.connections), []).append(row)
    for (job, connections), group in by_job.items():
        peers = [row for row in group if row.server != "rs3d"]
        for row in group:
            ratios = " | "
            if row.server == "rs3d" and peers:
                rate = row.requests_per_s / max(peer.requests_per_s for peer in peers)
                cpu = row.cpu_us_per_request / min(peer.cpu_us_per_request for peer in peers)
                ratios = f"{rate:.2f} | {cpu:.2f}"
            lines.append(
                f"| {job} | {connections} | {row.server} | {row.requests_per_s:,.0f} | {row.mib_per_s:,.1f} "
                f"| {row.p50_ms:.2f} | {row.p99_ms:.2f} | {row.cpu_us_per_request:,.0f} | {row.memory_mib:,.0f} "
                f"| {row.spread:.0%} | {ratios} |"
            )
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="a folder on a journaled ext4 or XFS; emptied")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="at most this long a job and round")
    parser.add_argument("--connections", default="1,16,256")
    parser.add_argument("--jobs", default="", help="only jobs whose name contains one of these, comma separated")
    parser.add_argument("--list-objects", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    for name in KINDS:
        parser.add_argument(f"--{name}", metavar="BINARY", default="")
    options = parser.parse_args()
    chosen = [(kind, getattr(options, name)) for name, kind in KINDS.items() if getattr(options, name)]
    wanted = [text for text in options.jobs.split(",") if text]
    jobs = [
        job.lasting(options.seconds)
        for job in standard_jobs(tuple(int(n) for n in options.connections.split(",")))
        if not wanted or any(text in job.name for text in wanted)
    ]
    servers = []
    try:
        for kind, binary in chosen:
            root = options.root / kind.name
            shutil.rmtree(root, ignore_errors=True)
            servers.append(Server(kind, binary, root))
        # All of them run before the first is filled: what cannot start is to be known at once.
        for server in servers:
            print(f"{server.kind.name}: {server.kind.durability}; filling …", file=sys.stderr, flush=True)
            populate(server.target)
            if any("LIST" in job.name for job in jobs):
                populate_list(server.target, options.list_objects)
        figures = run_rounds(servers, jobs, options.rounds)
    finally:
        for server in servers:
            server.stop()
    rows = medians(figures)
    print(table(rows))
    print()
    for kind, _ in chosen:
        print(f"- {kind.name}: {kind.durability}")
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    if options.svg:
        write_svg(options.svg, rows)


def run_rounds(servers: list[Server], jobs: list[Job], rounds: int) -> list[Figure]:
    """All jobs on all servers, interleaved."""
    figures: list[Figure] = []
    for round_number in range(rounds):
        for job in jobs:
            for server in servers:
                try:
                    figure = measure(server, job, round_number)
                except (WrongAnswer, OSError) as problem:
                    print(f"{server.kind.name}: {job.name} x {job.connections}: {problem}", file=sys.stderr, flush=True)
                    continue
                figures.append(figure)
                print(
                    f"{time.strftime('%H:%M:%S')} round {round_number} {job.name:12} x{job.connections:<4} "
                    f"{server.kind.name:10} "
                    f"{figure.requests_per_s:10,.0f}/s {figure.cpu_us_per_request:10,.0f} µs",
                    file=sys.stderr,
                    flush=True,
                )
    return figures


if __name__ == "__main__":
    main()
