"""A body from its socket to its file in one call: what is written, what is left, and why it ended."""

from __future__ import annotations

import errno
import hashlib
import os
import select
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.kernels import crc
from rs3d.kernels.bodyhash import MOST_COMPANY_NS, MOST_CRCS, BodyHash, Ending, Gang, WholeCrc
from tests.kernels.intaking import FOR_EVER_NS, Sockets, TakenBody

PIECE_BYTES = 64 * 1024
DATA = os.urandom(5 * PIECE_BYTES + 777)


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    near, far = socket.socketpair()
    near.setblocking(False)
    yield near, far
    near.close()
    far.close()


class Body(TakenBody):
    """One body on its way into a file."""

    def __init__(self, sockets: Sockets, path: Path, *, align_bytes: int = 0) -> None:
        super().__init__(sockets, path, BodyHash(sha256=True), PIECE_BYTES, align_bytes=align_bytes)
        self.filled = 0

    def take(
        self,
        length: int,
        *,
        patience_ns: int = FOR_EVER_NS,
        flags: int = os.O_RDWR | os.O_CREAT,
        offset: int = 0,
        to_end: bool = False,
    ) -> Ending:
        return self.take_in(
            length, filled_bytes=self.filled, patience_ns=patience_ns, flags=flags, offset=offset, to_end=to_end
        )

    def check(self, received: int) -> None:
        """All that is received is in the file and the stream, but for what is in the buffer."""
        intake, written = self.intake, self.intake.written_bytes
        assert intake.received_bytes == received
        assert written % PIECE_BYTES == 0 and received - written <= PIECE_BYTES
        assert self.path.read_bytes() == DATA[:written]
        assert bytes(self.buffer[: received - written]) == DATA[written:received]
        assert self.stream.length_bytes == written
        assert self.stream.digest() == hashlib.md5(DATA[:written]).digest()
        assert self.stream.sha256() == hashlib.sha256(DATA[:written]).digest()


@pytest.mark.parametrize("align_bytes", [0, 4096])
@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, len(DATA)])
def test_all_but_the_last_piece_is_written(sockets: Sockets, tmp_path: Path, length: int, align_bytes: int) -> None:
    body = Body(sockets, tmp_path / "data", align_bytes=align_bytes)
    thread = body.send(DATA[:length] + b"next")
    assert body.take(length) is Ending.DONE
    thread.join()
    body.check(length)
    assert body.near.recv(100) == b"next"


@pytest.mark.parametrize("align_bytes", [0, 4096])
@pytest.mark.parametrize("length", [1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, len(DATA)])
def test_all_is_written_to_the_end(sockets: Sockets, tmp_path: Path, length: int, align_bytes: int) -> None:
    body = Body(sockets, tmp_path / "data", align_bytes=align_bytes)
    crc32 = WholeCrc("CRC32")
    body.crcs = (crc32,)
    thread = body.send(DATA[:length] + b"next")
    assert body.take(length, to_end=True) is Ending.DONE
    thread.join()
    assert body.intake.received_bytes == body.intake.written_bytes == length
    assert body.path.read_bytes() == DATA[:length]
    assert body.stream.digest() == hashlib.md5(DATA[:length]).digest()
    assert body.stream.sha256() == hashlib.sha256(DATA[:length]).digest()
    assert crc32.digest() == zlib.crc32(DATA[:length]).to_bytes(4, "big")


def test_what_does_not_come_whole_is_not_written_to_the_end(sockets: Sockets, tmp_path: Path) -> None:
    body = Body(sockets, tmp_path / "data")
    thread = body.send(DATA[: PIECE_BYTES + 9], ends=True)
    assert body.take(len(DATA), to_end=True) is Ending.END
    thread.join()
    body.check(PIECE_BYTES + 9)


