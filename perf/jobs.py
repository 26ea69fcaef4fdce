"""The jobs of the comparison: what is sent, and what has to be there before.

Requests are signed with UNSIGNED-PAYLOAD in the Authorization header where a body is sent: it is what the large SDKs
do over TLS, and it measures the server's own hashing (ETag), not the client's.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from loadclient import Measurement, Prepared, repeated, run

from rs3d.access.signing import SigningIdentity, sign_request

KIB = 1024
MIB = 1024 * KIB
BUCKET = "perf"
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True)
class Target:
    """A server under test."""

    name: str
    host: str
    port: int
    identity: SigningIdentity

    @property
    def endpoint(self) -> tuple[str, int]:
        return self.host, self.port

    def prepare(
        self,
        method: str,
        target: str,
        body: bytes | memoryview = b"",
        *,
        status: int = 200,
        sha256: str = "",
        extra: Sequence[tuple[bytes, bytes]] = (),
    ) -> Prepared:
        """One signed request, with `extra` headers."""
        headers = [(b"host", f"{self.host}:{self.port}".encode()), (b"content-length", b"%d" % len(body)), *extra]
        signed = sign_request(
            self.identity, method, target.encode(), headers, payload_hash=UNSIGNED, now_ns=time.time_ns()
        )
        lines = [f"{method} {target} HTTP/1.1".encode()]
        names = {name for name, _ in signed.headers}
        lines += [b"%s: %s" % (name, value) for name, value in signed.headers]
        lines += [b"%s: %s" % (name, value) for name, value in headers if name not in names]
        return Prepared(b"\r\n".join(lines) + b"\r\n\r\n", body, status, sha256, method == "HEAD")


def body_of(size_bytes: int, seed: int) -> bytes:
    """Incompressible bytes, the same for every server."""
    return random.Random(seed).randbytes(size_bytes)


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the comparison. `make` gives the requests; `most` bounds them."""

    name: str
    connections: int
    make: Callable[[Target, int], Iterator[Prepared]]
    most: int = 1_000_000
    seconds: float = 5.0
    prepares_on_server: bool = False
    """Whether `make` itself sends requests (objects to delete)."""

    def lasting(self, seconds: float) -> Job:
        """The same job with another bound in time."""
        return replace(self, seconds=seconds)

    def prepare(self, target: Target, round_number: int) -> Iterator[Prepared]:
        """Sign the requests of one round."""
        return self.make(target, round_number)

    def run(self, target: Target, prepared: Iterator[Prepared]) -> Measurement:
        """Measure once."""
        return run(target.endpoint, prepared, connections=self.connections, seconds=self.seconds, most=self.most)


def _make_prefix(target: Target, prefix: str) -> None:
    """One object alone: rclone answers 500 to the loser of a race to make a prefix's directory."""
    run(target.endpoint, iter([target.prepare("PUT", f"{prefix}/first", b"")]), connections=1, seconds=60, most=1)


def _puts(size_bytes: int, count: int) -> Callable[[Target, int], Iterator[Prepared]]:
    def make(target: Target, round_number: int) -> Iterator[Prepared]:
        body = body_of(size_bytes, 1)
        prefix = f"/{BUCKET}/put{size_bytes}/{round_number}"
        _make_prefix(target, prefix)
        return iter([target.prepare("PUT", f"{prefix}/{i:07}", body) for i in range(count)])

    return make


def _deletes(count: int) -> Callable[[Target, int], Iterator[Prepared]]:
    def make(target: Target, round_number: int) -> Iterator[Prepared]:
        body = body_of(4 * KIB, 1)
        prefix = f"/{BUCKET}/delete/{round_number}"
        _make_prefix(target, prefix)
        puts = [target.prepare("PUT", f"{prefix}/{i:07}", body) for i in range(count)]
        run(target.endpoint, iter(puts), connections=16, seconds=600, most=count)
        return iter([target.prepare("DELETE", f"{prefix}/{i:07}", status=204) for i in range(count)])

    return make


