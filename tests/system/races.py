"""Races for one key across workers, driven over connections of their own: `python -m tests.system.races --increments
1000 --clients 16`."""

from __future__ import annotations

import argparse
import re
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from rs3d.access.signing import SigningIdentity
from rs3d.testing import MiniProcess
from tests.s3.wire.client import Answer, Caller, Connection

_SERVED = re.compile(r'^rs3d_process_requests_total\{process="(worker-\d+)"\} (\d+)$', re.MULTILINE)


def caller_of(server: MiniProcess) -> Caller:
    """Requests with the root key."""
    host, _, port = server.endpoint.removeprefix("http://").rpartition(":")
    return Caller((host, int(port)), SigningIdentity(server.access_key, server.secret_key))


def requests_by_worker(server: MiniProcess) -> dict[str, int]:
    """How many requests each worker has served, by its own counter."""
    with urllib.request.urlopen(server.ops + "/metrics", timeout=30) as answer:
        return {name: int(count) for name, count in _SERVED.findall(answer.read().decode())}


def send(
    caller: Caller, connection: Connection, method: str, target: str, body: bytes, *headers: tuple[str, str]
) -> Answer:
    """One request on a connection that is kept."""
    ready = caller.headers(method, target, headers, body)
    length = [("content-length", str(len(body)))] if method == "PUT" else []
    connection.send_request(method, target, [*ready, *length], body)
    return connection.receive(method)


def race_to_create(caller: Caller, target: str, bodies: list[bytes]) -> list[int]:
    """Everybody creates the same key at once, each with a body of its own. Returns the statuses in their order."""
    barrier = threading.Barrier(len(bodies))
    with ExitStack() as stack:
        connections = []
        for _ in bodies:
            # Accepted and counted one by one, so that the workers share them, before the race begins.
            connections.append(stack.enter_context(Connection(caller.address)))
            send(caller, connections[-1], "HEAD", target, b"")

        def run(number: int) -> int:
            barrier.wait()
            condition = ("if-none-match", "*")
            return send(caller, connections[number], "PUT", target, bodies[number], condition).status

        with ThreadPoolExecutor(len(bodies)) as pool:
            return list(pool.map(run, range(len(bodies))))


@dataclass(frozen=True)
class Chain:
    """What came of increments by compare-and-swap."""

    final: int
    succeeded: int
    refused: int


def increment(caller: Caller, target: str, *, clients: int, increments: int) -> Chain:
    """Clients add one to a number under If-Match until `increments` have been made, whoever made them."""
    if caller.put(target, b"0").status != 200:
        raise AssertionError("the counter could not be made")
    lock = threading.Lock()
    left = increments
    refused = 0

    def run(_: int) -> int:
        nonlocal left, refused
        made = 0
        with Connection(caller.address) as connection:
            while True:
                with lock:
                    if left == 0:
                        return made
                    left -= 1
                while True:
                    read = send(caller, connection, "GET", target, b"")
                    condition = ("if-match", read.headers["etag"])
                    body = str(int(read.body) + 1).encode()
                    status = send(caller, connection, "PUT", target, body, condition).status
                    if status == 200:
                        made += 1
                        break
                    if status not in (409, 412):
                        raise AssertionError(f"an increment was answered {status}")
                    with lock:
                        refused += 1

    with ThreadPoolExecutor(clients) as pool:
        succeeded = sum(pool.map(run, range(clients)))
    return Chain(int(caller.get(target).body), succeeded, refused)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--increments", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    with MiniProcess(workers=2) as server:
        caller = caller_of(server)
        caller.put("/races")
        started_s = time.monotonic()
        chain = increment(caller, "/races/counter", clients=arguments.clients, increments=arguments.increments)
        print(
            f"{chain.succeeded} increments by {arguments.clients} clients, {chain.refused} refused, "
            f"final {chain.final}, {time.monotonic() - started_s:.1f} s; served by {requests_by_worker(server)}"
        )
    return 0 if chain.final == chain.succeeded == arguments.increments else 1


if __name__ == "__main__":
    sys.exit(main())
