"""Sockets of one epoll, and files on their way out through some of them: every byte, and every end, once."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.kernels import parkedsockets
from rs3d.kernels.parkedsockets import ParkedSockets
from tests.ownprocess import own_descriptors

DATA = random.Random(4).randbytes(1 << 21)
FOR_EVER_NS = 60_000_000_000
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def parked() -> Iterator[ParkedSockets]:
    made = ParkedSockets(0)
    yield made
    made.close()


@pytest.fixture
def pairs(parked: ParkedSockets) -> Iterator[list[Pair]]:
    """Three connections, whose near ends are watched."""
    made = [socket.socketpair() for _ in range(3)]
    for near, far in made:
        near.setblocking(False)
        far.setblocking(False)
        parked.watch(near.fileno())
    yield made
    for near, far in made:
        near.close()
        far.close()


def drain(far: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(BlockingIOError):
        while part := far.recv(1 << 20):
            got += part
    return got


def taken(parked: ParkedSockets, pair: Pair) -> tuple[bytes, list[int]]:
    """What arrives in turns until there is something to tell of this connection, and what is told."""
    near, far = pair
    got, told = drain(far), parked.turn()
    while near.fileno() not in told:
        got, told = got + drain(far), parked.turn()
    return got + drain(far), told


def test_a_file_follows_its_head_in_turns_and_its_end_is_told_until_it_is_asked_for(
    parked: ParkedSockets, pairs: list[Pair], file: int
) -> None:
    near, far = pairs[0]
    fd = near.fileno()
    sent = parked.begin(fd, b"head", file, 17, 1_900_000)
    assert 4 < sent < 1_900_004 and parked.sending
    far.send(b"what arrives meanwhile is not told of")
    assert parked.turn() == [] and parked.sent(fd) is None
    got, told = taken(parked, pairs[0])
    assert got == b"head" + DATA[17:1_900_017]
    assert told == [fd] and parked.turn() == [fd, fd]  # its end, and what has arrived
    end = parked.sent(fd)
    assert end is not None and end.error == 0 and end.took_ns > 0
    assert parked.sent(fd) is None and parked.turn() == [fd] and not parked.sending


def test_what_a_socket_takes_at_once_is_sent_by_the_beginning_alone(
    parked: ParkedSockets, pairs: list[Pair], file: int
) -> None:
    near, far = pairs[0]
    assert parked.begin(near.fileno(), b"head", file, 5, 1000) == 1004
    assert parked.begin(near.fileno(), b"only", file, 5, 0) == 4
    assert drain(far) == b"head" + DATA[5:1005] + b"only"
    assert not parked.sending and parked.turn() == []


def test_of_a_head_that_is_not_taken_whole_nothing_is_left_to_the_turns(
    parked: ParkedSockets, pairs: list[Pair], file: int
) -> None:
    near, far = pairs[0]
    with contextlib.suppress(BlockingIOError):
        while near.send(bytes(65536)):
            pass
    assert parked.begin(near.fileno(), b"head", file, 0, 1000) == 0
    assert not parked.sending
    parked.watch_for_room(near.fileno())
    assert parked.turn() == []
    drain(far)
    assert parked.turn() == [near.fileno()]
    parked.watch_again(near.fileno())
    assert parked.turn() == []


def test_a_file_that_ends_early_is_an_error_of_its_beginning_or_of_its_end(
    parked: ParkedSockets, pairs: list[Pair], file: int
) -> None:
    near, far = pairs[0]
    with pytest.raises(OSError) as raised:
        parked.begin(near.fileno(), b"head", file, len(DATA), 1)
    assert raised.value.errno == errno.ENODATA and not parked.sending
    drain(far)
    parked.begin(near.fileno(), b"", file, 0, len(DATA) + 1)
    got, told = taken(parked, pairs[0])
    assert got == DATA and told == [near.fileno()]
    end = parked.sent(near.fileno())
    assert end is not None and end.error == errno.ENODATA


def test_a_peer_that_has_gone_ends_its_sending_alone(parked: ParkedSockets, pairs: list[Pair], file: int) -> None:
    for near, _ in pairs:
        parked.begin(near.fileno(), b"head", file, 0, len(DATA))
    gone = pairs[1][0].fileno()
    pairs[1][1].close()
    assert parked.turn()[0] == gone
    end = parked.sent(gone)
    assert end is not None and end.error in (errno.EPIPE, errno.ECONNRESET)
    for pair in pairs[::2]:
        assert taken(parked, pair)[0] == b"head" + DATA
    with pytest.raises(OSError):
        parked.begin(gone, b"head", file, 0, 1)


def test_a_sending_that_is_forgotten_is_neither_gone_on_with_nor_told_of(
    parked: ParkedSockets, pairs: list[Pair], file: int
) -> None:
    for near, _ in pairs:
        parked.begin(near.fileno(), b"", file, 0, 600_000)
    first, second, third = (near.fileno() for near, _ in pairs)
    parked.forget(first)
    for _, far in pairs[1:]:
        while parked.moved()[-1:] and not {second, third} <= set(parked.turn()) and drain(far):
            pass
    parked.forget(second)
    parked.forget(second)
    assert parked.turn()[:1] == [third] and parked.sent(second) is None
    assert parked.sent(third) is not None and not parked.sending
    assert len(drain(pairs[0][1])) < 600_000


def test_what_has_moved_is_told_once_for_each_that_is_on_its_way(
    parked: ParkedSockets, pairs: list[Pair], file: int
) -> None:
    near, far = pairs[0]
    begun = parked.begin(near.fileno(), b"", file, 0, len(DATA))
    assert parked.moved() == [(near.fileno(), 0)]
    drain(far)
    parked.turn()
    ((fd, moved),) = parked.moved()
    assert fd == near.fileno() and begun + len(drain(far)) == begun + moved > begun
    assert parked.moved() == [(fd, 0)]


@pytest.fixture
def loop(parked: ParkedSockets) -> Iterator[select.epoll]:
    """What a loop waits for: parked sockets, and nothing else yet."""
    with select.epoll() as epoll:
        epoll.register(parked.fileno(), select.EPOLLIN)
        yield epoll


def test_a_wait_tells_of_what_arrives_and_leaves_everything_else_to_the_loop(
    parked: ParkedSockets, pairs: list[Pair], loop: select.epoll
) -> None:
    other, peer = socket.socketpair()
    with other, peer:
        loop.register(other, select.EPOLLOUT)
        assert parked.wait(loop.fileno(), FOR_EVER_NS) is None
        pairs[2][1].send(b"x")
        assert parked.wait(loop.fileno(), FOR_EVER_NS) == [pairs[2][0].fileno()]
        assert not parked.has_slept


def test_a_wait_whose_time_is_up_makes_the_loop_look(parked: ParkedSockets, loop: select.epoll) -> None:
    assert loop.poll(0) == []
    assert parked.wait(loop.fileno(), 1000) is None
    assert parked.has_slept
    assert [fd for fd, _ in loop.poll(0)] == [parked.fileno()]
    assert parked.turn() == [] and loop.poll(0) == []


def test_a_wait_goes_on_with_files_and_tells_of_their_end(
    parked: ParkedSockets, pairs: list[Pair], loop: select.epoll, file: int
) -> None:
    near, far = pairs[0]
    parked.begin(near.fileno(), b"", file, 0, len(DATA))
    got = b""
    while (told := parked.wait(loop.fileno(), 1_000_000)) is None:
        got += drain(far)
    assert told == [near.fileno()] and got + drain(far) == DATA


def test_an_end_waits_for_something_that_it_can_be_told_with(loop: select.epoll, file: int) -> None:
    patient = ParkedSockets(FOR_EVER_NS)
    loop.register(patient.fileno(), select.EPOLLIN)
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        near.setblocking(False)
        patient.watch(near.fileno())
        patient.begin(near.fileno(), b"", file, 0, 300_000)
        while len(drain(far)):
            assert patient.wait(loop.fileno(), 1_000_000) is None
        far.send(b"x")
        assert patient.wait(loop.fileno(), FOR_EVER_NS) == [near.fileno()] * 2
    patient.close()


def test_a_nudge_is_for_one_turn(parked: ParkedSockets, loop: select.epoll) -> None:
    parked.nudge()
    parked.nudge()
    assert loop.poll(0) and parked.turn() == [] and not loop.poll(0)


def test_what_cannot_be_is_refused(parked: ParkedSockets, pairs: list[Pair], file: int) -> None:
    fd = pairs[0][0].fileno()
    before = own_descriptors()
    with pytest.raises(ValueError, match="not a time"):
        ParkedSockets(-1)
    assert own_descriptors() == before  # nor was a descriptor closed that is another's
    for numbers in ((-1, 1), (0, -1), (1 << 62, 1 << 62)):
        with pytest.raises(ValueError, match="not a range"):
            parked.begin(fd, b"", file, *numbers)
    with pytest.raises(ValueError, match="not a descriptor"):
        parked.begin(-1, b"", file, 0, 1)
    parked.begin(fd, b"", file, 0, len(DATA))
    with pytest.raises(ValueError, match="on its way"):
        parked.begin(fd, b"", file, 0, 1)
    with pytest.raises(FileExistsError):
        parked.watch(fd)
    parked.look_away(fd)
    with pytest.raises(FileNotFoundError):
        parked.look_away(fd)


def test_what_is_closed_watches_nothing_and_forgets_everything(
    parked: ParkedSockets, pairs: list[Pair], file: int
) -> None:
    fd = pairs[0][0].fileno()
    parked.begin(fd, b"", file, 0, len(DATA))
    parked.close()
    parked.close()
    parked.forget(fd)
    assert parked.closed and not parked.sending
    with pytest.raises(OSError):
        parked.watch(fd)


def test_the_self_test_passes() -> None:
    assert parkedsockets.selftest() == 2
