"""The light HTTP client that drives every server the same way: prepared request bytes, one epoll loop, next to no
parsing.

A request is signed before the clock starts, so the client's cost per request is a send, a receive and a search for
the end of the head. Answers are checked: status, length where it is known, and for the jobs that ask for it the
SHA-256 of the body. What needs several requests, of which one asks for what another answered, is an exchange: its
later requests are signed under the clock.

Requests whose answers are looked at no further than their heads have a lane of their own (plainlane.py).
"""

from __future__ import annotations

import hashlib
import itertools
import select
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from chunks import ChunkedBody
from plainlane import Event, PlainLane, PlainRequest, is_plain

PATIENCE_S = 30.0
"""A server from which nothing comes for so long, on any connection, hangs."""

PLAIN_BATCH = 32_768
"""Plain requests that are laid ready for their lane (plainlane.py) before the clock starts, and each time that these
are over."""


class WrongAnswer(Exception):
    """A server answered something else than it should, or not at all: the measurement is void."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One signed request: its bytes (head and body), and what is expected of its answer.

    Args:
        length: bytes of the answer's body, or what the answer to a HEAD says of them; -1 is not checked.
        sha256: of the answer's body; empty is not checked.
        is_kept: whether whoever sent it looks at the answer's body.
    """

    head: bytes
    body: bytes | memoryview = b""
    status: int = 200
    sha256: str = ""
    is_head: bool = False
    length: int = -1
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. `body` is empty unless the request's answer is kept."""

    head: bytes
    body: bytes


Exchange = Generator[Prepared, Answer, None]
"""Requests that one connection sends one after the other, each with the answer to the one before at hand. It counts as
one request, and takes from the first's begin to the last's end."""