def test_a_body_is_taken_in_in_several_calls_behind_what_had_come(sockets: Sockets, tmp_path: Path) -> None:
    body = Body(sockets, tmp_path / "data")
    body.buffer[:1000] = DATA[:1000]
    body.filled = 1000
    thread = body.send(DATA[1000:])
    for length in (3 * PIECE_BYTES - 1000, len(DATA) - 3 * PIECE_BYTES):
        written = body.intake.written_bytes
        assert body.take(length, offset=written) is Ending.DONE
        body.filled = 1000 + body.intake.received_bytes - body.intake.written_bytes
    thread.join()
    assert body.intake.received_bytes + 1000 == len(DATA)
    assert body.path.read_bytes() == DATA[: 5 * PIECE_BYTES]
    assert bytes(body.buffer[: body.filled]) == DATA[5 * PIECE_BYTES :]
    assert body.stream.digest() == hashlib.md5(DATA[: 5 * PIECE_BYTES]).digest()


@pytest.mark.parametrize("length", [0, PIECE_BYTES, 2 * PIECE_BYTES + 1, len(DATA)])
def test_crcs_of_the_whole_are_made_of_what_is_written(sockets: Sockets, tmp_path: Path, length: int) -> None:
    body = Body(sockets, tmp_path / "data")
    body.crcs = (WholeCrc("CRC32"), WholeCrc("CRC64NVME"), WholeCrc("CRC32C"))
    thread = body.send(DATA[:length])
    assert body.take(length) is Ending.DONE
    thread.join()
    body.check(length)
    written = DATA[: body.intake.written_bytes]
    assert body.crcs[0].digest() == zlib.crc32(written).to_bytes(4, "big")
    assert body.crcs[1].digest() == crc.crc64nvme(written).to_bytes(8, "big")
    assert body.crcs[2].digest() == crc.crc32c(written).to_bytes(4, "big")


def test_a_crc_of_the_whole_belongs_to_one_intake_at_a_time(sockets: Sockets, tmp_path: Path) -> None:
    body = Body(sockets, tmp_path / "data")
    whole = WholeCrc("CRC32")
    body.crcs = (whole, whole)
    with pytest.raises(RuntimeError, match="another thread is updating this CRC32"):
        body.take(1)
    body.crcs = (whole,) * (MOST_CRCS + 1)
    with pytest.raises(ValueError, match=f"{MOST_CRCS + 1} CRCs of the whole; at most {MOST_CRCS}"):
        body.take(1)
    body.crcs = (whole,)
    said: list[Ending] = []
    thread = threading.Thread(target=lambda: said.append(body.take(len(DATA))))
    thread.start()
    body.send(DATA[:10]).join()
    while not body.path.exists() or select_in(body.near):
        time.sleep(0.001)
    for use in (lambda: whole.update(b"x"), whole.digest):
        with pytest.raises(RuntimeError, match="another thread is updating this CRC32"):
            use()
    body.intake.stop()
    thread.join()
    assert said == [Ending.STOPPED]
    whole.update(b"123456789")  # nothing was written, so nothing is in it
    assert whole.digest().hex() == "cbf43926"


def test_a_client_that_stops_is_told_from_one_that_is_slow(sockets: Sockets, tmp_path: Path) -> None:
    body = Body(sockets, tmp_path / "data")
    come = 2 * PIECE_BYTES + 5
    body.send(DATA[:come]).join()
    assert body.take(len(DATA), patience_ns=1_000_000) is Ending.SLOW
    assert body.intake.waited_ns >= 1_000_000
    body.check(come)
    body.far.shutdown(socket.SHUT_WR)
    body.filled = 5
    assert body.take(len(DATA) - come, offset=2 * PIECE_BYTES) is Ending.END
    body.check(come)


def test_a_socket_that_is_none_has_failed(sockets: Sockets, tmp_path: Path) -> None:
    file = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    near = socket.socket(fileno=os.dup(sockets[0].fileno()))
    os.dup2(file, near.fileno())
    body = Body((near, sockets[1]), tmp_path / "data")
    assert body.take(len(DATA)) is Ending.FAILED
    body.check(0)
    near.detach()
    os.close(file)


