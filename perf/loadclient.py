"""The light HTTP client that drives every server the same way: prepared request bytes, one epoll loop, next to no
parsing.

A request is signed before the clock starts, so the client's cost per request is a send, a receive and a search for
the end of the head. Answers are checked: status, length, and for the jobs that ask for it the SHA-256 of the body.
"""

from __future__ import annotations

import hashlib
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


class WrongAnswer(Exception):
    """A server answered something else than it should: the measurement is void."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One signed request: its bytes (head and body), the status expected, and the SHA-256 of the body if it is
    checked."""

    head: bytes
    body: bytes | memoryview = b""
    status: int = 200
    sha256: str = ""
    is_head: bool = False


@dataclass(slots=True)
class Measurement:
    """What a run of requests took. Times in seconds."""

    requests: int = 0
    body_bytes: int = 0
    elapsed_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    slowdowns: int = 0
    """Answers 503 SlowDown: the request was sent again."""

    def percentile_s(self, share: float) -> float:
        """The latency below which `share` of the requests stayed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class _ClosedBeforeAnswer(Exception):
    """The server closed a connection before the first byte of an answer."""


class _Connection:
    """One keep-alive connection that sends its share of the requests one after the other."""

    __slots__ = (
        "body_left",
        "buffer",
        "digest",
        "endpoint",
        "head",
        "is_second_try",
        "outgoing",
        "prepared",
        "received",
        "sock",
        "started",
    )

    def __init__(self, endpoint: tuple[str, int], buffer: memoryview) -> None:
        self.endpoint = endpoint
        self.buffer = buffer
        self.sock = self._connect()
        self.prepared: Prepared | None = None
        self.outgoing: list[memoryview] = []
        self.head = b""
        self.body_left = -1
        self.received = 0
        self.started = 0.0
        self.digest: hashlib._Hash | None = None
        self.is_second_try = False

    def reconnect(self) -> None:
        """Send the request again on a new connection. Its time goes on."""
        assert self.prepared is not None
        started = self.started
        self.sock.close()
        self.sock = self._connect()
        self.begin(self.prepared)
        self.started, self.is_second_try = started, True

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(self.endpoint)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        return sock

    def begin(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.head = b""
        self.body_left = -1
        self.received = 0
        self.digest = hashlib.sha256() if prepared.sha256 else None
        self.outgoing = [memoryview(prepared.head)]
        if len(prepared.body):
            self.outgoing.append(memoryview(prepared.body))
        self.started = time.perf_counter()
        self.is_second_try = False

    def send(self) -> bool:
        """Send what the socket takes; whether everything is out."""
        while self.outgoing:
            try:
                sent = self.sock.sendmsg(self.outgoing)
            except BlockingIOError:
                return False
            while sent:
                first = self.outgoing[0]
                if sent >= len(first):
                    sent -= len(first)
                    self.outgoing.pop(0)
                else:
                    self.outgoing[0] = first[sent:]
                    sent = 0
        return True

    def receive(self) -> bool:
        """Take what has arrived; whether the answer is complete."""
        prepared = self.prepared
        assert prepared is not None
        while True:
            try:
                count = self.sock.recv_into(self.buffer)
            except BlockingIOError:
                return False
            if count == 0 and self.body_left < 0 and not self.head and not self.is_second_try:
                raise _ClosedBeforeAnswer
            if count == 0:
                raise WrongAnswer(f"the server closed the connection inside an answer to {prepared.head[:60]!r}")
            piece = self.buffer[:count]
            if self.body_left < 0:
                self.head += piece
                end = self.head.find(b"\r\n\r\n")
                if end < 0:
                    continue
                self._read_head(prepared, end)
                rest = self.head[end + 4 :]
                self._take(memoryview(rest))
            else:
                self._take(piece)
            if self.body_left == 0:
                self._finish(prepared)
                return True

    def _read_head(self, prepared: Prepared, end: int) -> None:
        head = self.head[:end]
        status = int(head[9:12])
        lowered = head.lower()
        at = lowered.find(b"\r\ncontent-length:")
        if prepared.is_head or status in (204, 304):
            self.body_left = 0
        elif at < 0:
            raise WrongAnswer(f"no Content-Length in {head[:200]!r}; the client takes no chunked bodies")
        else:
            self.body_left = int(
                lowered[at + 17 : (lowered.find(b"\r\n", at + 2) + len(lowered) + 1) % (len(lowered) + 1)]
            )
        if status != prepared.status:
            raise WrongAnswer(f"{prepared.head.split(b' HTTP', 1)[0][:80]!r}: {self.head[:400]!r}")

    def _take(self, piece: memoryview) -> None:
        self.body_left -= len(piece)
        self.received += len(piece)
        if self.digest is not None:
            self.digest.update(piece)

    def _finish(self, prepared: Prepared) -> None:
        if self.digest is not None and self.digest.hexdigest() != prepared.sha256:
            raise WrongAnswer(f"wrong bytes for {prepared.head[:80]!r}")


def run(
    endpoint: tuple[str, int], requests: Iterator[Prepared], *, connections: int, seconds: float, most: int
) -> Measurement:
    """Send `requests` over keep-alive connections until they end, `seconds` are over or `most` were sent.

    Every connection has one request in flight. Blocks.

    Raises:
        WrongAnswer
    """
    shared = memoryview(bytearray(1 << 20))
    measured = Measurement()
    links = [_Connection(endpoint, shared) for _ in range(connections)]
    by_fd = {link.sock.fileno(): link for link in links}
    poll = select.epoll()
    busy = 0
    start = time.perf_counter()
    deadline = start + seconds
    sent = 0
    for link in links:
        poll.register(link.sock.fileno(), select.EPOLLIN)
        prepared = next(requests, None) if sent < most else None
        if prepared is None:
            continue
        sent += 1
        busy += 1
        _dispatch(poll, link, prepared)
    while busy:
        for fd, events in poll.poll(30):
            link = by_fd[fd]
            if events & select.EPOLLOUT and link.send():
                poll.modify(fd, select.EPOLLIN)
            try:
                if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) or not link.receive():
                    continue
            except _ClosedBeforeAnswer:
                # A server may end a connection between two answers (RFC 9112, 9.3.1); all requests here are idempotent.
                poll.unregister(fd)
                del by_fd[fd]
                link.reconnect()
                by_fd[link.sock.fileno()] = link
                poll.register(link.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
                continue
            now = time.perf_counter()
            measured.latencies_s.append(now - link.started)
            measured.requests += 1
            assert link.prepared is not None
            measured.body_bytes += max(link.received, len(link.prepared.body))
            following = next(requests, None) if now < deadline and sent < most else None
            if following is None:
                busy -= 1
                continue
            sent += 1
            _dispatch(poll, link, following)
    measured.elapsed_s = time.perf_counter() - start
    for link in links:
        link.sock.close()
    poll.close()
    return measured


def _dispatch(poll: select.epoll, link: _Connection, prepared: Prepared) -> None:
    link.begin(prepared)
    if not link.send():
        poll.modify(link.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)


def repeated(prepared: Sequence[Prepared]) -> Iterator[Prepared]:
    """The same requests over and over: for GET, HEAD and LIST."""
    while True:
        yield from prepared
