"""Requests hidden in requests: whatever a head or body is refused for, nothing behind it is read as a request."""

from __future__ import annotations

import pytest

from rs3d.http.messages import Bytes, Request, Response
from tests.http.harness import HOST, World, connected, read_all
from tests.http.test_rules import MALFORMED, REFUSED

HIDDEN = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"


class Targets:
    """A handler that notes what it was asked for."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    async def __call__(self, request: Request) -> Response:
        self.seen.append(request.head.target)
        return Response(status=200, body=Bytes(await read_all(request)))


async def statuses(world: World, wire: bytes) -> list[int]:
    """Send `wire`, close, and collect the statuses of all answers."""
    await world.client.send(wire)
    await world.client.close()
    found = []
    while not await world.client.is_closed():
        found.append((await world.client.answer()).status)
    return found


@pytest.mark.parametrize("raw", [raw for _, raw in REFUSED] + MALFORMED)
async def test_nothing_after_a_refused_head_is_a_request(raw: bytes) -> None:
    targets = Targets()
    async with connected(targets) as world:
        found = await statuses(world, raw + b"0\r\n\r\n" + HIDDEN)
        assert len(found) == 1
        assert found[0] in (400, 501, 505)
    assert targets.seen == []


def put(fields: bytes, body: bytes) -> bytes:
    return b"PUT /k HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


@pytest.mark.parametrize(
    "wire",
    [
        # CL.TE and TE.CL: one side believes the length, the other the chunks.
        put(b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nG" + HIDDEN),
        put(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"5c\r\n" + HIDDEN + b"\r\n0\r\n\r\n"),
        # TE.TE: one side does not recognise an obscured coding.
        put(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", b"0\r\n\r\n" + HIDDEN),
        put(b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n" + HIDDEN),
        put(b"Transfer-Encoding: chunked\x00\r\n", b"0\r\n\r\n" + HIDDEN),
        put(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n" + HIDDEN),
        put(b"X: y\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + HIDDEN),
        put(b"\tTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + HIDDEN),
        # Lengths that are read in two ways.
        put(b"Content-Length: 0\r\nContent-Length: 44\r\n", HIDDEN),
        put(b"Content-Length: 0,44\r\n", HIDDEN),
        put(b"Content-Length: 4_4\r\n", HIDDEN),
        put(b"Content-Length: \xd9\xa4\r\n", HIDDEN),
    ],
)
async def test_framing_that_can_be_read_in_two_ways_is_refused(wire: bytes) -> None:
    targets = Targets()
    async with connected(targets) as world:
        assert await statuses(world, wire) in ([400], [501])
    assert targets.seen == []


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"0;\n" + b"x\r\n\r\n" + HIDDEN,
        b"2;\nxx\r\n4c\r\n0\r\n\r\n" + HIDDEN + b"0\r\n\r\n",
        b"0\r\n\n" + HIDDEN,
        b"0\n\r\n" + HIDDEN,
        b"2\r\nabX\r\n0\r\n\r\n" + HIDDEN,
        b"2\r\nab\n0\r\n\r\n" + HIDDEN,
        b"0x2\r\nab\r\n0\r\n\r\n" + HIDDEN,
        b"ffffffffffffffff0\r\n" + HIDDEN,
        b"0\r\nContent-Length : 5\r\n\r\n" + HIDDEN,
    ],
)
async def test_chunks_that_can_be_read_in_two_ways_are_refused(body: bytes) -> None:
    targets = Targets()
    async with connected(targets) as world:
        assert await statuses(world, put(CHUNKED, body)) == [400]
    assert targets.seen == [b"/k"]


async def test_a_body_is_never_read_as_a_request() -> None:
    targets = Targets()
    async with connected(targets) as world:
        inner = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
        wire = put(b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN) + put(CHUNKED, inner) + put(b"", b"")
        assert await statuses(world, wire) == [200, 200, 200]
    assert targets.seen == [b"/k"] * 3


async def test_trailers_cannot_change_the_framing() -> None:
    targets = Targets()
    async with connected(targets) as world:
        wire = put(CHUNKED, b"0\r\nContent-Length: 100\r\nTransfer-Encoding: x\r\n\r\n") + HIDDEN
        assert await statuses(world, wire) == [200, 200]
    assert targets.seen == [b"/k", b"/hidden"]