def test_it_is_stopped_while_it_waits_and_for_ever(sockets: Sockets, tmp_path: Path) -> None:
    body = Body(sockets, tmp_path / "data")
    body.send(DATA[:10]).join()
    said: list[Ending] = []
    thread = threading.Thread(target=lambda: said.append(body.take(len(DATA))))
    thread.start()
    while not body.path.exists() or select_in(body.near):
        time.sleep(0.001)
    body.intake.stop()
    thread.join()
    assert said == [Ending.STOPPED]
    body.check(10)
    body.intake.stop()
    body.filled = 10
    assert body.take(len(DATA)) is Ending.STOPPED


def select_in(near: socket.socket) -> bool:
    """Whether something is there that was not received."""
    try:
        return bool(near.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_a_file_that_cannot_be_written_is_an_error_and_what_was_received_is_counted(
    sockets: Sockets, tmp_path: Path
) -> None:
    body = Body(sockets, Path("/dev/full"))
    thread = body.send(DATA)
    with pytest.raises(OSError) as raised:
        body.take(len(DATA), flags=os.O_RDWR)
    assert raised.value.errno == errno.ENOSPC
    assert (body.intake.received_bytes, body.intake.written_bytes) == (PIECE_BYTES, 0)
    assert body.gang.coming == 0, "others would wait for it"
    drain(body.near, len(DATA) - PIECE_BYTES)
    thread.join()
    assert body.stream.digest() == hashlib.md5(DATA[:PIECE_BYTES]).digest()  # hashed, though not written
    read_only = Body(sockets, tmp_path / "data")
    read_only.path.touch()
    read_only.send(DATA[: PIECE_BYTES + 1]).join()
    with pytest.raises(OSError) as raised:
        read_only.take(PIECE_BYTES + 1, flags=os.O_RDONLY)
    assert raised.value.errno == errno.EBADF


def drain(near: socket.socket, length: int) -> None:
    near.setblocking(True)
    while length:
        length -= len(near.recv(length))
    near.setblocking(False)


def test_what_makes_no_sense_is_refused(sockets: Sockets, tmp_path: Path) -> None:
    body = Body(sockets, tmp_path / "data", align_bytes=4095)
    with pytest.raises(ValueError, match="power of two"):
        body.take(1)
    body.align_bytes = 0
    with pytest.raises(ValueError, match="negative"):
        body.take(-1)
    with pytest.raises(ValueError, match="negative"):
        body.take(1, patience_ns=-1)
    with pytest.raises(ValueError, match="negative"):
        body.take(1, offset=-1)
    body.filled = PIECE_BYTES + 1
    with pytest.raises(ValueError, match="in a buffer of"):
        body.take(1)
    body.filled, body.buffer = 0, bytearray()
    with pytest.raises(ValueError, match="in a buffer of 0"):
        body.take(1)
    piece = body.gang.announce(body.stream, DATA)
    body.buffer = bytearray(10)
    with pytest.raises(RuntimeError, match="another thread"):
        body.take(1)
    piece.wait()
    assert body.take(0) is Ending.DONE


def test_bodies_of_several_threads_meet_in_their_gang(tmp_path: Path) -> None:
    gang = Gang()
    pairs = [socket.socketpair() for _ in range(6)]
    bodies = [Body(pair, tmp_path / str(number)) for number, pair in enumerate(pairs)]
    for body in bodies:
        body.gang = gang
    gang.pause()
    threads = [body.send(DATA) for body in bodies]
    takers = [threading.Thread(target=body.take, args=(len(DATA),)) for body in bodies]
    for taker in takers:
        taker.start()
    while any(not body.path.exists() or body.path.stat().st_size < PIECE_BYTES for body in bodies):
        time.sleep(0.001)  # until each has written its first piece, and so announced it
    gang.resume()
    for thread in (*threads, *takers):
        thread.join()
    for body in bodies:
        body.check(len(DATA))
    assert gang.pieces == 6 * 5
    assert gang.rounds <= 6 * 5 - 5  # the first went together
    for near, far in pairs:
        near.close()
        far.close()


# -------------------------------------------------------------------------------------------------------------- company


@pytest.fixture
def bodies(tmp_path: Path) -> Iterator[list[Body]]:
    """Two, to be hashed by one gang."""
    pairs = [socket.socketpair() for _ in range(2)]
    for near, _ in pairs:
        near.setblocking(False)
    yield [Body(pair, tmp_path / str(i)) for i, pair in enumerate(pairs)]
    for near, far in pairs:
        near.close()
        far.close()


class Taking(threading.Thread):
    """An intake of all of a body under way."""

    def __init__(self, body: Body, gang: Gang, length: int) -> None:
        super().__init__()
        body.gang = gang
        self.body, self.length = body, length
        self.ending: Ending | None = None
        self.start()

    def run(self) -> None:
        self.ending = self.body.take(self.length, to_end=True)

    def begin(self, at: int = 0) -> None:
        """Send one byte; return when it was received, so that the gang counts the body's piece."""
        self.body.far.sendall(DATA[at : at + 1])
        while select.select([self.body.near], [], [], 0)[0]:
            time.sleep(0.001)


@pytest.mark.parametrize("comes", [True, False])
def test_a_piece_waits_for_one_that_comes_and_no_longer(bodies: list[Body], comes: bool) -> None:
    gang = Gang(company_ns=MOST_COMPANY_NS)
    late = Taking(bodies[1], gang, PIECE_BYTES)
    late.begin()
    early = Taking(bodies[0], gang, PIECE_BYTES)
    bodies[0].far.sendall(DATA[:PIECE_BYTES])
    early.join(0.05)
    assert early.is_alive() and (gang.rounds, gang.is_idle) == (0, False)
    if comes:
        bodies[1].far.sendall(DATA[1:PIECE_BYTES])
    else:
        bodies[1].intake.stop()
    late.join()
    early.join()
    assert early.ending is Ending.DONE
    assert (late.ending, gang.rounds, gang.pieces) == ((Ending.DONE, 1, 2) if comes else (Ending.STOPPED, 1, 1))
    assert bodies[0].stream.digest() == hashlib.md5(DATA[:PIECE_BYTES]).digest()


def test_a_body_that_stalls_is_waited_for_once(bodies: list[Body]) -> None:
    count, company_s = 40, 0.5
    gang = Gang(company_ns=int(company_s * 1e9))
    late = Taking(bodies[1], gang, PIECE_BYTES)
    late.begin()
    begun_s = time.monotonic()
    early = Taking(bodies[0], gang, count * PIECE_BYTES)
    bodies[0].far.sendall(DATA[:PIECE_BYTES] * count)
    early.join()
    assert company_s <= time.monotonic() - begun_s < count * company_s
    assert (early.ending, gang.rounds) == (Ending.DONE, count)
    bodies[1].intake.stop()
    late.join()


def test_a_body_whose_last_piece_was_waited_for_is_not_counted(bodies: list[Body]) -> None:
    gang = Gang(company_ns=1)
    late = Taking(bodies[1], gang, 2 * PIECE_BYTES)
    bytes_apart = 20
    for at in range(bytes_apart):
        late.begin(at)
        time.sleep(0.001)
    assert gang.coming == 1
    bodies[1].far.sendall(DATA[bytes_apart:PIECE_BYTES])
    while not gang.rounds:
        time.sleep(0.001)
    late.begin(PIECE_BYTES)
    assert gang.coming == 0
    bodies[1].far.sendall(DATA[PIECE_BYTES + 1 : 2 * PIECE_BYTES])
    late.join()
    assert (late.ending, gang.coming) == (Ending.DONE, 0)


@pytest.mark.parametrize("company_ns", [-1, MOST_COMPANY_NS + 1])
def test_times_for_company_that_cannot_be_are_refused(company_ns: int) -> None:
    with pytest.raises(ValueError, match=f"{company_ns} ns: not a time to wait for company"):
        Gang(company_ns=company_ns)
