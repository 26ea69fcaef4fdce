"""How the bytes after a head are framed, and whether the connection may live on: decided once, from the head alone.

Source: RFC 9112 sections 6 and 9.3, RFC 9110 section 10.1.1.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from rs3d.http.messages import Head
from rs3d.http.refusals import HttpRefusal, RefusalKind

_FRAMING_FIELDS = frozenset({b"content-length", b"transfer-encoding", b"connection", b"expect"})


class Persistence(enum.Enum):
    """What the client said about the connection after this exchange."""

    KEEP = "keep"
    CLOSE = "close"


class Expectation(enum.Enum):
    """Whether the client waits for `100 Continue` before it sends the body."""

    NONE = "none"
    CONTINUE = "continue"


# Looking up a member of an enum class runs Python code in 3.11; a module constant does not.
_KEEP: Final = Persistence.KEEP
_CLOSE: Final = Persistence.CLOSE
_NOTHING: Final = Expectation.NONE


@dataclass(slots=True)
class Framing:
    """`body_bytes` is the Content-Length, 0 for no body, None for the chunked transfer coding."""

    body_bytes: int | None
    persistence: Persistence
    expectation: Expectation


def read_framing(head: Head, maximum_body_bytes: int) -> Framing:
    """Take the framing from a head that passed the rules.

    Raises:
        HttpRefusal: BODY_TOO_LARGE for a declared length above the maximum; EXPECTATION for an Expect that is not
            known here.
    """
    body_bytes: int | None = 0
    expectation = _NOTHING
    recent = head.version >= (1, 1)
    keeps, closes = recent, False
    for name, value in head.headers:
        if name not in _FRAMING_FIELDS:
            continue
        if name == b"content-length":
            body_bytes = int(value)
            if body_bytes > maximum_body_bytes:
                raise HttpRefusal(
                    kind=RefusalKind.BODY_TOO_LARGE, detail=f"the body is longer than {maximum_body_bytes} bytes"
                )
        elif name == b"transfer-encoding":
            body_bytes = None
        elif name == b"connection":
            options = [option.strip(b" \t") for option in value.lower().split(b",")]
            closes = closes or b"close" in options
            keeps = keeps or b"keep-alive" in options
        elif recent:
            # An HTTP/1.0 client cannot understand 100, so its Expect is ignored (RFC 9110, 10.1.1).
            if not value:  # a list of no expectations
                continue
            if value.lower() != b"100-continue":
                raise HttpRefusal(
                    kind=RefusalKind.EXPECTATION, detail="the only expectation that can be met is 100-continue"
                )
            expectation = Expectation.CONTINUE
    if body_bytes == 0:
        expectation = _NOTHING
    return Framing(body_bytes, _KEEP if keeps and not closes else _CLOSE, expectation)
