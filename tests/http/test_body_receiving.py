"""Receivers of bodies: bounded, used again, and slow clients noticed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from rs3d.http.bodyreceiving import Receivers


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


def test_there_are_no_more_than_said_and_they_are_used_again(sockets: tuple[socket.socket, socket.socket]) -> None:
    receivers = Receivers(count=2)
    fd = sockets[0].fileno()
    one, other = receivers.take(fd), receivers.take(fd)
    assert one is not None and other is not None
    assert receivers.take(fd) is None
    receivers.put_back(one)
    assert receivers.take(fd) is one


def test_a_slow_client_is_noticed_and_one_that_ended_is_not_slow(sockets: tuple[socket.socket, socket.socket]) -> None:
    near, far = sockets
    receivers = Receivers(patience_s=0.001)
    receiver = receivers.take(near.fileno())
    assert receiver is not None
    far.send(b"abc")
    buffer = memoryview(bytearray(5))
    assert receiver.receive(buffer) == 3 and receiver.was_slow
    receivers.put_back(receiver)
    assert receivers.take(near.fileno()) is receiver and not receiver.was_slow
    far.close()
    assert receiver.receive(buffer) == 0 and not receiver.was_slow
    assert receiver.receive(buffer[:0]) == 0


def test_a_stop_holds_until_the_next_body(sockets: tuple[socket.socket, socket.socket]) -> None:
    near, far = sockets
    receivers = Receivers()
    receiver = receivers.take(near.fileno())
    assert receiver is not None
    far.send(b"abc")
    receiver.stop()
    assert receiver.receive(memoryview(bytearray(3))) == 0
    receivers.put_back(receiver)
    assert receivers.take(near.fileno()) is receiver
    assert receiver.receive(memoryview(bytearray(3))) == 3


def test_without_descriptors_nothing_is_received(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> int:
        raise OSError(24, "Too many open files")

    near, far = sockets
    receiver = Receivers().take(near.fileno())
    assert receiver is not None
    far.send(b"abc")
    with monkeypatch.context() as patched:
        patched.setattr(os, "eventfd", none)
        assert receiver.receive(memoryview(bytearray(3))) == 0
    assert receiver.receive(memoryview(bytearray(3))) == 3


def test_an_error_of_the_socket_is_the_long_ways_to_meet() -> None:
    receiver = Receivers().take(-1)
    assert receiver is not None
    assert receiver.receive(memoryview(bytearray(3))) == 0
