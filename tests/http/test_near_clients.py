"""The send buffer of clients that are near, and of others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rs3d.http import transport as transport_module
from rs3d.http.transport import NEAR_ROUND_TRIP_US, NEAR_SEND_BYTES, SocketTransport, round_trip_us

LIMIT_BYTES = int(Path("/proc/sys/net/core/wmem_max").read_text())
"""Of what may be asked for; the kernel doubles it."""


@pytest.fixture
def accepted() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        taken, _ = listener.accept()
        with taken:
            yield taken


def send_bytes(connected: socket.socket) -> int:
    return connected.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


@pytest.mark.parametrize("round_trip", [0, NEAR_ROUND_TRIP_US])
async def test_a_near_client_has_a_send_buffer_of_its_own(
    accepted: socket.socket, monkeypatch: pytest.MonkeyPatch, round_trip: int
) -> None:
    monkeypatch.setattr(transport_module, "round_trip_us", lambda _connected: round_trip)
    await SocketTransport(accepted, "peer", "local").open()
    assert send_bytes(accepted) == 2 * min(NEAR_SEND_BYTES, LIMIT_BYTES)


async def test_the_kernel_chooses_for_a_client_that_is_further_away(
    accepted: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = send_bytes(accepted)
    monkeypatch.setattr(transport_module, "round_trip_us", lambda _connected: NEAR_ROUND_TRIP_US + 1)
    await SocketTransport(accepted, "peer", "local").open()
    assert send_bytes(accepted) == before


def test_the_round_trip_is_the_shortest_that_the_kernel_knows(accepted: socket.socket) -> None:
    smoothed_us = int.from_bytes(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)[68:72], "little")
    # One sample, the handshake's: it is both the shortest and the mean, which is kept in eighths.
    assert 0 <= round_trip_us(accepted) <= smoothed_us + 1


def test_a_socket_that_was_closed_has_no_round_trip(accepted: socket.socket) -> None:
    with closing(socket.socket(fileno=accepted.detach())) as taken:
        taken.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            round_trip_us(taken)
