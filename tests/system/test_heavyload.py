"""The short form of `python -m tests.system.heavyload`, and a server that is asked more than it will take on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from rs3d.testing import MiniProcess
from tests.s3.wire.client import Connection
from tests.system.crowd import Figures
from tests.system.heavyload import environment, kept_connections, listed, overload, small_objects
from tests.system.memory import LIMIT_BYTES, Watch
from tests.system.races import caller_of
from tests.system.waiting import wait_until


@pytest.fixture(scope="module")
def server(module_path: Path) -> Iterator[MiniProcess]:
    """Takes few requests at once and few connections."""
    few = {**environment(0), "RS3D_HTTP__REQUESTS_IN_FLIGHT": "4", "RS3D_HTTP__CONNECTIONS": "300"}
    with MiniProcess(module_path / "data", workers=1, environment=few) as running:
        assert caller_of(running).put("/load").status == 200
        yield running


def test_more_requests_than_a_server_works_on_are_told_to_slow_down_and_all_are_done(server: MiniProcess) -> None:
    with Watch(server) as watch:
        figures = trio.run(overload, caller_of(server), 40, 2.0)
    assert figures.answers["503 SlowDown"] > 0 and not figures.unwanted(), figures.text()
    assert min(figures.by_client[number] for number in range(40)) >= 2, "somebody was never served"
    assert listed(caller_of(server), "over/") == 40
    assert max(anonymous for anonymous, _ in watch.peaks.values()) < LIMIT_BYTES


def test_kept_connections_are_all_answered_and_small_objects_all_listed(server: MiniProcess) -> None:
    caller = caller_of(server)
    figures = trio.run(kept_connections, caller, 250, 0.5)
    assert not figures.unwanted() and len(figures.by_client) == 250, figures.text()
    figures, done = trio.run(small_objects, caller, 16, 200, 60.0)
    assert done == 200 == listed(caller, "small/") and not figures.unwanted(), figures.text()


def test_a_connection_too_many_is_told_so_and_others_go_on(server: MiniProcess) -> None:
    caller = caller_of(server)
    held = [socket.create_connection(caller.address, timeout=60) for _ in range(300)]
    try:

        def refused() -> bool:
            with Connection(caller.address) as connection:
                connection.send_request("GET", "/", caller.headers("GET", "/"))
                answer = connection.receive("GET")
                return (answer.status, answer.code) == (503, "SlowDown")

        wait_until(refused)
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: caller.get("/").status == 200)


def test_figures_count_what_was_neither_done_nor_slowed_down() -> None:
    figures = Figures()
    for answer in ("200", "503 SlowDown", "500 InternalError"):
        figures.note(1, answer, 0.5)
    assert figures.unwanted() == {"500 InternalError": 1} and figures.by_client[1] == 2