@dataclass(slots=True)
class Measurement:
    """What a run of requests took. Times in seconds."""

    requests: int = 0
    body_bytes: int = 0
    elapsed_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

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
        "chunks",
        "digest",
        "endpoint",
        "exchange",
        "head",
        "is_second_try",
        "kept",
        "outgoing",
        "prepared",
        "received",
        "sock",
        "started",
    )

    def __init__(self, endpoint: tuple[str, int], buffer: bytearray) -> None:
        self.endpoint = endpoint
        self.buffer = buffer
        self.sock = _connect(self.endpoint)
        self.prepared: Prepared | None = None
        self.exchange: Exchange | None = None
        self.outgoing: list[memoryview] = []
        self.head = b""
        self.body_left = -1
        """-1 before the end of the head; of a chunked body, whether there is more."""
        self.chunks: ChunkedBody | None = None
        self.kept = bytearray()
        self.received = 0
        self.started = 0.0
        self.digest: hashlib._Hash | None = None
        self.is_second_try = False

    def reconnect(self) -> None:
        """Send the request again on a new connection. Its time goes on."""
        assert self.prepared is not None
        self.sock.close()
        self.sock = _connect(self.endpoint)
        self._begin(self.prepared)
        self.is_second_try = True

    def start(self, request: Prepared | Exchange) -> None:
        """Begin with a request, or the first of an exchange; nothing is sent yet."""
        self.exchange = None if isinstance(request, Prepared) else request
        self._begin(request if isinstance(request, Prepared) else next(request))
        self.started = time.perf_counter()

    def go_on(self) -> bool:
        """Begin with the next request of the exchange; False when it was the last."""
        if self.exchange is None:
            return False
        try:
            self._begin(self.exchange.send(Answer(self.head.partition(b"\r\n\r\n")[0], bytes(self.kept))))
        except StopIteration:
            return False
        return True

    def _begin(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.head = b""
        self.body_left = -1
        self.chunks = None
        self.kept.clear()
        self.received = 0
        self.digest = hashlib.sha256() if prepared.sha256 else None
        self.outgoing = [memoryview(prepared.head)]
        if len(prepared.body):
            self.outgoing.append(memoryview(prepared.body))
        self.is_second_try = False

    def send(self) -> bool:
        """Send what the socket takes; whether everything is out."""
        while self.outgoing:
            try:
                sent = self.sock.sendmsg(self.outgoing)
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                self.outgoing.clear()
                return True  # closed meanwhile: `receive` hears of it, too, and knows what that means
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
            except ConnectionResetError:  # what was sent met a connection that was closed already
                count = 0
            if count == 0 and self.body_left < 0 and not self.head and not self.is_second_try:
                raise _ClosedBeforeAnswer
            if count == 0:
                raise WrongAnswer(f"the server closed the connection inside an answer to {_named(prepared)}")
            begin = 0
            if self.body_left < 0:
                begin = self._take_head(prepared, count)
                if self.body_left < 0:
                    continue
            if begin < count or self.chunks is not None:
                self._take(prepared, memoryview(self.buffer)[begin:count])
            if self.body_left == 0:
                self._finish(prepared)
                return True

    def _take_head(self, prepared: Prepared, count: int) -> int:
        """Take the head, or what there is of it, from `count` bytes received; where the body begins in them. What
        follows a head that is complete (up to a whole buffer of a body) is not copied."""
        before = len(self.head)
        if before == 0:
            end = self.buffer.find(b"\r\n\r\n", 0, count)
            self.head = bytes(memoryview(self.buffer)[: count if end < 0 else end + 4])
        else:
            self.head += memoryview(self.buffer)[:count]
            end = self.head.find(b"\r\n\r\n")
            self.head = self.head if end < 0 else self.head[: end + 4]
        if end < 0:
            return count
        self._read_head(prepared)
        return len(self.head) - before

    def _read_head(self, prepared: Prepared) -> None:
        lowered = self.head[:-4].lower()
        status = int(lowered[9:12])
        if status != prepared.status:
            raise WrongAnswer(f"{_named(prepared)}: {self.head[:400]!r}")
        at = lowered.find(b"\r\ncontent-length:")
        length = -1
        if at >= 0:
            stop = lowered.find(b"\r\n", at + 17)
            length = int(lowered[at + 17 : stop if stop >= 0 else None])
        if prepared.length >= 0 and length != prepared.length and (length >= 0 or prepared.is_head):
            raise WrongAnswer(f"{_named(prepared)}: Content-Length is {length}, not {prepared.length}")
        if prepared.is_head or status in (204, 304):
            self.body_left = 0
        elif length >= 0:
            self.body_left = length
        elif b"\r\ntransfer-encoding: chunked" in lowered:
            self.chunks = ChunkedBody()
            self.body_left = 1
        else:
            raise WrongAnswer(f"{_named(prepared)}: the answer has no length and is not chunked: {self.head[:200]!r}")

    def _take(self, prepared: Prepared, piece: memoryview) -> None:
        if self.chunks is None:
            self.body_left -= len(piece)
            if self.body_left < 0:
                raise WrongAnswer(f"{_named(prepared)}: {-self.body_left} bytes behind the end of the answer")
            self._take_data(prepared, piece)
            return
        try:
            for data in self.chunks.take(piece):
                self._take_data(prepared, data)
        except ValueError as problem:
            raise WrongAnswer(f"{_named(prepared)}: {problem}") from None
        self.body_left = 0 if self.chunks.is_done else 1

    def _take_data(self, prepared: Prepared, data: memoryview) -> None:
        self.received += len(data)
        if self.digest is not None:
            self.digest.update(data)
        if prepared.is_kept:
            self.kept += data

    def _finish(self, prepared: Prepared) -> None:
        if self.digest is not None and self.digest.hexdigest() != prepared.sha256:
            raise WrongAnswer(f"wrong bytes for {_named(prepared)}")
        if self.chunks is not None and prepared.length not in (-1, self.received):
            raise WrongAnswer(f"{_named(prepared)}: {self.received} bytes, not {prepared.length}")


def _named(prepared: PlainRequest) -> str:
    return repr(prepared.head.split(b" HTTP", 1)[0][:100])


def run(
    endpoint: tuple[str, int],
    requests: Iterator[Prepared | Exchange],
    *,
    connections: int,
    seconds: float,
    most: int,
    patience_s: float = PATIENCE_S,
) -> Measurement:
    """Send `requests` over keep-alive connections until they end, `seconds` are over or `most` were sent.

    Every connection has one request in flight. Blocks.

    Raises:
        WrongAnswer: or no answer for `patience_s`.
    """
    requests = itertools.islice(requests, most)
    first = list(itertools.islice(requests, 1))
    if first and _is_plain(first[0]):
        first += itertools.islice(requests, PLAIN_BATCH - 1)
    plain = [request for request in first if isinstance(request, Prepared) and _is_plain(request)]
    if plain and len(plain) == len(first):
        measured = _run_plain(endpoint, plain, requests, connections, seconds, patience_s)
        if measured is not None:
            return measured
    shared = bytearray(1 << 20)
    links: list[_Connection] = []
    with select.epoll() as poll:
        try:
            for _ in range(connections):
                links.append(_Connection(endpoint, shared))
            return _run(poll, links, itertools.chain(first, requests), seconds, patience_s)
        finally:
            for link in links:
                link.sock.close()


def _is_plain(request: Prepared | Exchange) -> bool:
    if not isinstance(request, Prepared):
        return False
    return is_plain(request, is_looked_at=bool(request.sha256) or request.is_kept)


def _run_plain(
    endpoint: tuple[str, int],
    batch: list[Prepared],
    behind: Iterator[Prepared | Exchange],
    connections: int,
    seconds: float,
    patience_s: float,
) -> Measurement | None:
    """`run` for requests of which the first `batch` are plain; None when the server answers in a form that the lane
    does not know, after which all of them may be sent once more."""
    measured = Measurement()
    lane = PlainLane(partial(_connect, endpoint), connections, patience_s)
    try:
        lane.give(batch)
        begun = time.perf_counter()
        deadline_ns = time.perf_counter_ns() + int(seconds * 1e9)
        is_first_batch = True
        while (event := lane.go_on(deadline_ns, measured.latencies_s)) is not Event.DONE:
            if event is Event.MORE:
                more = list(itertools.islice(behind, PLAIN_BATCH))
                deadline_ns = deadline_ns if more else 0
                lane.give(_all_plain(more))
                is_first_batch = False
            elif event is Event.CLOSED:
                # A server may end a connection between two answers (RFC 9112, 9.3.1); all requests here may be sent
                # twice, and the end of an upload that is sent twice is a wrong answer at worst.
                lane.reconnect()
            elif event is Event.CHUNKED and is_first_batch:
                return None
            else:
                raise WrongAnswer(_problem(event, lane, patience_s))
        measured.elapsed_s = time.perf_counter() - begun
    finally:
        lane.close()
    measured.requests, measured.body_bytes = len(measured.latencies_s), lane.body_bytes
    return measured


def _all_plain(requests: list[Prepared | Exchange]) -> list[Prepared]:
    plain = [request for request in requests if isinstance(request, Prepared) and _is_plain(request)]
    if len(plain) < len(requests):
        raise ValueError(f"behind {PLAIN_BATCH} requests whose answers are not looked at, all have to be such")
    return plain


def _problem(event: Event, lane: PlainLane, patience_s: float) -> str:
    request, received = lane.at
    name = _named(request)
    if event is Event.SILENT:
        return f"{name}: no answer for {patience_s:.0f} s"
    if event is Event.CUT:
        return f"the server closed the connection inside an answer to {name}"
    expected = f"{request.status}, {'any length' if request.length < 0 else f'{request.length} bytes'}"
    return f"{name}: not what was expected ({expected}), or longer than it says: {received[:400]!r}"


def _connect(endpoint: tuple[str, int]) -> socket.socket:
    sock = socket.create_connection(endpoint, PATIENCE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock


def _run(
    poll: select.epoll,
    links: list[_Connection],
    requests: Iterator[Prepared | Exchange],
    seconds: float,
    patience_s: float,
) -> Measurement:
    measured = Measurement()
    by_fd = {link.sock.fileno(): link for link in links}
    busy = 0
    begun = time.perf_counter()
    deadline = begun + seconds
    for link in links:
        request = next(requests, None)
        if request is None:
            break
        busy += 1
        poll.register(link.sock.fileno(), select.EPOLLIN)
        link.start(request)
        _send(poll, link)
    while busy:
        events_by_fd = poll.poll(patience_s)
        if not events_by_fd:
            waiting = next(link.prepared for link in links if link.prepared is not None and link.body_left)
            raise WrongAnswer(f"{_named(waiting)}: no answer for {patience_s:.0f} s")
        for fd, events in events_by_fd:
            link = by_fd[fd]
            if events & select.EPOLLOUT and link.send():
                poll.modify(fd, select.EPOLLIN)
            try:
                if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) or not link.receive():
                    continue
            except _ClosedBeforeAnswer:
                # A server may end a connection between two answers (RFC 9112, 9.3.1); all requests here may be sent
                # twice, and the end of an upload that is sent twice is a wrong answer at worst.
                poll.unregister(fd)
                del by_fd[fd]
                link.reconnect()
                by_fd[link.sock.fileno()] = link
                poll.register(link.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
                continue
            assert link.prepared is not None
            measured.body_bytes += max(link.received, len(link.prepared.body))
            if link.go_on():
                _send(poll, link)
                continue
            now = time.perf_counter()
            measured.latencies_s.append(now - link.started)
            measured.requests += 1
            following = next(requests, None) if now < deadline else None
            if following is None:
                busy -= 1
                poll.unregister(fd)  # a server may close it now
                continue
            link.start(following)
            _send(poll, link)
    measured.elapsed_s = time.perf_counter() - begun
    return measured


def _send(poll: select.epoll, link: _Connection) -> None:
    if not link.send():
        poll.modify(link.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)


def fetch(endpoint: tuple[str, int], prepared: Prepared) -> Answer:
    """One request, sent on a connection of its own, and its answer. Blocks.

    Raises:
        WrongAnswer
    """
    answers: list[Answer] = []

    def ask() -> Exchange:
        answers.append((yield prepared))

    run(endpoint, iter([ask()]), connections=1, seconds=PATIENCE_S, most=1)
    return answers[0]


def repeated(prepared: Sequence[Prepared]) -> Iterator[Prepared]:
    """The same requests over and over: for GET, HEAD and LIST."""
    while True:
        yield from prepared
