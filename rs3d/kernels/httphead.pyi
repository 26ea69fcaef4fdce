"""HTTP/1.1 heads without h11: the strict subset that S3 clients send in, and response heads out.

`parse_head` yields what h11 under the rules of `rs3d.http.rules` would yield, or hands over; it never refuses. Handed
over is everything unusual: other methods than GET, PUT, HEAD, POST, DELETE and OPTIONS, HTTP/1.0, a target that is not
in origin-form, bare CR or LF, folded fields, white space before a colon, control characters, no Host or a strange or
second one, a Content-Length that is repeated or not 1 to 18 digits, Transfer-Encoding, Upgrade, a Connection other than
keep-alive or close, an Expect other than 100-continue, more than 64 fields.

Loop-safe: about a microsecond a head; holds the GIL. Source: RFC 9112, RFC 9110. Oracle: `tests/oracles/httphead.py`.
"""

import enum
from collections.abc import Iterable
from typing import TypeAlias

from _typeshed import ReadableBuffer

class Outcome(enum.Enum):
    """What `parse_head` says when it yields no head."""

    HAND_OVER = "hand-over"
    """Unusual: h11 decides whether it is right."""
    INCOMPLETE = "incomplete"
    """Usual so far; its end is not in the buffer."""

ParsedHead: TypeAlias = tuple[str, bytes, tuple[tuple[bytes, bytes], ...], int]

def parse_head(buffer: ReadableBuffer, start: int = 0, end: int = -1) -> ParsedHead | Outcome:
    """Parse the head at the front of buffer[start:end] (`end` -1: to its end); more may follow it. Nothing is kept.

    Returns:
        (method, raw target, fields, length of the head in bytes, empty line included), or an Outcome. Fields are
        (name in lower case, value without surrounding spaces and tabs), in order, never merged. A head that is both
        unusual and incomplete may be called either.

    Raises:
        ValueError: start and end do not lie within the buffer.
    """

def write_head(
    status: int,
    reason: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    ready: bytes = b"",
    reserved: tuple[bytes, ...] = (),
) -> bytes:
    """A response head: status line, `ready`, the fields in order, empty line.

    Args:
        status: 100 to 599.
        reason: may be empty; the space before it is always written.
        headers: names are tokens; values may hold no control character but a tab.
        ready: whole lines, each with its CRLF, written as they are: the caller vouches for them.
        reserved: names in lower case that `headers` may not contain.

    Raises:
        ValueError: a status, name or value is impossible (CR, LF, NUL and the like), or a name is reserved.
        TypeError: something is not bytes.
    """

def selftest() -> int:
    """Known heads, whole, cut and unusual. Returns the number of checks; well under 1 ms.

    Raises:
        RuntimeError: an answer is wrong.
    """
