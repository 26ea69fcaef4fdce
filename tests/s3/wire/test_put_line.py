"""More bodies at once than threads receive: they wait in line, and no client that stalls keeps the others waiting."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rs3d.engine.putline import PutLine, Waiting
from rs3d.http.limits import HttpLimits
from tests.s3.wire.client import Caller, Connection
from tests.s3.wire.server import Setup, WireServer
from tests.s3.wire.test_plain_large_writes import put_head
from tests.system.waiting import wait_until

BODY = random.Random(2).randbytes(200_000)
SENT_BYTES = 90_000
"""Of a body that stalls."""

STALLED = 32
CONNECTIONS = 256


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WireServer]:
    with WireServer(tmp_path / "store", Setup(limits=HttpLimits(stall_timeout_s=2.0))) as made:
        yield made


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each body that came to the line, whether it waited there."""
    seen: list[bool] = []
    join = PutLine.join

    def watched(line: PutLine, waiting: Waiting) -> bool:
        seen.append(join(line, waiting))
        return seen[-1]

    monkeypatch.setattr(PutLine, "join", watched)
    return seen


@pytest.fixture
def root(server: WireServer) -> Caller:
    caller = Caller(server.address, server.root)
    assert caller.put("/bucket").status == 200
    assert caller.put("/bucket/opener", BODY).status == 200  # a segment for blobs is open
    return caller


def test_clients_that_stall_keep_no_others_waiting_and_are_given_up_in_time(root: Caller, joined: list[bool]) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(root.address)) for _ in range(CONNECTIONS)]
        stalled, others = connections[:STALLED], connections[STALLED:]
        for number, connection in enumerate(stalled):
            connection.send(put_head(root, f"/bucket/stalled{number}", BODY) + BODY[:SENT_BYTES])
        for number, connection in enumerate(others):
            connection.send(put_head(root, f"/bucket/other{number}", BODY) + BODY)
        stalled[0].send(BODY[SENT_BYTES:])  # it goes on, where it was left
        assert {connection.receive("PUT").status for connection in (*others, stalled[0])} == {200}
        answers = [connection.receive("PUT") for connection in stalled[1:]]
        assert {(answer.status, answer.code) for answer in answers} == {(400, "RequestTimeout")}
    assert len(joined) > 100 and all(joined)
    for name in ("stalled0", "other0", f"other{len(others) - 1}"):
        assert root.get(f"/bucket/{name}").body == BODY
    assert root.get("/bucket/stalled1").status == 404


def test_clients_that_leave_while_they_wait_hold_nothing(server: WireServer, root: Caller, joined: list[bool]) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(Connection(root.address)) for _ in range(40)]
        for number, connection in enumerate(held):
            connection.send(put_head(root, f"/bucket/left{number}", BODY) + BODY[:SENT_BYTES])
    assert root.put("/bucket/after", BODY).status == 200
    runtime = server.running.engine._runtime
    wait_until(lambda: server.call(lambda: not len(runtime.put_line) and not runtime.buffers.leased))
    assert root.get("/bucket?list-type=2").texts("Contents/Key") == ["after", "opener"]
