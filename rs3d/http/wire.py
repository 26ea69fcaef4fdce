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
from rs3d.kernels.httphead import write_head

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

LAST_CHUNK: Final = b"0\r\n\r\n"

# Final statuses only. Clients ignore the phrases (RFC 9112, 4).
_PHRASES: Final = {status.value: status.phrase.encode("ascii") for status in http.HTTPStatus if status >= 200}

_RESERVED: Final = tuple(sorted(SERVER_FIELDS))


class ConnectionField(enum.Enum):
    """The Connection field of a response."""

    ABSENT = "absent"
    CLOSE = "close"
    KEEP_ALIVE = "keep-alive"
    """Only for HTTP/1.0 clients that asked for it."""


class Unnumbered(enum.Enum):
    """Body lengths that are not a number."""

    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"
    """HTTP/1.0: the end of the connection is the end of the body."""
    UNSTATED = "unstated"
    """No body and no statement about one: 204, 304, HEAD without a known length."""


# Looking up a member of an enum class runs Python code in 3.11; a module constant does not.
_ABSENT: Final = ConnectionField.ABSENT


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
            ValueError: a field is one of SERVER_FIELDS, is no token or holds a control character such as CR, LF or
                NUL, or the status is no final one.
        """
        if not 200 <= status <= 599:
            raise ValueError(f"{status} is not the status of a final response")
        second = self._clock.wall_ns() // NANOSECONDS_PER_SECOND
        if second != self._second:
            self._second = second
            self._date_line = b"Date: %s\r\n" % email.utils.formatdate(second, usegmt=True).encode("ascii")
        if length.__class__ is int:
            ready = b"%bContent-Length: %d\r\n" % (self._date_line, length)
        elif length is Unnumbered.CHUNKED:
            ready = self._date_line + b"Transfer-Encoding: chunked\r\n"
        else:
            ready = self._date_line
        if connection is not _ABSENT:
            ready += b"Connection: %b\r\n" % connection.value.encode("ascii")
        return write_head(status, _PHRASES.get(status, b""), headers, ready=ready, reserved=_RESERVED)
