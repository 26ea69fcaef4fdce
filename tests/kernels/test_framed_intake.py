"""A body in aws-chunked framing from its socket to its file: the framing is gone, the chunks are hashed one by one, and
whatever is wrong with it is left to the scanner."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from rs3d.kernels import bodyhash
from rs3d.kernels.awschunked import ChunkedError, ChunkScanner
from rs3d.kernels.bodyhash import MOST_CHUNKS, BodyHash, Chunks, Ending, Gang, WholeCrc
from tests.kernels.intaking import FOR_EVER_NS, TakenBody

PIECE_BYTES = 64 * 1024
DATA = random.Random(3).randbytes(9 * PIECE_BYTES + 777)
Kind = Literal["signed", "unsigned"]


@pytest.fixture(autouse=True, params=bodyhash.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = bodyhash.variant()
    bodyhash.use_variant(request.param)
    yield request.param
    bodyhash.use_variant(before)


def signature(number: int) -> bytes:
    return b"%064x" % number


def framed(data: bytes, sizes: Sequence[int], kind: Kind = "signed") -> bytes:
    """`data` in chunks of these sizes, the last of them as often as it takes, and the one that has no bytes."""
    found, at, number = b"", 0, 0
    while True:
        size = min(sizes[min(number, len(sizes) - 1)], len(data) - at)
        extension = b";chunk-signature=" + signature(number) if kind == "signed" else b""
        found += b"%x%b\r\n" % (size, extension)
        if not size:
            return found + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"
        found += data[at : at + size] + b"\r\n"
        at, number = at + size, number + 1


def chunks_of(data: bytes, sizes: Sequence[int]) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    for number in range(len(data) + 1):
        size = min(sizes[min(number, len(sizes) - 1)], len(data) - at)
        found.append((hashlib.sha256(data[at : at + size]).digest(), signature(number)))
        at += size
        if not size:
            break
    return found


class Body(TakenBody):
    """One framed body on its way into a file."""

    scanner: ChunkScanner

    def __init__(self, path: Path, kind: Kind = "signed", *, gang: Gang | None = None, align_bytes: int = 0) -> None:
        self.chunks = Chunks() if kind == "signed" else None
        stream = BodyHash(chunks=self.chunks)
        super().__init__(socket.socketpair(), path, stream, PIECE_BYTES, gang=gang, align_bytes=align_bytes)
        self.scanner = ChunkScanner(kind)
        self.crc32 = WholeCrc("CRC32")
        self.crcs = (self.crc32,)
        self.found: list[tuple[bytes, bytes]] = []

    def take(
        self, length: int, *, to_end: bool = True, patience_ns: int = FOR_EVER_NS, framed_bytes: int = 0
    ) -> Ending:
        ending = self.take_in(
            length,
            filled_bytes=self.intake.filled_bytes,
            framed_bytes=framed_bytes,
            patience_ns=patience_ns,
            offset=self.intake.written_bytes,
            to_end=to_end,
        )
        if self.chunks is not None:
            self.found += self.chunks.take()
        return ending

    def check(self, data: bytes, sizes: Sequence[int]) -> None:
        """All of it has arrived."""
        assert self.scanner.finished and self.scanner.trailers == b"x-amz-checksum-crc32:AAAAAA==\r\n"
        assert self.path.read_bytes() == data
        assert self.stream.length_bytes == self.intake.written_bytes == len(data)
        assert self.stream.digest() == hashlib.md5(data).digest()
        other = BodyHash()
        other.update(data)
        assert (self.stream.leaves(), self.stream.blocks()) == (other.leaves(), other.blocks())
        crc32 = WholeCrc("CRC32")
        crc32.update(data)
        assert self.crc32.digest() == crc32.digest()
        if self.chunks is not None:
            assert self.found == chunks_of(data, sizes)


@pytest.fixture
def made() -> Iterator[list[Body]]:
    bodies: list[Body] = []
    yield bodies
    for body in bodies:
        body.close()


SIZES = ([64 * 1024], [128 * 1024], [8192], [4160], [65537], [100_000, 64, 1, 8192], [63, 65, 64 * 1024], [len(DATA)])


@pytest.mark.parametrize("align_bytes", [0, 4096])
@pytest.mark.parametrize("kind", ["signed", "unsigned"])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_framed_body_arrives_without_its_framing(
    made: list[Body], tmp_path: Path, sizes: list[int], kind: Kind, align_bytes: int
) -> None:
    for length in (0, 1, PIECE_BYTES, PIECE_BYTES + 1, len(DATA)):
        body = Body(tmp_path / str(length), kind, align_bytes=align_bytes)
        made.append(body)
        raw = framed(DATA[:length], sizes, kind)
        thread = body.send(raw + b"next", ends=True)
        assert body.take(len(raw)) is Ending.DONE
        thread.join()
        assert body.intake.received_bytes == len(raw)
        body.check(DATA[:length], sizes)


@pytest.mark.parametrize("kind", ["signed", "unsigned"])
@pytest.mark.parametrize("sizes", SIZES)
def test_it_may_come_in_any_pieces_by_the_socket_and_in_the_buffer(
    made: list[Body], tmp_path: Path, sizes: list[int], kind: Kind
) -> None:
    raw = framed(DATA, sizes, kind)
    chosen = random.Random(len(raw))
    body = Body(tmp_path / "data", kind)
    made.append(body)
    at = 0
    while at < len(raw):
        in_buffer = min(chosen.randrange(PIECE_BYTES), PIECE_BYTES - body.intake.filled_bytes, len(raw) - at)
        by_socket = min(chosen.choice([0, 1, 90, 70_000]), len(raw) - at - in_buffer)
        filled = body.intake.filled_bytes
        body.buffer[filled : filled + in_buffer] = raw[at : at + in_buffer]
        body.far.sendall(raw[at + in_buffer : at + in_buffer + by_socket])
        at += in_buffer + by_socket
        assert body.take(by_socket, to_end=at == len(raw), framed_bytes=in_buffer) is Ending.DONE
        assert body.intake.filled_bytes < PIECE_BYTES
    body.check(DATA, sizes)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_bodies_in_company_have_the_digests_of_their_own_chunks(made: list[Body], tmp_path: Path, count: int) -> None:
    gang = Gang(rounds=1)
    gang.pause()
    threads = []
    for number in range(count):
        body = Body(tmp_path / str(number), "unsigned" if number % 3 == 2 else "signed", gang=gang)
        made.append(body)
        data = DATA[number * 1000 :]
        raw = framed(data, SIZES[number % len(SIZES)], "unsigned" if number % 3 == 2 else "signed")
        threads.append(body.send(raw, ends=True))
        threads.append(threading.Thread(target=body.take, args=(len(raw),)))
        threads[-1].start()
    gang.resume()
    for thread in threads:
        thread.join()
    for number, body in enumerate(made):
        body.check(DATA[number * 1000 :], SIZES[number % len(SIZES)])


@pytest.mark.parametrize("size", [1, 7, 64])
def test_more_chunks_than_there_is_room_for_are_taken_in_turns(made: list[Body], tmp_path: Path, size: int) -> None:
    data = DATA[: size * (2 * MOST_CHUNKS + 5)]
    raw = framed(data, [size])
    body = Body(tmp_path / "data")
    made.append(body)
    thread = body.send(raw, ends=True)
    endings: list[Ending] = []
    while not endings or endings[-1] is not Ending.DONE:
        left = len(raw) - body.intake.received_bytes
        endings.append(body.take(left, framed_bytes=body.intake.framed_bytes))
    thread.join()
    assert endings == [Ending.FULL, Ending.FULL, Ending.DONE]
    body.check(data, [size])


@pytest.mark.parametrize("is_in_buffer", [False, True])
def test_broken_framing_ends_the_intake_and_is_the_scanners_to_tell(
    made: list[Body], tmp_path: Path, is_in_buffer: bool
) -> None:
    good = framed(DATA, [70_000])
    for at, damaged in ((0, b"x"), (good.index(b"\r\n", 70_100), b"\n\n")):
        body = Body(tmp_path / str(at))
        made.append(body)
        raw = good[:at] + damaged + good[at + len(damaged) :]
        in_buffer = 1000 if is_in_buffer else 0
        body.buffer[:in_buffer] = raw[:in_buffer]
        thread = body.send(raw[in_buffer:], ends=True)
        assert body.take(len(raw) - in_buffer, framed_bytes=in_buffer) is Ending.BROKEN
        body.near.close()
        thread.join()
        with pytest.raises(ChunkedError) as caught:
            body.scanner.check()
        assert caught.value.offset == at


def test_what_follows_the_end_or_does_not_come_is_told(made: list[Body], tmp_path: Path) -> None:
    raw = framed(DATA[:1000], [64 * 1024])
    body = Body(tmp_path / "more")
    made.append(body)
    thread = body.send(raw + b"more", ends=True)
    assert body.take(len(raw) + 4) is Ending.BROKEN
    thread.join()
    body.scanner.check()
    assert body.scanner.finished
    body = Body(tmp_path / "less")
    made.append(body)
    thread = body.send(raw[:-3], ends=True)
    assert body.take(len(raw)) is Ending.END
    thread.join()
    assert not body.scanner.finished and body.intake.written_bytes == 0 and body.intake.filled_bytes == 1000
    body = Body(tmp_path / "short")  # all that was declared has come, but the framing has no end
    made.append(body)
    thread = body.send(raw[:-3], ends=True)
    assert body.take(len(raw) - 3) is Ending.DONE
    thread.join()
    assert not body.scanner.finished and body.intake.written_bytes == 0


def test_what_an_intake_cannot_do_is_refused(made: list[Body], tmp_path: Path) -> None:
    body = Body(tmp_path / "data")
    made.append(body)
    with pytest.raises(ValueError, match="a buffer of"):
        body.take(0, framed_bytes=PIECE_BYTES + 1)
    with pytest.raises(ValueError, match="in the place of"):
        BodyHash(sha256=True, chunks=Chunks())
    with pytest.raises(ValueError, match="beside tables"):
        BodyHash(tables=False, chunks=Chunks())
    with pytest.raises(ValueError, match="was not asked for"):
        body.stream.sha256()

    def take(framing: object) -> Ending:
        return body.intake.take(
            body.gang,
            body.stream,
            body.buffer,
            filled_bytes=0,
            socket_fd=0,
            length=0,
            patience_ns=0,
            file_fd=0,
            offset=0,
            align_bytes=0,
            framing=framing,
        )

    with pytest.raises(ValueError, match="without a framing"):
        take(None)
    with pytest.raises(ValueError, match="invalid PyCapsule"):
        take(object())
