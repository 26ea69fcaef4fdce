"""Requests that HTTP itself refuses, before or instead of the handler, and their plainest rendering.

The package knows no XML: a refusal is an error value, and the renderer that the composition root injects gives it a
body. Kinds say what is wrong; S3 may word a status differently from the table here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Final

from rs3d.errors import RequestError, SlowDown
from rs3d.http.messages import After, Bytes, Request, Response


class RefusalKind(enum.Enum):
    """What is wrong with a request, in the terms of HTTP."""

    BAD_HEAD = "bad-head"
    """The request line, a field or the framing breaks the grammar or a rule of `rules.py`."""
    BAD_CHUNK = "bad-chunk"
    """The chunked transfer coding of the body is malformed."""
    URI_TOO_LONG = "uri-too-long"
    HEAD_TOO_LARGE = "head-too-large"
    TOO_MANY_HEADERS = "too-many-headers"
    TRANSFER_CODING = "transfer-coding"
    """A transfer coding other than chunked."""
    VERSION = "version"
    """Not HTTP/1.0 or HTTP/1.1."""
    EXPECTATION = "expectation"
    """An Expect other than 100-continue."""
    SLOW_HEAD = "slow-head"
    SLOW_BODY = "slow-body"
    BODY_TOO_LARGE = "body-too-large"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    TOO_MANY_REQUESTS = "too-many-requests"


STATUS: Final[dict[RefusalKind, int]] = {
    RefusalKind.BAD_HEAD: 400,
    RefusalKind.BAD_CHUNK: 400,
    RefusalKind.URI_TOO_LONG: 414,
    RefusalKind.HEAD_TOO_LARGE: 431,
    RefusalKind.TOO_MANY_HEADERS: 431,
    RefusalKind.TRANSFER_CODING: 501,
    RefusalKind.VERSION: 505,
    RefusalKind.EXPECTATION: 417,
    RefusalKind.SLOW_HEAD: 408,
    RefusalKind.SLOW_BODY: 408,
    RefusalKind.BODY_TOO_LARGE: 413,
    RefusalKind.TOO_MANY_CONNECTIONS: 503,
    RefusalKind.TOO_MANY_REQUESTS: 503,
}

RETRY_AFTER_S: Final = 1
"""Retry-After of an admission refusal. Saturation by short requests passes within a second; SDKs add jitter."""


@dataclass(eq=False)
class HttpRefusal(RequestError):
    """The server refuses a request by itself. `detail` is one sentence fit for the client."""

    kind: RefusalKind
    detail: str
    sentence: ClassVar[str] = "{detail}"

    @property
    def status(self) -> int:
        """The status code HTTP has for this; the injected renderer may choose another."""
        return STATUS[self.kind]

    @property
    def retry_after_s(self) -> int | None:
        """Seconds for Retry-After; None when repeating the request is no use."""
        return RETRY_AFTER_S if self.status == 503 else None


def render_plain(error: Exception, request: Request | None, request_id: str) -> Response:
    """The default renderer: the sentence of a refusal as plain text; for any other error 500 without a detail.

    Never tells a client what an unexpected exception said: it may hold secrets or paths.
    """
    headers = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"x-amz-request-id", request_id.encode("ascii"))]
    after = After.KEEP_ALIVE
    if isinstance(error, HttpRefusal):
        status, text = error.status, error.detail
        if error.retry_after_s is not None:
            headers.append((b"Retry-After", b"%d" % error.retry_after_s))
    elif isinstance(error, SlowDown):
        status, text = 503, "the server is busy"
        headers.append((b"Retry-After", b"%d" % error.retry_after_s))
    else:
        status, text = 500, "internal error"
        after = After.CLOSE
    return Response(status=status, headers=headers, body=Bytes(text.encode() + b"\n"), after=after)
