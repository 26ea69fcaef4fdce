"""The authoritative lane: h11 decides whether bytes are a request head, `rules.py` refuses some of what it accepts."""

from __future__ import annotations

import h11

from rs3d.http.limits import RECEIVE_BUFFER_BYTES
from rs3d.http.messages import Head
from rs3d.http.refusals import HttpRefusal, RefusalKind
from rs3d.http.rules import check_head, check_raw


def parse_head_h11(raw: bytes) -> Head:
    """Parse one complete head with h11 and the rules.

    A new h11 Connection serves each head: what h11 keeps between requests is kept by `connection.py` here, and a body
    never passes h11 (at 256 KiB a piece it reaches 0.2 GB/s, because it moves its buffer for every event).

    Args:
        raw: the head's bytes, ending with its empty line, nothing after it.

    Returns:
        The Head. Fields are taken from the bytes, because h11 merges and rewrites Content-Length and
        Transfer-Encoding; that h11 accepted every line makes the plain split exact.

    Raises:
        HttpRefusal: BAD_HEAD, TRANSFER_CODING or VERSION. Never blocks.
    """
    check_raw(raw)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=RECEIVE_BUFFER_BYTES)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        kind = RefusalKind.TRANSFER_CODING if error.error_status_hint == 501 else RefusalKind.BAD_HEAD
        raise HttpRefusal(kind=kind, detail=f"the request head is malformed: {_printable(error)}") from None
    if not isinstance(event, h11.Request):
        raise HttpRefusal(kind=RefusalKind.BAD_HEAD, detail="the request head is malformed")
    headers = []
    for line in raw[:-4].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    major, minor = event.http_version.split(b".")
    head = Head(
        method=event.method.decode("ascii"),
        target=bytes(event.target),
        version=(int(major), int(minor)),
        headers=tuple(headers),
    )
    return check_head(head)


def _printable(error: Exception) -> str:
    """h11's sentence without the client's bytes in it, which may be long or secret: what stands before a colon."""
    return str(error).split(":", 1)[0]
