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
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

from jobs import Target, populate, populate_list, standard_jobs
from processes import settled_cpu_s

from rs3d.access.signing import SigningIdentity


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", default="16")
    parser.add_argument("--jobs", default="", help="only jobs whose name contains one of these, comma separated")
    parser.add_argument("--list-objects", type=int, default=10_000)
    parser.add_argument("--pid", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    url = urlsplit(options.endpoint)
    identity = SigningIdentity(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    target = Target("server", url.hostname or "127.0.0.1", url.port or 80, identity)
    wanted = [text for text in options.jobs.split(",") if text]
    jobs = [
        job.lasting(options.seconds)
        for job in standard_jobs(tuple(int(n) for n in options.connections.split(",")))
        if not wanted or any(text in job.name for text in wanted)
    ]
    populate(target)
    if any("LIST" in job.name for job in jobs):
        populate_list(target, options.list_objects)
    found = []
    for job in jobs:
        prepared = job.prepare(target, 0)
        before = settled_cpu_s(options.pid) if options.pid else 0.0
        measured = job.run(target, prepared)
        cpu_us = (settled_cpu_s(options.pid) - before) / measured.requests * 1e6 if options.pid else 0.0
        figure = {
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
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
