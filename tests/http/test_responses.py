"""Response bodies of every kind; and that a body that fails never ends cleanly."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from rs3d.http.messages import (
    Body,
    Buffer,
    Bytes,
    FdOwnership,
    FileSpan,
    FileSpans,
    Request,
    Response,
    SendOutcome,
    Stream,
)
from tests.http.harness import HOST, answering, connected

DATA = bytes(index * 31 % 256 for index in range(300_000))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


def opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class Pieces:
    """An async iterator that counts how it is used and can fail."""

    def __init__(self, *pieces: Buffer | FileSpan, error: Exception | None = None) -> None:
        self.closed = 0
        self._pieces = list(pieces)
        self._error = error

    def __aiter__(self) -> AsyncIterator[Buffer | FileSpan]:
        return self

    async def __anext__(self) -> Buffer | FileSpan:
        await trio.lowlevel.checkpoint()
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


async def body_of(body: Body) -> bytes:
    async with connected(answering(lambda: Response(status=200, body=body))) as world:
        answer = await world.client.get()
        assert answer.status == 200
        if not (isinstance(body, Stream) and body.declared_length is None):
            assert answer.get(b"Content-Length") == b"%d" % len(answer.body)
        return answer.body


@pytest.mark.parametrize("data", [DATA, bytearray(DATA), memoryview(DATA), b"", memoryview(DATA).cast("H")])
async def test_bytes_are_sent_whatever_holds_them(data: Buffer) -> None:
    assert await body_of(Bytes(data)) == bytes(data)


@pytest.mark.parametrize(("offset", "length"), [(0, len(DATA)), (1, 1), (100_000, 200_000), (5, 0)])
async def test_a_span_of_a_file_equals_the_same_bytes(file: Path, offset: int, length: int) -> None:
    fd = opened(file)
    assert await body_of(FileSpan(fd, offset, length)) == DATA[offset : offset + length]
    assert not is_open(fd)


async def test_spans_are_sent_in_order_and_their_file_is_closed_once(file: Path) -> None:
    fd = opened(file)
    spans = (FileSpan(fd, 10, 5), FileSpan(fd, 0, 0), FileSpan(fd, 0, 100_000))
    assert await body_of(FileSpans(spans)) == DATA[10:15] + DATA[:100_000]
    assert not is_open(fd)


async def test_a_borrowed_file_stays_open(file: Path) -> None:
    fd = opened(file)
    assert await body_of(FileSpan(fd, 0, 3, FdOwnership.BORROWED)) == DATA[:3]
    assert is_open(fd)
    os.close(fd)


async def test_a_stream_of_unknown_length_is_sent_in_chunks() -> None:
    pieces = Pieces(b"abc", b"", bytearray(b"def"), memoryview(DATA))
    assert await body_of(Stream(pieces)) == b"abcdef" + DATA
    assert pieces.closed == 1


async def test_an_empty_stream_has_an_empty_body() -> None:
    assert await body_of(Stream(Pieces())) == b""
    assert await body_of(Stream(Pieces(), declared_length=0)) == b""


async def test_a_stream_of_known_length_has_a_content_length() -> None:
    assert await body_of(Stream(Pieces(b"abc", b"de"), declared_length=5)) == b"abcde"


async def test_a_stream_may_hold_parts_of_files_that_stay_its_own(file: Path) -> None:
    fd = opened(file)
    pieces = Pieces(b"abc", FileSpan(fd, 5, 100_000, FdOwnership.BORROWED), memoryview(b"def"), FileSpan(fd, 0, 2))
    expected = b"abc" + DATA[5:100_005] + b"def" + DATA[:2]
    assert await body_of(Stream(pieces, declared_length=len(expected))) == expected
    assert is_open(fd)
    only = Pieces(FileSpan(fd, 0, 10))
    assert await body_of(Stream(only, declared_length=10)) == DATA[:10]
    os.close(fd)


async def test_a_buffer_may_be_reused_once_the_next_is_asked_for() -> None:
    async def pieces() -> AsyncIterator[Buffer]:
        buffer = bytearray(3)
        for text in (b"abc", b"def"):
            buffer[:] = text
            yield memoryview(buffer)

    assert await body_of(Stream(pieces())) == b"abcdef"


async def test_an_http_1_0_client_gets_a_stream_until_the_connection_closes() -> None:
    async with connected(answering(lambda: Response(status=200, body=Stream(Pieces(b"abc", b"def"))))) as world:
        await world.client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = await world.client.answer()
        assert (answer.body, answer.get(b"Transfer-Encoding"), answer.get(b"Connection")) == (b"abcdef", None, b"close")


async def test_head_of_every_kind_of_body_sends_none_and_gives_back_what_it_holds(file: Path) -> None:
    fd, pieces = opened(file), Pieces(b"abc")
    bodies: dict[bytes, Body] = {b"/file": FileSpan(fd, 0, 10), b"/stream": Stream(pieces, declared_length=3)}

    async def handler(request: Request) -> Response:
        return Response(status=200, body=bodies[request.head.target])

    async with connected(handler) as world:
        for target, length in ((b"/file", b"10"), (b"/stream", b"3")):
            await world.client.send(b"HEAD " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            assert (await world.client.answer("HEAD")).get(b"Content-Length") == length
    assert not is_open(fd)
    assert pieces.closed == 1


# ------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("pieces", "declared"),
    [
        (Pieces(b"abc", error=OSError("disk")), None),
        (Pieces(b"abc", error=OSError("disk")), 6),
        (Pieces(b"abc"), 6),
        (Pieces(b"abc", b"defg"), 6),
    ],
)
async def test_d7_a_stream_that_fails_after_its_first_byte_resets_the_connection(
    pieces: Pieces, declared: int | None
) -> None:
    outcomes: list[tuple[SendOutcome, int]] = []

    def response() -> Response:
        body = Stream(pieces, declared_length=declared)
        return Response(status=200, body=body, on_sent=lambda *told: outcomes.append(told))

    async with connected(answering(response)) as world:
        await world.client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert await world.client.was_reset()
    assert outcomes == [(SendOutcome.CUT, 3)]
    assert pieces.closed == 1


@pytest.mark.parametrize(("length", "declared"), [(len(DATA) + 1, len(DATA) + 4), (10, 12), (10, None)])
async def test_d7_a_part_of_a_file_that_does_not_fit_its_stream_resets_the_connection(
    file: Path, length: int, declared: int | None
) -> None:
    fd = opened(file)
    pieces = Pieces(b"abc", FileSpan(fd, 0, length, FdOwnership.BORROWED))
    async with connected(answering(lambda: Response(status=200, body=Stream(pieces, declared)))) as world:
        await world.client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert await world.client.was_reset()
    assert is_open(fd)
    os.close(fd)


async def test_d7_a_file_that_has_shrunk_resets_the_connection(file: Path) -> None:
    fd = opened(file)
    async with connected(answering(lambda: Response(status=200, body=FileSpan(fd, 0, len(DATA) + 1)))) as world:
        await world.client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert await world.client.was_reset()
    assert not is_open(fd)


@pytest.mark.parametrize(
    ("pieces", "declared"), [(Pieces(error=OSError("disk")), None), (Pieces(b"", error=OSError("disk")), 6)]
)
async def test_a_stream_that_fails_before_its_first_byte_becomes_an_error_response(
    pieces: Pieces, declared: int | None
) -> None:
    async with connected(answering(lambda: Response(status=200, body=Stream(pieces, declared)))) as world:
        assert (await world.client.get()).status == 500
    assert pieces.closed == 1


async def test_a_client_that_leaves_gives_back_what_the_response_holds(file: Path) -> None:
    fd, outcomes = opened(file), list[SendOutcome]()

    def response() -> Response:
        span = FileSpan(fd, 0, 100_000)
        return Response(status=200, body=FileSpans((span,) * 10), on_sent=lambda how, sent: outcomes.append(how))

    async with connected(answering(response)) as world:
        await world.client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await trio.testing.wait_all_tasks_blocked()
        world.client.transport.abort()
        await world.ended.wait()
    assert outcomes == [SendOutcome.CUT]
    assert not is_open(fd)
