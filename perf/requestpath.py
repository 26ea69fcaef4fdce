"""CPU of the S3 request path in one process, without sockets: signature, routing, authorization, engine, headers.

    python perf/requestpath.py --store DIR [--jobs GET,HEAD,PUT,LIST] [--profile]

Each job is a loop over signed requests that are handed to the S3 application as the HTTP server would hand them. The
process's own CPU time (`time.process_time`, all threads) is taken over short rounds; the least is printed beside the
median, because whoever shares the machine can only add to it. Two versions of the code are compared by running this
on both, one after the other, several times.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio

from rs3d.access.signing import SigningIdentity, sign_request
from rs3d.clock import SystemClock
from rs3d.engine import StorageEngine
from rs3d.engine.requests import KeyRequest, UserRequest
from rs3d.http.messages import Bytes, Head, Request, Scheme
from rs3d.http.wire import ConnectionField, HeadWriter
from rs3d.s3.application import Application, build_application
from rs3d.s3.configuration import S3Config
from rs3d.types.identities import UserRole

_ACCESS_KEY: Final = "PERFKEY1"
_SECRET: Final = "perfsecretperfsecret"
_KEYS: Final = 200
_LISTED: Final = 1000


class _Body:
    """A body that arrived with its head."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.declared_bytes = len(data)
        self.direct = None

    def whole(self) -> memoryview:
        return memoryview(self._data)

    async def receive_into(self, buffer: memoryview) -> int:
        return 0


def _request(method: str, target: str, body: bytes = b"") -> Request:
    headers = [
        (b"host", b"127.0.0.1:9000"),
        (b"content-length", b"%d" % len(body)),
        (b"user-agent", b"Boto3/1.44 md/Botocore#1.44 ua/2.1 os/linux"),
        (b"accept-encoding", b"identity"),
    ]
    raw = target.encode("ascii")
    signed = sign_request(
        SigningIdentity(_ACCESS_KEY, _SECRET),
        method,
        raw,
        headers,
        payload_hash="UNSIGNED-PAYLOAD",
        now_ns=time.time_ns(),
    )
    names = {name for name, _ in signed.headers}
    complete = (*signed.headers, *(field for field in headers if field[0] not in names))
    head = Head(method, raw, (1, 1), complete)
    return Request(head, _Body(body), "127.0.0.1:1", "127.0.0.1:9000", Scheme.HTTP, "0123456789ABCDEF", 0)


def _requests(job: str) -> list[Request]:
    if job == "PUT":
        return [_request("PUT", f"/perf/put/{number}", b"x" * 4096) for number in range(_KEYS)]
    if job == "LIST":
        return [_request("GET", f"/perf?list-type=2&max-keys={_LISTED}&prefix=list%2F")]
    return [_request(job, f"/perf/k{number}") for number in range(_KEYS)]


async def _round(application: Application, writer: HeadWriter, requests: list[Request], count: int) -> float:
    """CPU seconds a request."""
    began = time.process_time()
    for request in _cycled(requests, count):
        old = request.head
        # A head of its own for each request, as from the wire: it caches what it was asked.
        request.head = Head(old.method, old.target, old.version, old.headers)
        response = await application(request)
        if response.status != 200:
            raise ValueError(f"{old.method} {old.target!r} was answered {response.status}")
        length = len(response.body.data) if isinstance(response.body, Bytes) else 0
        writer.write(response.status, response.headers, length, ConnectionField.ABSENT)
        if response.on_sent is not None:
            raise ValueError("the bodies of these jobs are in memory")
    return (time.process_time() - began) / count


def _cycled(requests: list[Request], count: int) -> Iterator[Request]:
    for number in range(count):
        yield requests[number % len(requests)]


async def _prepare(engine: StorageEngine) -> None:
    await engine.create_user(UserRequest(name="root", display_name="root", role=UserRole.ROOT))
    await engine.create_key(KeyRequest(user="root", access_key=_ACCESS_KEY, secret=_SECRET))
    await engine.create_bucket("perf")

    async def put(names: list[str]) -> None:
        for name in names:
            await engine.put_object("perf", name, b"x" * 4096)

    names = [f"k{number}" for number in range(_KEYS)] + [f"list/{number:06}" for number in range(_LISTED)]
    async with trio.open_nursery() as nursery:
        for first in range(16):
            nursery.start_soon(put, names[first::16])


async def _run(store: Path, jobs: list[str], rounds: int, *, profile: bool) -> None:
    clock = SystemClock()
    async with StorageEngine.open(store) as engine:
        await _prepare(engine)
        application = build_application(engine=engine, config=S3Config(), clock=clock)
        writer = HeadWriter(clock)
        for job in jobs:
            requests = _requests(job)
            count = {"LIST": 20, "PUT": 100}.get(job, 400)
            taken = [await _round(application, writer, requests, count) * 1e6 for _ in range(rounds)]
            print(f"{job:5} least {min(taken):8.1f} µs   median {statistics.median(taken):8.1f} µs", flush=True)
            if profile:
                profiler = cProfile.Profile()
                profiler.enable()
                await _round(application, writer, requests, count * 4)
                profiler.disable()
                pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="a directory that is removed and made anew")
    parser.add_argument("--jobs", default="GET,HEAD,PUT,LIST")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--profile", action="store_true", help="print where the time goes, by function")
    options = parser.parse_args()
    shutil.rmtree(options.store, ignore_errors=True)
    trio.run(lambda: _run(options.store, options.jobs.split(","), options.rounds, profile=options.profile))


if __name__ == "__main__":
    main()
