"""rs3d beside its peers, in one run on one file system: requests/s, MiB/s, p50, p99, server CPU per request, memory.

    python perf/compare.py --root /mnt/journaled/compare --rs3d rs3d --minio …/minio --versitygw …/versitygw
    --seaweedfs …/weed --rclone …/rclone

Every job runs on one server after the other, and all that again for each round (interleaved, so that drift of the
machine hits all alike); medians of the rounds are shown with their spread, (largest - smallest) / median. CPU is that
of all processes of a server until its background work has drained; what each takes with nothing to do is measured
before the jobs, and taken off for the time waited after them. Memory is the most, in any round, that all processes of
a server had of their own and shared during the job. Answers are checked as jobs.py says; a round with a wrong answer
does not count, and is told. What was stored is removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from figures import Figure, medians, table
from filesystems import file_system_of
from jobs import Job, chosen_jobs, populate
from loadclient import WrongAnswer
from plot import write_svg
from processes import MemoryPeak, cpu_s, idle_shares, settled_cpu_s
from servers import KINDS, Kind, Server


def measure(server: Server, job: Job, round_number: int, idle: float) -> Figure:
    """Run one job once, on a server that takes `idle` of a core with nothing to do.

    Raises:
        WrongAnswer
    """
    # Signing the requests and whatever the job puts there first is not the server's cost.
    work = job.prepare(server.target, f"round{round_number}")
    settled_cpu_s(server.pid, idle)
    before = cpu_s(server.pid)
    with MemoryPeak(server.pid) as memory:
        measured = job.run(server.target, work)
    used = settled_cpu_s(server.pid, idle) - before
    job.check(server.target, work, measured.requests)
    return Figure(
        server=server.kind.name,
        is_durable=server.kind.is_durable,
        job=job.name,
        writes=job.writes,
        connections=job.connections,
        round=round_number,
        requests=measured.requests,
        requests_per_s=measured.requests / measured.elapsed_s,
        mib_per_s=measured.body_bytes / measured.elapsed_s / 2**20,
        p50_ms=measured.percentile_s(0.5) * 1e3,
        p99_ms=measured.percentile_s(0.99) * 1e3,
        cpu_us_per_request=used / max(1, measured.requests) * 1e6,
        peak_mib=memory.bytes / 2**20,
    )


def run_rounds(servers: list[Server], jobs: list[Job], rounds: int) -> tuple[list[Figure], list[str]]:
    """All jobs on all servers, interleaved. The figures, and what went wrong instead of one."""
    names = [server.kind.name for server in servers]
    idle = dict(zip(names, idle_shares([server.pid for server in servers]), strict=True))
    for name, share in idle.items():
        _tell(f"{name}: {share:.1%} of a core with nothing to do")
    figures, problems = list[Figure](), list[str]()
    for round_number in range(rounds):
        for job in jobs:
            for server in servers:
                what = f"round {round_number} {job.name:16} x{job.connections:<4} {server.kind.name:10}"
                try:
                    figure = measure(server, job, round_number, idle[server.kind.name])
                except (WrongAnswer, OSError) as problem:
                    problems.append(f"{' '.join(what.split())} does not count: {problem}")
                    _tell(problems[-1])
                    continue
                figures.append(figure)
                _tell(f"{what} {figure.requests_per_s:10,.0f}/s {figure.cpu_us_per_request:10,.0f} µs")
    return figures, problems


def _tell(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def options_of() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, required=True, help="a folder on ext4 with a journal or XFS; ROOT/NAME of each is emptied"
    )
    parser.add_argument("--any-file-system", action="store_true", help="measure on one without a journal, too")
    parser.add_argument("--keep", action="store_true", help="leave what was stored, and the servers' logs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="at most this long a job and round")
    parser.add_argument("--connections", default="1,16,256")
    parser.add_argument("--jobs", default="", help="only jobs whose name contains one of these, comma separated")
    parser.add_argument("--list-objects", type=int, default=100_000)
    parser.add_argument("--workers", type=int, help="of rs3d; as many as it takes by itself without this")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    for name in KINDS:
        parser.add_argument(f"--{name}", metavar="BINARY", default="")
    return parser


def main() -> None:
    """The command."""
    parser = options_of()
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # servers are in sessions of their own
    chosen = [(kind, getattr(options, name)) for name, kind in KINDS.items() if getattr(options, name)]
    if not chosen:
        parser.error(f"no server is given; there are {', '.join(f'--{name}' for name in KINDS)}")
    found = file_system_of(options.root)
    if not found.has_journal and not options.any_file_system:
        parser.error(f"{options.root} lies on {found}: take one with a journal, or --any-file-system")
    try:
        jobs = chosen_jobs(options.connections, options.jobs, options.seconds, options.list_objects)
    except ValueError as problem:
        parser.error(str(problem))
    try:
        figures, problems = compare(chosen, jobs, options)
    finally:
        if not options.keep:
            for kind, _ in chosen:
                shutil.rmtree(options.root / kind.name, ignore_errors=True)
            with contextlib.suppress(OSError):  # it holds other things, or is a mount point
                options.root.rmdir()
    rows = medians(figures)
    print(table(rows))
    print(f"\nAll on {found}.")
    for kind, _ in chosen:
        print(f"- {kind.name}: {kind.durability}")
    for line in problems:
        print(f"- {line}")
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    if options.svg:
        write_svg(options.svg, rows)


def compare(
    chosen: list[tuple[Kind, str]], jobs: list[Job], options: argparse.Namespace
) -> tuple[list[Figure], list[str]]:
    """Start and fill all servers, run the rounds, and stop them."""
    servers = []
    try:
        for kind, binary in chosen:
            root = options.root / kind.name
            shutil.rmtree(root, ignore_errors=True)
            extra = ("--workers", str(options.workers)) if options.workers and kind.name == "rs3d" else ()
            servers.append(Server(kind, binary, root, extra))
        # All of them run before the first is filled: what cannot start is to be known at once.
        for server in servers:
            _tell(f"{server.kind.name}: {server.kind.durability}; filling …")
            try:
                populate(server.target, jobs, options.list_objects)
            except WrongAnswer as problem:
                sys.exit(f"{server.kind.name}: {problem}")
        return run_rounds(servers, jobs, options.rounds)
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
