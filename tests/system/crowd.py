"""Many clients at once, on one Trio loop: each with a connection of its own that it keeps, and told what became of
each request."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from tests.s3.wire.client import Caller, head_bytes

PIECE_BYTES: Final = 256 * 1024
PATIENCE_S: Final = 300.0
"""Longest time between sending a request and the end of its answer."""


@dataclass
class Figures:
    """What a crowd was answered. Times in seconds."""

    answers: Counter[str] = field(default_factory=Counter)
    """By status; errors with their code, such as `503 SlowDown`."""
    latencies_s: list[float] = field(default_factory=list)
    """Of the answers that were no SlowDown."""
    by_client: Counter[int] = field(default_factory=Counter)
    elapsed_s: float = 0.0

    def note(self, client: int, answer: str, latency_s: float) -> None:
        self.answers[answer] += 1
        if answer != "503 SlowDown":
            self.latencies_s.append(latency_s)
            self.by_client[client] += 1

    def percentile_s(self, share: float) -> float:
        """The latency below which `share` of the requests stayed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def unwanted(self) -> dict[str, int]:
        """Answers that are neither a success nor SlowDown."""
        return {answer: count for answer, count in self.answers.items() if answer not in ("200", "503 SlowDown")}

    def text(self) -> str:
        """One line for people."""
        done = len(self.latencies_s)
        slowest, median, p99 = (self.percentile_s(share) * 1000 for share in (1.0, 0.5, 0.99))
        fewest, most = min(self.by_client.values(), default=0), max(self.by_client.values(), default=0)
        return (
            f"{done:,} done in {self.elapsed_s:.0f} s ({done / max(self.elapsed_s, 1e-9):,.0f}/s), "
            f"SlowDown {self.answers['503 SlowDown']:,}, others {self.unwanted() or 'none'}; p50 {median:.0f} ms, "
            f"p99 {p99:.0f} ms, slowest {slowest:.0f} ms; a client did {fewest:,} to {most:,}"
        )


class Client:
    """One connection, opened again when the server has closed it."""

    def __init__(self, caller: Caller, number: int, figures: Figures) -> None:
        self.number = number
        self._caller = caller
        self._figures = figures
        self._stream: trio.SocketStream | None = None

    async def connect(self) -> None:
        if self._stream is None:
            self._stream = await trio.open_tcp_stream(*self._caller.address)
            self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def close(self) -> None:
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
            self._stream = None

    async def ask(self, method: str, target: str, body: bytes = b"", *, payload_hash: str | None = None) -> bytes:
        """Ask until the answer is not SlowDown; every answer is noted. Returns the body of the answer."""
        while True:
            started_s = time.monotonic()
            headers = self._caller.headers(method, target, (), body, payload_hash=payload_hash)
            length = [("content-length", str(len(body)))] if method in ("PUT", "POST") else []
            with trio.move_on_after(PATIENCE_S):
                status, code, content = await self._exchange(head_bytes(method, target, [*headers, *length]), body)
                answer = f"{status} {code}".strip()
                self._figures.note(self.number, answer, time.monotonic() - started_s)
                if answer != "503 SlowDown":
                    return content
                await trio.sleep(0.2)
                continue
            self._figures.note(self.number, "no answer in time", PATIENCE_S)
            await self.close()
            return b""

    async def _exchange(self, head: bytes, body: bytes) -> tuple[int, str, bytes]:
        lost, answer = "", (0, "", b"")
        try:
            await self.connect()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, head, body)
                answer = await self._receive()
                nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as group:
            lost = f"connection: {group.exceptions[0]!r}"
        if lost:
            await self.close()
            return 0, lost, b""
        return answer

    async def _send(self, head: bytes, body: bytes) -> None:
        assert self._stream is not None
        try:
            if len(body) < PIECE_BYTES:
                await self._stream.send_all(head + body)
                return
            await self._stream.send_all(head)
            for start in range(0, len(body), PIECE_BYTES):
                await self._stream.send_all(memoryview(body)[start : start + PIECE_BYTES])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the answer says why, or that there is none

    async def _receive(self) -> tuple[int, str, bytes]:
        assert self._stream is not None
        received = b""
        while b"\r\n\r\n" not in received:
            piece = await self._stream.receive_some(65536)
            if not piece:
                raise BrokenPipeError("closed before an answer")
            received += piece
        head, _, content = received.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"0"))
        while len(content) < length:
            piece = await self._stream.receive_some(65536)
            if not piece:
                raise BrokenPipeError("closed inside an answer")
            content += piece
        status = int(head[9:12])
        code = content.partition(b"<Code>")[2].partition(b"</Code>")[0].decode() if status >= 400 else ""
        if fields.get(b"connection") == b"close":
            await self.close()
        return status, code, content


async def crowd(caller: Caller, clients: int, live: Callable[[Client], Awaitable[None]]) -> Figures:
    """So many clients, each living its life at once with the others."""
    figures, started_s = Figures(), time.monotonic()
    connecting = trio.CapacityLimiter(100)

    async def one(number: int) -> None:
        client = Client(caller, number, figures)
        async with connecting:
            await client.connect()
        try:
            await live(client)
        finally:
            await client.close()

    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(one, number)
    figures.elapsed_s = time.monotonic() - started_s
    return figures
