"""Bodies of many MiB by the wire: byte for byte, whole and in part, deleted meanwhile, damaged far behind."""

from __future__ import annotations

import http.client
import random
from pathlib import Path

import pytest

from tests.s3.wire.client import Caller, Connection
from tests.s3.wire.conftest import make_bucket
from tests.s3.wire.server import WireServer

MIB = 1 << 20
BODY = random.Random(3).randbytes(64 * MIB + 7)


def test_a_large_body_is_the_same_cold_warm_in_part_and_deleted_meanwhile(root: Caller, bucket: str) -> None:
    target = f"/{bucket}/large"
    assert root.put(target, BODY).status == 200
    for _ in range(2):
        assert root.get(target).body == BODY
    for first, last in ((1, 40 * MIB), (5 * MIB + 3, 5 * MIB + 3), (17 * MIB - 1, len(BODY) - 1)):
        assert root.get(target, ("range", f"bytes={first}-{last}")).body == BODY[first : last + 1]
    with Connection(root.address) as connection:
        connection.send_request("GET", target, root.headers("GET", target))
        response = http.client.HTTPResponse(connection.socket)
        response.begin()
        begun = response.read(MIB)
        assert root.delete(target).status == 204
        assert root.get(target).status == 404
        assert begun + response.read() == BODY


def test_damage_that_is_met_far_behind_cuts_the_body_there(tmp_path: Path) -> None:
    with WireServer(tmp_path / "store") as wire:
        root = Caller(wire.address, wire.root)
        target = f"/{make_bucket(root)}/k"
        root.put(target, BODY[: 20 * MIB])
        (path,) = (tmp_path / "store").rglob("*.data")
        with path.open("r+b") as file:
            file.seek(15 * MIB + 5)
            file.write(bytes([BODY[15 * MIB + 5] ^ 1]))
            file.flush()
            for _ in range(2):
                with Connection(root.address) as connection:
                    connection.send_request("GET", target, root.headers("GET", target))
                    response = http.client.HTTPResponse(connection.socket)
                    response.begin()
                    received = bytearray()
                    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
                        while piece := response.read(MIB):
                            received += piece
                assert response.status == 200
                assert received == BODY[: len(received)]
                assert len(received) <= 15 * MIB
            file.seek(15 * MIB + 5)
            file.write(BODY[15 * MIB + 5 : 15 * MIB + 6])
        assert root.get(target).body == BODY[: 20 * MIB]
