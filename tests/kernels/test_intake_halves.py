"""A body that comes into one half of its buffer while the other is hashed: as `test_intake.py`, of large buffers."""

from __future__ import annotations

import errno
import hashlib
import random
import resource
import signal
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.kernels.awschunked import ChunkScanner
from rs3d.kernels.bodyhash import HALVES_FROM, BodyHash, Ending, Gang, WholeCrc
from tests.kernels.intaking import TakenBody

BUFFER_BYTES = HALVES_FROM
HALF_BYTES = BUFFER_BYTES // 2
DATA = random.Random(9).randbytes(7 * HALF_BYTES + 777)


class Body(TakenBody):
    """One body on its way into a file."""

    def __init__(self, path: Path, *, gang: Gang | None = None, align_bytes: int = 0) -> None:
        stream = BodyHash(sha256=True)
        super().__init__(socket.socketpair(), path, stream, BUFFER_BYTES, gang=gang, align_bytes=align_bytes)
        self.crc32 = WholeCrc("CRC32")
        self.crcs = (self.crc32,)

    def take(self, length: int, *, to_end: bool = True, filled: int | None = None, framed_bytes: int = 0) -> Ending:
        return self.take_in(
            length,
            filled_bytes=self.intake.filled_bytes if filled is None else filled,
            framed_bytes=framed_bytes,
            offset=self.intake.written_bytes,
            to_end=to_end,
        )

    def check(self, data: bytes, written: int) -> None:
        """So much of it is in the file and in all hashes, the rest at the front of the buffer; nobody waits for it."""
        assert self.path.read_bytes() == data[:written]
        assert bytes(self.buffer[: len(data) - written]) == data[written:]
        self.check_hashes(data[:written])

    def check_hashes(self, data: bytes) -> None:
        """They are those of `data`."""
        other = BodyHash()
        other.update(data)
        assert self.stream.length_bytes == len(data)
        assert self.stream.digest() == hashlib.md5(data).digest()
        assert self.stream.sha256() == hashlib.sha256(data).digest()
        assert (self.stream.leaves(), self.stream.blocks()) == (other.leaves(), other.blocks())
        assert self.crc32.digest() == zlib.crc32(data).to_bytes(4, "big")
        assert self.gang.coming == 0


@pytest.fixture
def made() -> Iterator[list[Body]]:
    bodies: list[Body] = []
    yield bodies
    for body in bodies:
        body.close()


LENGTHS = [1, HALF_BYTES, HALF_BYTES + 1, 2 * HALF_BYTES, 2 * HALF_BYTES + 1, 3 * HALF_BYTES, len(DATA)]
FIRST = [0, 1000, HALF_BYTES, HALF_BYTES + 1, BUFFER_BYTES]
"""Bytes that have come before, in the buffer."""


@pytest.mark.parametrize("align_bytes", [0, 4096])
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("length", LENGTHS)
def test_all_is_written_to_the_end(made: list[Body], tmp_path: Path, length: int, first: int, align_bytes: int) -> None:
    first = min(first, length)
    body = Body(tmp_path / "data", align_bytes=align_bytes)
    made.append(body)
    body.buffer[:first] = DATA[:first]
    thread = body.send(DATA[first:length] + b"next")
    assert body.take(length - first, filled=first) is Ending.DONE
    thread.join()
    assert (body.intake.received_bytes, body.intake.written_bytes) == (length - first, length)
    body.check(DATA[:length], length)
    assert body.near.recv(100) == b"next"


@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_left_lies_at_the_front_and_the_next_call_goes_on(
    made: list[Body], tmp_path: Path, length: int
) -> None:
    body = Body(tmp_path / "data")
    made.append(body)
    thread = body.send(DATA)
    assert body.take(length, to_end=False) is Ending.DONE
    assert length - body.intake.written_bytes <= HALF_BYTES
    body.check(DATA[:length], body.intake.written_bytes)
    assert body.take(len(DATA) - length) is Ending.DONE
    thread.join()
    body.check(DATA, len(DATA))


