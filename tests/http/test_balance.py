"""Workers share connections evenly, and nobody depends on the numbers being right."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import trio

from rs3d.http.balance import SLOTS, ConnectionBoard, clear_slot, make_board
from rs3d.http.limits import HttpLimits
from rs3d.http.server import ServerControl, serve
from tests.http.harness import ignore


@pytest.fixture
def fd() -> Iterator[int]:
    made = make_board()
    yield made
    os.close(made)


def test_a_process_alone_is_never_ahead(fd: int) -> None:
    board = ConnectionBoard(fd, 3)
    assert not board.is_ahead(0)
    board.publish(5)
    assert not board.is_ahead(5)


def test_the_one_with_more_connections_is_ahead(fd: int) -> None:
    one, other = ConnectionBoard(fd, 0), ConnectionBoard(fd, SLOTS - 1)
    one.publish(0)
    other.publish(1)
    assert not one.is_ahead(0)
    assert other.is_ahead(1)
    one.publish(1)
    assert not other.is_ahead(1)


def test_a_small_difference_between_many_does_not_count(fd: int) -> None:
    one, other = ConnectionBoard(fd, 0), ConnectionBoard(fd, 1)
    one.publish(80)
    other.publish(90)
    assert not other.is_ahead(90)
    assert other.is_ahead(91)


def test_a_process_that_left_or_died_is_not_waited_for(fd: int) -> None:
    one, other = ConnectionBoard(fd, 0), ConnectionBoard(fd, 1)
    other.publish(7)
    one.publish(0)
    one.leave()
    assert not other.is_ahead(7)
    one.publish(0)
    assert other.is_ahead(7)
    clear_slot(fd, 0)
    assert not other.is_ahead(7)


@pytest.mark.parametrize("slot", [-1, SLOTS])
def test_there_are_only_so_many_slots(fd: int, slot: int) -> None:
    with pytest.raises(ValueError, match="slot"):
        ConnectionBoard(fd, slot)


async def test_two_servers_take_half_of_a_burst_each(fd: int, nursery: trio.Nursery) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    controls = [ServerControl(ConnectionBoard(fd, slot)) for slot in range(2)]
    streams = [await trio.open_tcp_stream(*listener.socket.getsockname()) for _ in range(16)]
    for control in controls:

        async def run(control: ServerControl = control) -> None:
            await serve([listener.socket], ignore, control=control)

        nursery.start_soon(run)
    for stream in streams:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    counts = [control.connection_count for control in controls]
    assert sum(counts) == 16
    assert abs(counts[0] - counts[1]) <= 2
    for stream in streams:
        await stream.aclose()
    for control in controls:
        await control.drain(1)
    await listener.aclose()


async def test_a_stale_number_delays_and_loses_nothing(fd: int, nursery: trio.Nursery) -> None:
    """As after a kill -9: the slot says that somebody with no connections is there to take the next one."""
    ConnectionBoard(fd, 0).publish(0)
    control = ServerControl(ConnectionBoard(fd, 1))
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def run() -> None:
        await serve([listener.socket], ignore, control=control, limits=HttpLimits(connections=100))

    nursery.start_soon(run)
    streams = [await trio.open_tcp_stream(*listener.socket.getsockname()) for _ in range(10)]
    for stream in streams:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        await stream.aclose()
    await control.drain(1)
    await listener.aclose()


async def test_a_drained_server_leaves_the_board(fd: int) -> None:
    watcher = ConnectionBoard(fd, 1)
    control = ServerControl(ConnectionBoard(fd, 0))
    assert watcher.is_ahead(1), "a server is on the board before its first connection"
    await control.drain(1)
    assert not watcher.is_ahead(1)
