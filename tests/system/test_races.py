"""Compare-and-swap across workers, and readers that outlive what they read."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rs3d.stores.check import assert_files_reachable
from rs3d.testing import MiniProcess
from tests.s3.wire.client import Connection
from tests.system.races import caller_of, increment, race_to_create, requests_by_worker, send
from tests.system.waiting import wait_until

PART_BYTES = 64 * 1024
PARTS = 1000


@pytest.fixture(scope="module")
def server(module_path: Path) -> Iterator[MiniProcess]:
    directory = module_path / "data"
    environment = {"RS3D_ENGINE__MINIMUM_PART_BYTES": str(PART_BYTES)}
    with MiniProcess(directory, workers=2, environment=environment) as running:
        assert caller_of(running).put("/races").status == 200
        yield running
    assert_files_reachable(str(directory))


@pytest.mark.parametrize("size", [100, 100_000])
def test_d14_of_64_racers_to_create_a_key_exactly_one_wins(server: MiniProcess, size: int) -> None:
    caller = caller_of(server)
    target = f"/races/created-{size}"
    bodies = [f"{number:03}".encode() * (size // 3) for number in range(64)]
    before = requests_by_worker(server)
    statuses = race_to_create(caller, target, bodies)
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}
    assert caller.get(target).body == bodies[statuses.index(200)]

    def served() -> list[int]:
        return [count - before[name] for name, count in requests_by_worker(server).items()]

    wait_until(lambda: sum(served()) >= 2 * len(bodies))
    assert sum(count >= 2 for count in served()) >= 2, "one worker alone served the race"


def test_d14_a_chain_of_if_match_loses_no_increment(server: MiniProcess) -> None:
    chain = increment(caller_of(server), "/races/counter", clients=16, increments=100)
    assert (chain.final, chain.succeeded) == (100, 100)


def test_an_object_overwritten_during_a_slow_get_arrives_whole(server: MiniProcess) -> None:
    caller = caller_of(server)
    target = "/races/parts"
    content = random.Random(1).randbytes(PARTS * PART_BYTES)
    upload = caller.post(f"{target}?uploads").text("UploadId")

    def send_part(number: int) -> str:
        piece = content[(number - 1) * PART_BYTES : number * PART_BYTES]
        return caller.put(f"{target}?partNumber={number}&uploadId={upload}", piece).headers["etag"]

    with ThreadPoolExecutor(8) as pool:
        etags = list(pool.map(send_part, range(1, PARTS + 1)))
    lines = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in enumerate(etags, 1))
    body = f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()
    assert caller.post(f"{target}?uploadId={upload}", body).status == 200
    canary = put_canary(server)
    assert caller.delete("/races/canary").status == 204
    digest = hashlib.sha256()
    with Connection(caller.address) as connection:
        # Another worker may have deleted the canary: this one looks once, so that it knows of that before the GET.
        assert send(caller, connection, "HEAD", target, b"").status == 200
        connection.send_request("GET", target, caller.headers("GET", target))
        stream = connection.socket.makefile("rb")
        with stream:
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while stream.readline() != b"\r\n":
                pass
            digest.update(stream.read(PART_BYTES))
            assert caller.put(target, b"new").status == 200
            # Garbage is being unlinked meanwhile: what was dead before this GET began goes. A client that read nothing
            # at all would be cut off.
            left = len(content) - PART_BYTES

            def canary_is_gone() -> bool:
                nonlocal left
                piece = stream.read(min(left, PART_BYTES // 4))
                digest.update(piece)
                left -= len(piece)
                return not canary.exists()

            wait_until(canary_is_gone)
            digest.update(stream.read(left))
    assert digest.digest() == hashlib.sha256(content).digest()
    assert caller.get(target).body == b"new"
    wait_until(lambda: len(data_files(server)) < PARTS // 2)


def data_files(server: MiniProcess) -> set[Path]:
    return set((server.directory / "blobs").rglob("*.data"))


def put_canary(server: MiniProcess) -> Path:
    """An object in a file of its own; returns the file."""
    before = data_files(server)
    assert caller_of(server).put("/races/canary", b"c" * 200_000).status == 200
    (made,) = data_files(server) - before
    return made