@pytest.mark.parametrize("received", [9, HALF_BYTES + 9, 2 * HALF_BYTES, 2 * HALF_BYTES + 9, 3 * HALF_BYTES + 9])
def test_what_does_not_come_whole_is_at_the_front(made: list[Body], tmp_path: Path, received: int) -> None:
    body = Body(tmp_path / "data")
    made.append(body)
    thread = body.send(DATA[:received], ends=True)
    assert body.take(len(DATA)) is Ending.END
    thread.join()
    assert body.intake.received_bytes == received
    assert received - body.intake.written_bytes <= HALF_BYTES
    body.check(DATA[:received], body.intake.written_bytes)


@pytest.mark.parametrize("halves", [0, 1, 2])
def test_a_half_that_cannot_be_written_is_at_the_front(made: list[Body], tmp_path: Path, halves: int) -> None:
    body = Body(tmp_path / "data")
    made.append(body)
    thread = body.send(DATA)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (halves * HALF_BYTES, before[1]))
    try:
        with pytest.raises(OSError) as raised:
            body.take(len(DATA))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert raised.value.errno == errno.EFBIG
    received, written = body.intake.received_bytes, halves * HALF_BYTES
    assert (received, body.intake.written_bytes) == (written + HALF_BYTES, written)
    assert body.path.read_bytes() == DATA[:written]
    assert bytes(body.buffer[:HALF_BYTES]) == DATA[written:received]
    body.check_hashes(DATA[:received])  # hashed, though not written
    body.near.setblocking(True)
    while received < len(DATA):
        received += len(body.near.recv(BUFFER_BYTES))
    thread.join()


def framed(data: bytes, chunk_bytes: int) -> bytes:
    """`data` in unsigned chunks."""
    chunks = [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


@pytest.mark.parametrize("calls", [1, 2, 5])
@pytest.mark.parametrize("in_buffer", [0, 70, HALF_BYTES, HALF_BYTES + 100])
@pytest.mark.parametrize("chunk_bytes", [8192, 64 * 1024, HALF_BYTES, HALF_BYTES + 1, len(DATA)])
def test_framing_is_taken_away(made: list[Body], tmp_path: Path, chunk_bytes: int, in_buffer: int, calls: int) -> None:
    raw = framed(DATA, chunk_bytes)
    body = Body(tmp_path / "data", align_bytes=4096)
    made.append(body)
    body.scanner = ChunkScanner("unsigned")
    body.buffer[:in_buffer] = raw[:in_buffer]
    thread = body.send(raw[in_buffer:])
    left = len(raw) - in_buffer
    for call in range(calls):
        more = left // (calls - call)
        left -= more
        assert body.take(more, to_end=not left, framed_bytes=0 if call else in_buffer) is Ending.DONE
        assert body.intake.framed_bytes == 0
        if left:
            taken = body.intake.written_bytes + body.intake.filled_bytes
            body.check(DATA[:taken], body.intake.written_bytes)
    thread.join()
    assert body.scanner.finished
    body.check(DATA, len(DATA))


def test_bodies_of_several_threads_are_hashed_each_by_itself(made: list[Body], tmp_path: Path) -> None:
    gang = Gang(rounds=2, company_ns=3_000_000)
    made += [Body(tmp_path / str(number), gang=gang) for number in range(5)]
    contents = [bytes([number]) + DATA[1 : len(DATA) - number * HALF_BYTES] for number in range(5)]
    threads = [body.send(content) for body, content in zip(made, contents, strict=True)]
    takers = [
        threading.Thread(target=body.take, args=(len(content),)) for body, content in zip(made, contents, strict=True)
    ]
    for taker in takers:
        taker.start()
    for thread in (*threads, *takers):
        thread.join()
    for body, content in zip(made, contents, strict=True):
        body.check(content, len(content))
    assert gang.pieces == 8 + 7 + 6 + 5 + 4