def _gets(size_bytes: int, count: int, method: str = "GET") -> Callable[[Target, int], Iterator[Prepared]]:
    def make(target: Target, _round: int) -> Iterator[Prepared]:
        body = body_of(size_bytes, 1)
        # Hashing in the client costs as much as the server takes; small bodies are checked whole, large ones by length
        # here and by hash in `check`.
        sha256 = hashlib.sha256(body).hexdigest() if method == "GET" and size_bytes <= 64 * KIB else ""
        keys = [f"/{BUCKET}/get{size_bytes}/{i:05}" for i in range(count)]
        return repeated([target.prepare(method, key, sha256=sha256) for key in keys])

    return make


def _lists(target: Target, _round: int) -> Iterator[Prepared]:
    starts = range(0, 100_000, 9_973)
    return repeated(
        [
            target.prepare("GET", f"/{BUCKET}list?list-type=2&max-keys=1000&start-after=k%2F{start:07}")
            for start in starts
        ]
    )


def _mixed(target: Target, round_number: int) -> Iterator[Prepared]:
    body = body_of(4 * KIB, 1)
    sha256 = hashlib.sha256(body).hexdigest()
    dice = random.Random(round_number)
    _make_prefix(target, f"/{BUCKET}/mixed/{round_number}")
    prepared = []
    for i in range(20_000):
        pick = dice.random()
        key = f"/{BUCKET}/get{4 * KIB}/{dice.randrange(1_000):05}"
        if pick < 0.6:
            prepared.append(target.prepare("GET", key, sha256=sha256))
        elif pick < 0.8:
            prepared.append(target.prepare("HEAD", key))
        else:
            prepared.append(target.prepare("PUT", f"/{BUCKET}/mixed/{round_number}/{i:06}", body))
    return iter(prepared)


def standard_jobs(connections: tuple[int, ...] = (1, 16, 256)) -> list[Job]:
    """Every job at each number of connections that suits it."""
    jobs: list[Job] = []
    for n in connections:
        jobs += [
            Job("GET 4 KiB", n, _gets(4 * KIB, 1_000)),
            Job("HEAD", n, _gets(4 * KIB, 1_000, "HEAD")),
            Job("PUT 4 KiB", n, _puts(4 * KIB, 20_000), prepares_on_server=True),
            Job("DELETE 4 KiB", n, _deletes(5_000), prepares_on_server=True),
            Job("LIST 1,000", n, _lists),
            Job("GET 1 MiB", n, _gets(MIB, 100)),
            Job("PUT 1 MiB", n, _puts(MIB, 1_500), prepares_on_server=True),
            Job("mixed", n, _mixed, prepares_on_server=True),
        ]
        if n in (1, 16):
            large = 1 if n == 1 else 4
            jobs += [
                Job("GET 64 MiB", large, _gets(64 * MIB, 4)),
                Job("PUT 16 MiB", large, _puts(16 * MIB, 120), prepares_on_server=True),
            ]
    return jobs


def populate(target: Target) -> None:
    """Buckets and objects that the reading jobs need, checked by hash once."""
    for bucket in (BUCKET, f"{BUCKET}list"):
        run(target.endpoint, iter([target.prepare("PUT", f"/{bucket}")]), connections=1, seconds=30, most=1)
    for size_bytes, count in ((4 * KIB, 1_000), (MIB, 100), (64 * MIB, 4)):
        body = body_of(size_bytes, 1)
        puts = [target.prepare("PUT", f"/{BUCKET}/get{size_bytes}/{i:05}", body) for i in range(count)]
        # One alone first: rclone answers 500 to the loser of a race to make a prefix's directory.
        run(target.endpoint, iter(puts[:1]), connections=1, seconds=60, most=1)
        run(target.endpoint, iter(puts[1:]), connections=4, seconds=900, most=count)
        sha256 = hashlib.sha256(body).hexdigest()
        gets = [target.prepare("GET", f"/{BUCKET}/get{size_bytes}/{i:05}", sha256=sha256) for i in range(count)]
        run(target.endpoint, iter(gets), connections=4, seconds=900, most=count)


def populate_list(target: Target, count: int = 100_000) -> None:
    """The bucket that LIST walks: `count` empty objects."""
    puts = (target.prepare("PUT", f"/{BUCKET}list/k/{i:07}") for i in range(count))
    run(target.endpoint, itertools.islice(puts, 1), connections=1, seconds=60, most=1)  # see `_make_prefix`
    run(target.endpoint, puts, connections=16, seconds=3_600, most=count)
