"""Fuzz of whole connections: pipelines of requests in any framing, cut anywhere, and the same damaged.

An undamaged pipeline must be answered completely and exactly. A damaged one must be answered by a proper prefix of
responses and end, without an internal error and with every buffer given back.

    python -m tests.fuzz.http_connection --count 20000 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import dataclass

import trio
from trio.testing import MockClock

from rs3d.errors import IncompleteBody
from rs3d.http.limits import HttpLimits
from rs3d.http.memory import MemoryTransport
from rs3d.http.messages import Bytes, Request, Response
from rs3d.http.refusals import HttpRefusal, render_plain
from tests.http.harness import HOST, Client, connected

LIMITS = HttpLimits(head_bytes=4096, uri_bytes=1024, drain_bytes=500, body_bytes=1 << 20)
STATUSES = {200, 400, 408, 413, 414, 417, 431, 501, 505}
EVIL = (b"\r\n", b"\n", b"\r", b"\0", b"0\r\n\r\n", b" ", b"GET / HTTP/1.1\r\n\r\n", b"ffffffffffffffff", b"\r\n\r\n")


class Broken(Exception):
    """The server did something it must not do."""


@dataclass
class Pipeline:
    """Requests as bytes, and what the answers have to be."""

    wire: bytes
    bodies: list[bytes]


async def handler(request: Request) -> Response:
    """Reads nothing, a little, or all, as the target says, and answers with what was read."""
    wanted = {b"/none": 0, b"/some": 10, b"/all": 1 << 40}.get(request.head.target.split(b"?")[0], 0)
    whole = request.body.whole() if request.head.target.endswith(b"?whole") else None
    if whole is not None:
        return Response(status=200, body=Bytes(bytes(whole)[:wanted]))
    read = bytearray()
    while wanted > len(read):
        piece = memoryview(bytearray(min(wanted - len(read), 700)))
        count = await request.body.receive_into(piece)
        if not count:
            break
        read += piece[:count]
    return Response(status=200, body=Bytes(read))


def make_pipeline(chance: random.Random) -> Pipeline:
    wire, bodies = bytearray(), []
    for _ in range(chance.randrange(1, 6)):
        body = chance.randbytes(chance.choice((0, 1, 9, 10, 11, 300, 450, chance.randrange(5000))))
        # An unread rest above drain_bytes closes the connection, chunked framing included.
        target = chance.choice((b"/none", b"/some", b"/all")) if len(body) < 300 else b"/all"
        wire += b"PUT " + target + chance.choice((b"", b"?whole")) + b" HTTP/1.1\r\n" + HOST
        wire += b"x-pad: " + b"p" * chance.randrange(200) + b"\r\n"
        if chance.random() < 0.5:
            wire += b"Content-Length: %d\r\n\r\n" % len(body) + body
        else:
            wire += b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(chance, body)
        bodies.append(body[:10] if target == b"/some" else body if target == b"/all" else b"")
    return Pipeline(bytes(wire), bodies)


def _chunked(chance: random.Random, body: bytes) -> bytes:
    coded, position = bytearray(), 0
    while position < len(body):
        piece = body[position : position + chance.randrange(1, 1000)]
        extension = chance.choice((b"", b"", b";a=b", b';c="d e"'))
        coded += chance.choice((b"%x", b"%X", b"000%x")) % len(piece) + extension + b"\r\n" + piece + b"\r\n"
        position += len(piece)
    return bytes(coded) + chance.choice((b"0\r\n\r\n", b"00\r\nX-T: v\r\n\r\n"))


def damage(chance: random.Random, wire: bytes) -> bytes:
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(wire) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            wire = wire[:at] + bytes([chance.randrange(256)]) + wire[at + 1 :]
        elif kind == 1:
            wire = wire[:at] + chance.choice(EVIL) + wire[at:]
        elif kind == 2:
            wire = wire[:at] + wire[at + chance.randrange(1, 30) :]
        else:
            wire = wire[:at]
    return wire


async def send_in_pieces(chance: random.Random, client: Client[MemoryTransport], wire: bytes) -> None:
    """Send `wire`, then end the sending direction; stop silently when the server has closed."""
    try:
        position = 0
        while position < len(wire):
            size = chance.choice((1, 2, 7, 100, 1000, 1 << 20))
            await client.send(wire[position : position + size])
            position += size
            if chance.random() < 0.3:
                await trio.lowlevel.checkpoint()
        await client.close()
    except trio.BrokenResourceError:
        return


async def check(seed: int, number: int) -> None:
    """Run the connection that belongs to a seed and a number.

    Raises:
        Broken: the finding.
    """
    chance = random.Random(f"{seed}/{number}")
    pipeline = make_pipeline(chance)
    damaged = chance.random() < 0.5
    wire = damage(chance, pipeline.wire) if damaged else pipeline.wire
    internal: list[Exception] = []

    def render(error: Exception, request: Request | None, request_id: str) -> Response:
        if isinstance(error, IncompleteBody):
            return Response(status=400)
        if not isinstance(error, HttpRefusal):
            internal.append(error)
        return render_plain(error, request, request_id)

    async with connected(handler, LIMITS, render) as world, trio.open_nursery() as nursery:
        nursery.start_soon(send_in_pieces, chance, world.client, wire)
        answers = []
        while not await world.client.is_closed():
            answer = await world.client.answer()
            answers.append((answer.status, answer.body))
    if internal:
        raise Broken(f"seed {seed}, connection {number}: {internal!r} for {wire!r}")
    if not damaged and answers != [(200, body) for body in pipeline.bodies]:
        raise Broken(f"seed {seed}, connection {number}: wrong answers for {wire!r}")
    if not {status for status, _ in answers} <= STATUSES:
        raise Broken(f"seed {seed}, connection {number}: strange answers {answers!r} for {wire!r}")


async def run(seed: int, count: int) -> None:
    """Check `count` connections.

    Raises:
        Broken: at the first finding.
    """
    for number in range(count):
        await check(seed, number)


def main() -> int:
    parser = argparse.ArgumentParser(description="fuzz whole HTTP connections over memory transports")
    parser.add_argument("--count", type=int, default=20_000, help="how many connections (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="which connections (default: the time)")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.count} connections", flush=True)
    try:
        trio.run(run, seed, arguments.count, clock=MockClock(autojump_threshold=0))
    except BaseExceptionGroup as group:
        print(group.exceptions)
        return 1
    except Broken as finding:
        print(finding)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
