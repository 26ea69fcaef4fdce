"""From received bytes to a request head: where it ends, whether it fits the limits, which lane reads it."""

from __future__ import annotations

from typing import Final

from rs3d.http.fast_lane import parse_head_fast
from rs3d.http.h11_lane import parse_head_h11
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import Head
from rs3d.http.refusals import HttpRefusal, RefusalKind

_END: Final = b"\r\n\r\n"
_CR: Final = 0x0D


def read_head(data: bytearray, view: memoryview, start: int, end: int, limits: HttpLimits) -> tuple[Head, int] | None:
    """Read the head that begins at `start`.

    Args:
        data: the receive buffer; `view` is a memoryview of the same bytes. Both stay the caller's.
        start, end: the received bytes, `start < end`.

    Returns:
        The head and the position after it; None when more bytes are needed.

    Raises:
        HttpRefusal: the head is refused, or it can be seen already that it will be. Never blocks.
    """
    if data[start] == _CR and data.startswith(b"\r\n", start, end):
        # RFC 9112 2.2: one empty line before a request line is ignored; old clients end a POST body with one.
        start += 2
        if start == end:
            return None
    found = parse_head_fast(data, start, end)
    if isinstance(found, tuple):
        head, stop = found
        if stop - start > limits.head_bytes:
            raise _head_too_large(limits)
    else:
        stop = data.find(_END, start, end) + len(_END)
        if stop < len(_END):
            _refuse_hopeless(data, start, end, limits)
            return None
        if stop - start > limits.head_bytes:
            raise _head_too_large(limits)
        head = parse_head_h11(bytes(view[start:stop]))
    if len(head.target) > limits.uri_bytes:
        raise _uri_too_long(limits)
    if len(head.headers) > limits.header_count:
        raise _refusal(RefusalKind.TOO_MANY_HEADERS, f"the request has more than {limits.header_count} header fields")
    return head, stop


def _refuse_hopeless(data: bytearray, start: int, end: int, limits: HttpLimits) -> None:
    """Refuse an incomplete head that no further byte can save, instead of waiting for the time limit."""
    if data[start] <= 0x20 or data[start] >= 0x7F:
        # TLS to a plain port begins with 0x16; a lone CR may still become the empty line.
        if not (data[start] == _CR and end - start == 1):
            raise _refusal(RefusalKind.BAD_HEAD, "this is not an HTTP request")
        return
    if data.find(b"\n\n", start, end) >= 0 or data.find(b"\n\r\n", start, end) >= 0:
        # An empty line ends the head here for h11, but CRLF CRLF does not occur: some line ended in a lone LF.
        raise _refusal(RefusalKind.BAD_HEAD, "a line of the head does not end in CRLF")
    # Method, two spaces and the version take at most 64 bytes beside the target.
    if end - start > limits.uri_bytes + 64 and data.find(b"\n", start, start + limits.uri_bytes + 64) < 0:
        raise _uri_too_long(limits)
    if end - start >= limits.head_bytes:
        raise _head_too_large(limits)


def _refusal(kind: RefusalKind, detail: str) -> HttpRefusal:
    return HttpRefusal(kind=kind, detail=detail)


def _head_too_large(limits: HttpLimits) -> HttpRefusal:
    return _refusal(RefusalKind.HEAD_TOO_LARGE, f"the request head is longer than {limits.head_bytes} bytes")


def _uri_too_long(limits: HttpLimits) -> HttpRefusal:
    return _refusal(RefusalKind.URI_TOO_LONG, f"the request target is longer than {limits.uri_bytes} bytes")
