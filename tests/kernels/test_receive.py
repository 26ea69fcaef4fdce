"""Bytes of a socket into memory: all that was asked for, and why no more."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from rs3d.kernels import receive
from rs3d.kernels.receive import BodyReceiver, Ending, Received

FOR_EVER_NS = 60 * 10**9
DATA = bytes(range(251)) * 4000


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    yield near, far
    near.close()
    far.close()


def begun(receiver: BodyReceiver, near: socket.socket, buffer: bytearray) -> tuple[threading.Thread, list[Received]]:
    """A thread that receives, and what it will say."""
    said: list[Received] = []
    thread = threading.Thread(target=lambda: said.append(receiver.receive(near.fileno(), buffer, FOR_EVER_NS)))
    thread.start()
    return thread, said


def test_what_comes_in_pieces_is_received_whole_and_nothing_behind_it(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    near, far = sockets
    found = bytearray(len(DATA))
    thread, said = begun(BodyReceiver(), near, found)
    for at in range(0, len(DATA), 77_777):
        far.sendall(DATA[at : at + 77_777])
    far.sendall(b"next")
    thread.join()
    assert found == DATA
    assert (said[0].received_bytes, said[0].ending) == (len(DATA), Ending.DONE)
    assert near.recv(100) == b"next"


def test_a_client_that_sends_nothing_is_waited_for_as_long_as_was_said(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    near, far = sockets
    far.sendall(b"some")
    found = bytearray(10)
    told = BodyReceiver().receive(near.fileno(), found, 1_000_000)
    assert (told.received_bytes, told.ending, bytes(found[:4])) == (4, Ending.SLOW, b"some")
    assert told.waited_ns >= 1_000_000
    assert BodyReceiver().receive(near.fileno(), found, 0) == Received(0, 0, Ending.SLOW)
    assert BodyReceiver().receive(near.fileno(), bytearray(), 0) == Received(0, 0, Ending.DONE)


def test_an_end_is_told_with_what_came_before_it(sockets: tuple[socket.socket, socket.socket]) -> None:
    near, far = sockets
    far.sendall(b"some")
    far.close()
    told = BodyReceiver().receive(near.fileno(), bytearray(10), FOR_EVER_NS)
    assert (told.received_bytes, told.ending) == (4, Ending.END)


def test_a_receiving_is_stopped_by_another_thread_and_then_refuses_until_it_is_rearmed(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    near, far = sockets
    receiver = BodyReceiver()
    thread, said = begun(receiver, near, bytearray(10))
    receiver.stop()
    receiver.stop()
    thread.join()
    assert said[0].ending is Ending.STOPPED
    far.sendall(b"more")
    assert receiver.receive(near.fileno(), bytearray(4), FOR_EVER_NS) == Received(0, 0, Ending.STOPPED)
    receiver.rearm()
    assert receiver.receive(near.fileno(), bytearray(4), FOR_EVER_NS).ending is Ending.DONE


def test_an_error_is_raised_where_nothing_was_received() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        BodyReceiver().receive(-1, bytearray(1), 0)


def test_one_receiving_at_a_time_into_what_can_be_written_and_no_negative_patience(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    near, _ = sockets
    receiver = BodyReceiver()
    with pytest.raises(ValueError, match="not a time"):
        receiver.receive(near.fileno(), bytearray(1), -1)
    with pytest.raises(BufferError):
        receiver.receive(near.fileno(), b"constant", 0)
    thread, _ = begun(receiver, near, bytearray(2))
    sockets[1].send(b"1")
    while not is_taken(near):
        pass
    with pytest.raises(RuntimeError, match="another thread"):
        receiver.receive(near.fileno(), bytearray(1), 0)
    with pytest.raises(RuntimeError, match="under way"):
        receiver.rearm()
    receiver.stop()
    thread.join()


def is_taken(near: socket.socket) -> bool:
    """Whether the receiving has taken what was sent."""
    try:
        near.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


def test_the_self_test_passes() -> None:
    assert receive.selftest() == 2
