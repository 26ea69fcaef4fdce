"""Response heads as bytes. Pure: nothing is sent here.

Source: RFC 9112 section 4, RFC 9110 sections 5.5, 6.6.1 and 8.6.
"""

from __future__ import annotations

import email.utils
import enum
import http
from collections.abc import Iterable
from typing import Final

from rs3d.clock import NANOSECONDS_PER_SECOND, Clock
from rs3d.http.messages import SERVER_FIELDS

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

LAST_CHUNK: Final = b"0\r\n\r\n"

# Final statuses only. Clients ignore the phrases (RFC 9112, 4).
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in http.HTTPStatus
    if status >= 200
}


class ConnectionField(enum.Enum):
    """The Connection field of a response, as bytes to send."""

    ABSENT = b""
    CLOSE = b"Connection: close\r\n"
    KEEP_ALIVE = b"Connection: keep-alive\r\n"
    """Only for HTTP/1.0 clients that asked for it."""


class Unnumbered(enum.Enum):
    """Body lengths that are not a number."""

    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"
    """HTTP/1.0: the end of the connection is the end of the body."""
    UNSTATED = "unstated"
    """No body and no statement about one: 204, 304, HEAD without a known length."""


class HeadWriter:
    """Writes response heads; keeps the Date line of the current second."""

    __slots__ = ("_clock", "_date_line", "_second")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._date_line = b""

    def write(
        self,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
        length: int | Unnumbered,
        connection: ConnectionField,
    ) -> bytes:
        """The head of a final response, empty line included.

        Args:
            status: 200 to 599.
            headers: the handler's fields, written as they are.
            length: Content-Length in bytes, or what stands in its place.
            connection: the Connection field.

        Raises:
            ValueError: a field is one of SERVER_FIELDS, or holds CR, LF or NUL, or the status is no final one.
        """
        second = self._clock.wall_ns() // NANOSECONDS_PER_SECOND
        if second != self._second:
            self._second = second
            self._date_line = b"Date: %s\r\n" % email.utils.formatdate(second, usegmt=True).encode("ascii")
        pieces = [_STATUS_LINES.get(status) or _unusual_status_line(status), self._date_line]
        count = 0
        for name, value in headers:
            if name.lower() in SERVER_FIELDS:
                raise ValueError(f"the field {name!r} belongs to the server")
            pieces.append(b"%b: %b\r\n" % (name, value))
            count += 1
        if isinstance(length, int):
            pieces.append(b"Content-Length: %d\r\n" % length)
        elif length is Unnumbered.CHUNKED:
            pieces.append(b"Transfer-Encoding: chunked\r\n")
        else:
            count -= 1
        pieces.append(connection.value)
        pieces.append(b"\r\n")
        head = b"".join(pieces)
        # One count over everything instead of a search in each value: a CR or LF too many can only be an injected one.
        lines = 4 + count + (connection is not ConnectionField.ABSENT)
        if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
            raise ValueError("a response field holds CR, LF or NUL")
        return head


def _unusual_status_line(status: int) -> bytes:
    if not 200 <= status <= 599:
        raise ValueError(f"{status} is not the status of a final response")
    return b"HTTP/1.1 %d \r\n" % status
