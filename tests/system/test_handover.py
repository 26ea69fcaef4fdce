"""Connections change the worker while clients use them, and workers die meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rs3d.http.handover import HABIT, LARGE_BODY_BYTES
from rs3d.stores.check import assert_files_reachable
from rs3d.testing import MiniProcess
from tests.s3.wire.client import Answer, Caller, Connection
from tests.system.races import caller_of, requests_by_worker, send
from tests.system.waiting import wait_until

CONNECTIONS = 9


class Clients:
    """Some connections of the root user's, each with keys of its own."""

    def __init__(self, server: MiniProcess, stack: ExitStack) -> None:
        self._server = server
        self._caller: Caller = caller_of(server)
        self._stack = stack
        self.open: list[Connection] = []

    def connect(self) -> None:
        """One after the other, so that the workers share them."""
        while len(self.open) < CONNECTIONS:
            self.open.append(self._stack.enter_context(Connection(self._caller.address)))
            self._send(len(self.open) - 1, "HEAD", b"")

    def put(self, times: int) -> None:
        for body in [b"%d" % number for number in range(times)]:
            assert {self._send(number, "PUT", body).status for number in range(CONNECTIONS)} == {200}
            self.last = body

    def put_large(self) -> None:
        self.last = bytes(LARGE_BODY_BYTES)
        assert {self._send(number, "PUT", self.last).status for number in range(CONNECTIONS)} == {200}

    def get(self, times: int) -> None:
        for _ in range(times):
            assert {self._send(number, "GET", b"").body for number in range(CONNECTIONS)} == {self.last}

    def served(self, request: str, times: int) -> dict[str, int]:
        """Which worker has served how many of these."""
        before = requests_by_worker(self._server)
        getattr(self, request)(times)
        sums = dict[str, int]()

        def are_counted() -> bool:
            sums.update({name: count - before[name] for name, count in requests_by_worker(self._server).items()})
            return sum(sums.values()) >= CONNECTIONS * times

        wait_until(are_counted)
        return sums

    def _send(self, number: int, method: str, body: bytes) -> Answer:
        return send(self._caller, self.open[number], method, f"/handover/key-{number}", body)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MiniProcess]:
    with MiniProcess(tmp_path / "data", workers=2) as running:
        assert caller_of(running).put("/handover").status == 200
        yield running
    assert_files_reachable(str(running.directory))


def test_few_that_write_share_the_first_worker_and_are_spread_when_they_read(server: MiniProcess) -> None:
    with ExitStack() as stack:
        clients = Clients(server, stack)
        clients.connect()
        clients.put(HABIT)
        assert clients.served("put", 10) == {"worker-0": 10 * CONNECTIONS, "worker-1": 0}
        for _ in range(50):  # one at a time
            clients.get(HABIT)
            counts = clients.served("get", 10)
            if sorted(counts.values()) == [40, 50]:
                break
        else:
            pytest.fail(f"they are not shared: {counts}")


def test_one_large_body_is_habit_enough(server: MiniProcess) -> None:
    with ExitStack() as stack:
        clients = Clients(server, stack)
        clients.connect()
        clients.put_large()
        assert clients.served("get", 1) == {"worker-0": CONNECTIONS, "worker-1": 0}


def test_after_the_death_of_the_worker_that_had_them_they_gather_anew(server: MiniProcess) -> None:
    with ExitStack() as stack:
        clients = Clients(server, stack)
        clients.connect()
        clients.put(HABIT + 1)
        victim = server.children()["worker"]  # the first that was started
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: "worker-1" in (found := server.children()) and victim not in found.values())
        assert all(connection.is_at_its_end() for connection in clients.open)  # all of them were its
        clients.open.clear()
        clients.connect()
        clients.put(HABIT + 1)
        clients.get(HABIT)


def test_connections_that_were_handed_over_are_drained(server: MiniProcess) -> None:
    with ExitStack() as stack:
        clients = Clients(server, stack)
        clients.connect()
        clients.put(HABIT + 1)
        assert server.stop() == 0
        assert all(connection.is_at_its_end() for connection in clients.open)
