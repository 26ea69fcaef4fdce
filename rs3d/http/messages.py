"""What the HTTP server and its handler say to each other. No I/O here, and no trio.

Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1). Rank 4.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from rs3d.types.body import Direct

Buffer = bytes | bytearray | memoryview

Headers = tuple[tuple[bytes, bytes], ...]


class Scheme(enum.Enum):
    """How the connection is protected; the value is the URI scheme a client used."""

    HTTP = "http"
    HTTPS = "https"


@dataclass(slots=True)
class Head:
    """A request head that passed every rule of `rules.py`. Nobody changes it; a frozen one costs 1 µs more to make.

    `target` is the origin-form (path and query) byte for byte as sent; of an absolute-form target the scheme and the
    authority, which equals the Host field, are cut off. Field names are in lower case, values have no surrounding
    white space; fields keep their order and are never merged.
    """

    method: str
    target: bytes
    version: tuple[int, int]
    headers: Headers
    _first: dict[bytes, bytes] | None = field(default=None, init=False, repr=False, compare=False)

    def get(self, name: bytes) -> bytes | None:
        """The first value of the field `name` (in lower case), or None."""
        first = self._first
        if first is None:
            # Built once, at the first question: a request is asked for some thirty fields, most of them absent.
            first = self._first = dict(reversed(self.headers))
        return first.get(name)

    def get_all(self, name: bytes) -> list[bytes]:
        """Every value of the field `name` (in lower case), in the order sent."""
        return [value for field_name, value in self.headers if field_name == name]


class RequestBody(Protocol):
    """The bytes of a request after its head, without their transfer coding."""

    @property
    def declared_bytes(self) -> int | None:
        """Content-Length in bytes; None with the chunked transfer coding; 0 when there is no body."""
        ...

    async def receive_into(self, buffer: memoryview) -> int:
        """Receive the next bytes of the body into `buffer`, which stays the caller's.

        The first call sends `100 Continue` when the client waits for it. Checks that may refuse the request
        therefore come before the first call.

        Returns:
            The number of bytes written to the front of `buffer`, 1 to its length; 0 at the end of the body.

        Raises:
            IncompleteBody: the client closed before the body ended.
            HttpRefusal: SLOW_BODY, BODY_TOO_LARGE or BAD_CHUNK. The connection closes after the answer.
            ValueError: `buffer` is empty.

        Every error repeats on later calls. Cancellation loses no bytes: a call either delivers or has taken nothing.
        """
        ...

    @property
    def direct(self) -> Direct | None:
        """How a thread may receive what follows; None where it may not. What is received so counts as by
        `receive_into`."""
        ...

    def whole(self) -> memoryview | None:
        """The whole body, when it arrived together with the head and none of it was taken yet; else None.

        The view is read-only in spirit, and valid until the response has been sent. Counts as receiving the body.
        Never blocks.
        """
        ...


@dataclass(slots=True)
class Request:
    """One request, alive until its response has been sent."""

    head: Head
    body: RequestBody
    peer: str
    """The client's address, `ip:port`, an IPv6 address in brackets."""
    local: str
    """The address the client connected to, in the same form."""
    scheme: Scheme
    request_id: str
    """16 hexadecimal digits, unique among all workers."""
    received_ns: int
    """When the head was complete, on the boot clock."""


# ------------------------------------------------------------------------------------------------------- responses


class After(enum.Enum):
    """What happens to the connection when this response has been sent."""

    KEEP_ALIVE = "keep-alive"
    CLOSE = "close"


class SendOutcome(enum.Enum):
    """How the sending of a response ended."""

    COMPLETE = "complete"
    CUT = "cut"
    """The connection was reset or lost before the last byte was handed to the kernel."""


class FdOwnership(enum.Enum):
    """Who closes a file descriptor."""

    OWNED = "owned"
    """The server closes it when the response has ended or was cut."""
    BORROWED = "borrowed"
    """The handler keeps it open until `on_sent` is called."""


@dataclass(frozen=True, slots=True)
class NoBody:
    """No body is sent. `declared_length` is for HEAD: the Content-Length that GET would have had; None sends no
    Content-Length in an answer to HEAD, and 0 otherwise."""

    declared_length: int | None = None


@dataclass(frozen=True, slots=True)
class Bytes:
    """A body in memory. The buffer must not change until the response has been sent."""

    data: Buffer


@dataclass(frozen=True, slots=True)
class FileSpan:
    """`length` bytes of an open file from `offset`. The file must not shrink while it is sent: if it does, the
    connection is reset."""

    fd: int
    offset: int
    length: int
    ownership: FdOwnership = FdOwnership.OWNED
    look_again: Callable[[int, int], Awaitable[int]] | None = None
    """Called with an offset and a length before bytes are sent that have waited for LOOK_AGAIN_S: returns how many of
    them, at least 1, are still good to be sent, or raises, which resets the connection. None: all are, for ever."""


@dataclass(frozen=True, slots=True)
class FileSpans:
    """A body made of parts of files, one after the other; an fd may occur several times. Sent by `sendfile` where the
    connection is plain. The pages are expected to be in the page cache: cold ones would stall the loop."""

    spans: tuple[FileSpan, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """A body that is made while it is sent.

    The head is sent together with the first buffer, so an error raised before it still becomes an error response.
    An error after it, or a total other than `declared_length`, resets the connection: the client never sees a clean
    end of a body that is not whole. A buffer may be reused by the iterator once the next one is asked for. The
    iterator is closed (`aclose`, if it has one) at the end and when the connection is lost.
    """

    chunks: AsyncIterator[Buffer | FileSpan]
    """Buffers, and parts of files whose descriptors stay the iterator's; the latter need a declared length."""
    declared_length: int | None = None
    """Total bytes; None when unknown: the chunked transfer coding is used."""


Body = NoBody | Bytes | FileSpan | FileSpans | Stream

OnSent = Callable[[SendOutcome, int], None]


@dataclass(slots=True)
class Response:
    """One final response.

    `headers` go out as they are, in order. Date, Content-Length, Transfer-Encoding and Connection belong to the
    server; naming one of them, or CR, LF or NUL in any field, is a mistake of the handler and is answered with 500.
    """

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: Body = NoBody()
    after: After = After.KEEP_ALIVE
    on_sent: OnSent | None = None
    """Called once, synchronously, when the response has ended or was cut, with the outcome and the number of body
    bytes handed to the kernel: the place to release leases and reader horizons. Must not raise."""


Handler = Callable[[Request], Awaitable[Response]]

Render = Callable[[Exception, Request | None, str], Response]
"""Turns an error into a response: the error, the request (None when its head was refused) and the request id."""

SERVER_FIELDS: Final = frozenset({b"date", b"content-length", b"transfer-encoding", b"connection"})
"""Response fields that only the server writes, because it alone knows the framing and the connection's fate."""
