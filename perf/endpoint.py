"""The comparison's jobs against one endpoint that already runs: `python perf/endpoint.py --endpoint
http://127.0.0.1:9000 --json out.json`.

Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. With `--pid` the server's CPU per request is
counted too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

from jobs import Job, Target, chosen_jobs, populate
from loadclient import WrongAnswer
from processes import cpu_s, idle_shares, settled_cpu_s

from rs3d.access.signing import SigningIdentity


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", default="16")
    parser.add_argument("--jobs", default="", help="only jobs whose name contains one of these, comma separated")
    parser.add_argument("--list-objects", type=int, default=100_000)
    parser.add_argument("--pid", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    url = urlsplit(options.endpoint)
    identity = SigningIdentity(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    target = Target("server", url.hostname or "127.0.0.1", url.port or 80, identity)
    try:
        jobs = chosen_jobs(options.connections, options.jobs, options.seconds, options.list_objects)
    except ValueError as problem:
        parser.error(str(problem))
    try:
        found = measure(target, jobs, options.list_objects, options.pid)
    except WrongAnswer as problem:
        sys.exit(f"{options.endpoint}: {problem}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def measure(target: Target, jobs: list[Job], listed: int, pid: int) -> list[dict[str, str | float]]:
    """Each job once, told as it is done.

    Raises:
        WrongAnswer
    """
    populate(target, jobs, listed)
    idle = idle_shares([pid])[0] if pid else 0.0
    found = list[dict[str, str | float]]()
    for job in jobs:
        # The endpoint may hold what an earlier run of this wrote.
        work = job.prepare(target, f"{time.time_ns() // 1_000_000:x}")
        if pid:
            settled_cpu_s(pid, idle)
        before = cpu_s(pid) if pid else 0.0
        measured = job.run(target, work)
        cpu_us = (settled_cpu_s(pid, idle) - before) / measured.requests * 1e6 if pid else 0.0
        job.check(target, work, measured.requests)
        figure: dict[str, str | float] = {
            "job": job.name,
            "connections": job.connections,
            "requests_per_s": measured.requests / measured.elapsed_s,
            "mib_per_s": measured.body_bytes / measured.elapsed_s / 2**20,
            "p50_ms": measured.percentile_s(0.5) * 1e3,
            "p99_ms": measured.percentile_s(0.99) * 1e3,
            "cpu_us_per_request": cpu_us,
        }
        found.append(figure)
        print(
            f"{job.name:14} x{job.connections:<4} {figure['requests_per_s']:10,.0f}/s "
            f"{figure['mib_per_s']:9,.1f} MiB/s "
            f"p50 {figure['p50_ms']:8.2f} ms p99 {figure['p99_ms']:8.2f} ms  CPU {cpu_us:8,.0f} µs/request",
            flush=True,
        )
    return found


if __name__ == "__main__":
    main()
