"""Moves between descriptors: the right bytes in the right place by every method, and exact counts."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.kernels import splice
from rs3d.kernels.splice import Copied, FileSender, Method, Pause, Received, Sent, SplicePipe, Stop
from tests.ownprocess import own_descriptors

DATA = random.Random(1).randbytes(3_000_017)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    source = os.open(tmp_path / "source", os.O_RDWR | os.O_CREAT, 0o600)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(source, DATA, 0)
    yield source, target
    os.close(source)
    os.close(target)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


@pytest.fixture(autouse=True)
def variant() -> Iterator[None]:
    before = splice.variant()
    yield
    splice.use_variant(before)


@pytest.mark.parametrize("name", ["auto", "copy_file_range", "splice", "buffer"])
@pytest.mark.parametrize(
    ("in_offset", "out_offset", "length"), [(0, 0, 3_000_017), (1, 5, 70_000), (4096, 8192, 4096), (5, 0, 0)]
)
def test_ranges_are_copied_to_where_they_belong(
    files: tuple[int, int], name: str, in_offset: int, out_offset: int, length: int
) -> None:
    splice.use_variant(name)
    source, target = files
    os.pwrite(target, b"\xee" * 3_000_100, 0)
    copied = splice.copy_range(source, in_offset, target, out_offset, length)
    assert copied.copied_bytes == length
    expected = bytearray(b"\xee" * 3_000_100)
    expected[out_offset : out_offset + length] = DATA[in_offset : in_offset + length]
    assert os.pread(target, 3_000_200, 0) == expected
    assert os.lseek(source, 0, os.SEEK_CUR) == os.lseek(target, 0, os.SEEK_CUR) == 0


@pytest.mark.parametrize("name", ["auto", "copy_file_range", "splice", "buffer"])
def test_a_copy_stops_where_the_source_ends(files: tuple[int, int], name: str) -> None:
    splice.use_variant(name)
    source, target = files
    assert splice.copy_range(source, 3_000_000, target, 10, 1 << 40).copied_bytes == 17
    assert os.pread(target, 100, 10) == DATA[3_000_000:]
    assert splice.copy_range(source, 4_000_000, target, 0, 10).copied_bytes == 0


def test_files_of_two_file_systems_are_copied(files: tuple[int, int]) -> None:
    memory = os.memfd_create("other")
    try:
        copied = splice.copy_range(files[0], 0, memory, 0, len(DATA))
        assert copied.copied_bytes == len(DATA)
        assert copied.method is not Method.CLONE
        assert os.pread(memory, len(DATA) + 1, 0) == DATA
    finally:
        os.close(memory)


def test_a_file_that_seems_empty_is_read_before_that_is_believed(files: tuple[int, int]) -> None:
    source = os.open("/proc/version", os.O_RDONLY)
    try:
        copied = splice.copy_range(source, 0, files[1], 0, 4096)
    finally:
        os.close(source)
    expected = Path("/proc/version").read_bytes()
    assert copied.copied_bytes == len(expected)
    assert os.pread(files[1], 4096, 0) == expected


def test_cloning_shares_blocks_or_says_that_the_file_system_cannot(files: tuple[int, int]) -> None:
    splice.use_variant("clone")
    try:
        assert splice.copy_range(files[0], 0, files[1], 0, len(DATA)) == Copied(len(DATA), Method.CLONE)
        assert os.pread(files[1], len(DATA) + 1, 0) == DATA
    except OSError as error:
        assert error.errno in (errno.EOPNOTSUPP, errno.ENOTTY)
        assert os.fstat(files[1]).st_size == 0


def test_errors_are_raised_with_their_errno(files: tuple[int, int]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    closed = os.dup(full)
    os.close(closed)
    try:
        with pytest.raises(OSError, match="No space"):
            splice.copy_range(files[0], 0, full, 0, 10)
        with pytest.raises(OSError, match="Bad file"):
            splice.copy_range(closed, 0, files[1], 0, 10)
        for numbers in ((-1, 0, 1), (0, -1, 1), (0, 0, -1)):
            with pytest.raises(ValueError, match="not a range"):
                splice.copy_range(files[0], numbers[0], files[1], numbers[1], numbers[2])
    finally:
        os.close(full)


def test_a_socket_is_received_into_a_file_in_as_many_rounds_as_it_takes(
    files: tuple[int, int], sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = sockets
    sent = at = 0
    with SplicePipe() as pipe:
        while at < len(DATA):
            if sent < len(DATA):
                sent += near.send(DATA[sent : sent + 150_000])
            moved = pipe.receive(far.fileno(), files[1], 7 + at, len(DATA) - at)
            at += moved.received_bytes
            assert moved.stop is (Stop.DONE if at == len(DATA) else Stop.WAIT)
            assert pipe.held_bytes == 0
    assert os.pread(files[1], len(DATA) + 8, 7) == DATA


def test_no_more_is_received_than_asked_for(
    files: tuple[int, int], sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = sockets
    near.sendall(b"0123456789next request")
    with SplicePipe() as pipe:
        assert pipe.receive(far.fileno(), files[1], 0, 10) == Received(10, Stop.DONE)
        assert pipe.receive(far.fileno(), files[1], 10, 0) == Received(0, Stop.DONE)
    assert far.recv(100) == b"next request"
    assert os.pread(files[1], 100, 0) == b"0123456789"


def test_the_end_of_the_stream_and_its_silence_are_told_apart(
    files: tuple[int, int], sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = sockets
    with SplicePipe() as pipe:
        assert pipe.receive(far.fileno(), files[1], 0, 10) == Received(0, Stop.WAIT)
        near.sendall(b"abc")
        assert pipe.receive(far.fileno(), files[1], 0, 10) == Received(3, Stop.WAIT)
        near.close()
        assert pipe.receive(far.fileno(), files[1], 3, 7) == Received(0, Stop.END)


def test_bytes_that_could_not_be_written_are_counted(
    sockets: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    near, far = sockets
    near.sendall(b"abc")
    (tmp_path / "file").touch()
    read_only = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with SplicePipe() as pipe:
            with pytest.raises(OSError, match="Bad file"):
                pipe.receive(far.fileno(), read_only, 0, 3)
            assert pipe.held_bytes == 3
            with pytest.raises(ValueError, match="still in this pipe"):
                pipe.receive(far.fileno(), read_only, 0, 3)
    finally:
        os.close(read_only)


def test_pipes_close_their_descriptors_and_refuse_wrong_uses(files: tuple[int, int]) -> None:
    before = len(own_descriptors())
    pipe = SplicePipe()
    assert pipe.capacity_bytes >= 4096
    with pytest.raises(ValueError, match="not a range"):
        pipe.receive(files[0], files[1], -1, 1)
    pipe.close()
    pipe.close()
    SplicePipe()
    assert len(own_descriptors()) == before
    with pytest.raises(ValueError, match="closed"):
        pipe.receive(files[0], files[1], 0, 1)
    with pytest.raises(ValueError, match="no variant"):
        splice.use_variant("teleport")


# ------------------------------------------------------------------------------------------------ file to socket

FOR_EVER_NS = 60_000_000_000


def received(far: socket.socket, count: int) -> bytes:
    far.setblocking(True)
    return far.recv(count, socket.MSG_WAITALL)


def test_a_part_of_a_file_is_sent_however_often_the_socket_is_full(
    files: tuple[int, int], sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = sockets
    sent: list[Sent] = []
    sender = FileSender()
    thread = threading.Thread(
        target=lambda: sent.append(sender.send(near.fileno(), files[0], 17, 2_900_000, FOR_EVER_NS))
    )
    thread.start()
    assert received(far, 2_900_000) == DATA[17:2_900_017]
    thread.join()
    assert [(one.sent_bytes, one.pause) for one in sent] == [(2_900_000, Pause.DONE)]


def test_a_socket_that_takes_nothing_is_waited_for_as_long_as_was_said(
    files: tuple[int, int], sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = sockets
    first = FileSender().send(near.fileno(), files[0], 0, len(DATA), 1_000_000)
    assert first.pause is Pause.SLOW
    assert 0 < first.sent_bytes < len(DATA)
    assert first.waited_ns >= 1_000_000
    assert FileSender().send(near.fileno(), files[0], 0, 10, 0) == Sent(0, 0, Pause.SLOW)
    assert received(far, first.sent_bytes) == DATA[: first.sent_bytes]


def begun(
    sender: FileSender, near: socket.socket, far: socket.socket, file: int
) -> tuple[threading.Thread, list[Sent]]:
    """A thread that sends more than the socket takes, of which 1000 bytes were received; and what it will say."""
    sent: list[Sent] = []
    thread = threading.Thread(target=lambda: sent.append(sender.send(near.fileno(), file, 0, len(DATA), FOR_EVER_NS)))
    thread.start()
    assert received(far, 1000) == DATA[:1000]
    return thread, sent


def test_a_sending_is_stopped_by_another_thread_and_then_refuses_until_it_is_rearmed(
    files: tuple[int, int], sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = sockets
    sender = FileSender()
    thread, sent = begun(sender, near, far, files[0])
    sender.stop()
    sender.stop()
    thread.join()
    assert sent[0].pause is Pause.STOPPED
    assert 1000 <= sent[0].sent_bytes < len(DATA)
    assert sender.send(near.fileno(), files[0], 0, 10, FOR_EVER_NS) == Sent(0, 0, Pause.STOPPED)
    sender.rearm()
    received(far, sent[0].sent_bytes - 1000)
    assert sender.send(near.fileno(), files[0], 0, 10, FOR_EVER_NS).pause is Pause.DONE


def test_a_file_that_ends_early_is_told_with_what_it_had(
    files: tuple[int, int], sockets: tuple[socket.socket, socket.socket]
) -> None:
    sent = FileSender().send(sockets[0].fileno(), files[0], len(DATA) - 5, 10, FOR_EVER_NS)
    assert (sent.sent_bytes, sent.pause) == (5, Pause.END)


def test_an_error_is_raised_where_nothing_was_sent_and_told_where_something_was(
    files: tuple[int, int], sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = sockets
    sender = FileSender()
    thread, sent = begun(sender, near, far, files[0])
    far.close()
    thread.join()
    assert sent[0].pause is Pause.FAILED
    assert 1000 <= sent[0].sent_bytes < len(DATA)
    with pytest.raises(BrokenPipeError):
        sender.send(near.fileno(), files[0], 0, 10, FOR_EVER_NS)


def test_one_sending_at_a_time_and_no_negative_numbers(
    files: tuple[int, int], sockets: tuple[socket.socket, socket.socket]
) -> None:
    near, far = sockets
    sender = FileSender()
    for numbers in ((-1, 1, 1), (0, -1, 1), (0, 1, -1)):
        with pytest.raises(ValueError, match="not a"):
            sender.send(near.fileno(), files[0], *numbers)
    thread = threading.Thread(target=lambda: sender.send(near.fileno(), files[0], 0, len(DATA), FOR_EVER_NS))
    thread.start()
    received(far, 1000)
    with pytest.raises(RuntimeError, match="another thread"):
        sender.send(near.fileno(), files[0], 0, 1, FOR_EVER_NS)
    with pytest.raises(RuntimeError, match="under way"):
        sender.rearm()
    sender.stop()
    thread.join()


def test_the_self_test_passes() -> None:
    assert splice.selftest() == 3
