"""GET and PUT of compressible bodies with each layer on, as a ratio to plain in the same run, beside MinIO:

    python perf/layers.py --root DIR --rs3d rs3d [--minio BINARY]

1 MiB of words of hexadecimal, 8 connections. rs3d has a bucket for each row; MinIO's compression is a server's
setting, so it runs twice. Rows are interleaved, the median of the rounds counts. CPU is that of all processes of a
server until its background work has drained.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from jobs import MIB
from loadclient import Prepared, repeated, run
from processes import memory_bytes, settled_cpu_s
from servers import KINDS, Kind, Server

CONNECTIONS = 8
OBJECTS = 48
WARM_UP_S = 1.0
SSE = ((b"x-amz-server-side-encryption", b"AES256"),)
RS3D_ROWS = {
    "plain": ("", False),
    "SSE-S3": ("", True),
    "lz4": ("compression=lz4", False),
    "zstd:1": ("compression=zstd:1", False),
    "lz4 + SSE-S3": ("compression=lz4", True),
    "parity 4+2": ("parity=4+2", False),
}
MINIO_COMPRESSION = {
    "MINIO_COMPRESSION_ENABLE": "on",
    "MINIO_COMPRESSION_ALLOW_ENCRYPTION": "on",
    "MINIO_COMPRESSION_EXTENSIONS": "",
    "MINIO_COMPRESSION_MIME_TYPES": "",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A bucket with a layer on, on one server."""

    name: str
    server: Server
    bucket: str
    extra: tuple[tuple[bytes, bytes], ...]


def words(size_bytes: int) -> bytes:
    """Compressible text, the same for every server."""
    chance = random.Random(7)
    vocabulary = [b"%08x " % chance.getrandbits(32) for _ in range(4_000)]
    return b"".join(chance.choice(vocabulary) for _ in range(size_bytes // 9 + 1))[:size_bytes]


def puts(row: Row, body: bytes, prefix: str) -> list[Prepared]:
    """Signed requests that make the row's objects."""
    target = row.server.target
    paths = [f"/{row.bucket}/{prefix}{number:03}" for number in range(OBJECTS)]
    return [target.prepare("PUT", path, body, extra=row.extra) for path in paths]


def measure(row: Row, requests: Iterator[Prepared], seconds: float, most: int) -> tuple[float, float]:
    """Requests a second, and µs of the server's CPU a request."""
    before = settled_cpu_s(row.server.pid)
    done = run(row.server.target.endpoint, requests, connections=CONNECTIONS, seconds=seconds, most=most)
    cpu = settled_cpu_s(row.server.pid) - before
    return done.requests / done.elapsed_s, cpu / max(1, done.requests) * 1e6


def rs3d_rows(binary: str, server: Server) -> list[Row]:
    """Its buckets, made by the command an operator would use."""
    rows = []
    for number, (name, (settings, is_sealed)) in enumerate(RS3D_ROWS.items()):
        bucket = f"layer{number}"
        command = [binary, "bucket", "create", bucket, *settings.split(), "--data", str(server.root / "data")]
        subprocess.run(command, check=True, capture_output=True)
        rows.append(Row(f"rs3d {name}", server, bucket, SSE if is_sealed else ()))
    return rows


def minio_rows(server: Server, *, compresses: bool) -> list[Row]:
    """Two buckets: without and with SSE-S3."""
    rows = []
    for bucket, extra in (("clear", ()), ("sealed", SSE)):
        made = server.target.prepare("PUT", f"/{bucket}")
        run(server.target.endpoint, iter([made]), connections=1, seconds=30, most=1)
        name = ("compression" if compresses else "plain") + (" + SSE-S3" if extra else "")
        rows.append(Row(f"minio {name}", server, bucket, extra))
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="a folder on a journaled ext4 or XFS; emptied")
    parser.add_argument("--rs3d", required=True, metavar="BINARY")
    parser.add_argument("--minio", default="", metavar="BINARY")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    body = words(MIB)
    servers: list[Server] = []
    try:
        servers.append(_start(KINDS["rs3d"], options.rs3d, options.root / "rs3d"))
        rows = rs3d_rows(options.rs3d, servers[0])
        if options.minio:
            key = base64.b64encode(hashlib.sha256(b"perf").digest()).decode()
            plain = replace(
                KINDS["minio"], environment={**KINDS["minio"].environment, "MINIO_KMS_SECRET_KEY": f"k:{key}"}
            )
            pressed = replace(plain, environment={**plain.environment, **MINIO_COMPRESSION})
            servers.append(_start(plain, options.minio, options.root / "minio"))
            rows += minio_rows(servers[-1], compresses=False)
            servers.append(_start(pressed, options.minio, options.root / "minio-compression"))
            rows += minio_rows(servers[-1], compresses=True)
        print(_table(rows, body, options.rounds, options.seconds))
        for server in servers:
            print(f"- memory of {server.root.name}: {memory_bytes(server.pid) / 2**20:,.0f} MiB")
    finally:
        for server in servers:
            server.stop()


def _start(kind: Kind, binary: str, root: Path) -> Server:
    shutil.rmtree(root, ignore_errors=True)
    return Server(kind, binary, root)


def _table(rows: list[Row], body: bytes, rounds: int, seconds: float) -> str:
    sha256 = hashlib.sha256(body).hexdigest()
    figures: dict[str, list[tuple[float, float, float, float]]] = {row.name: [] for row in rows}
    for row in rows:
        endpoint = row.server.target.endpoint
        run(endpoint, iter(puts(row, body, "get")), connections=2, seconds=300, most=OBJECTS)
        checked = [row.server.target.prepare("GET", f"/{row.bucket}/get{n:03}", sha256=sha256) for n in range(OBJECTS)]
        run(endpoint, iter(checked), connections=2, seconds=300, most=OBJECTS)
    for number in range(rounds):
        for row in rows:
            gets = [row.server.target.prepare("GET", f"/{row.bucket}/get{n:03}") for n in range(OBJECTS)]
            # A row is come back to after a minute, and GETs are to be warm, plain ones as well as all others.
            run(row.server.target.endpoint, repeated(gets), connections=CONNECTIONS, seconds=WARM_UP_S, most=1_000_000)
            get = measure(row, repeated(gets), seconds, 1_000_000)
            put = measure(row, repeated(puts(row, body, f"put{number}/")), seconds, 400)
            figures[row.name].append((*get, *put))
    lines = ["| | GET/s | ratio | GET µs CPU | ratio | PUT/s | ratio | PUT µs CPU | ratio |", "|" + "---|" * 9]
    middle = {
        name: [statistics.median(column) for column in zip(*found, strict=True)] for name, found in figures.items()
    }
    for name, (get, get_cpu, put, put_cpu) in middle.items():
        plain = middle[f"{name.partition(' ')[0]} plain"]
        lines.append(
            f"| {name} | {get:,.0f} | {get / plain[0]:.2f} | {get_cpu:,.0f} | {get_cpu / plain[1]:.2f} "
            f"| {put:,.0f} | {put / plain[2]:.2f} | {put_cpu:,.0f} | {put_cpu / plain[3]:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
