"""The HTTP/1.1 server: sockets, framing, limits, TLS. It knows nothing of S3.

Truth: RFC 9110 and RFC 9112; h11 decides what a head is, `rules.py` what of that is refused all the same.
This module and the four it re-exports are free of trio; the server itself is imported from `rs3d.http.server`.
May import rs3d.types, rs3d.errors, rs3d.clock, rs3d.kernels and rs3d.telemetry. Rank 4.
"""

from rs3d.http.limits import HttpLimits
from rs3d.http.messages import (
    After,
    Body,
    Buffer,
    Bytes,
    FdOwnership,
    FileSpan,
    FileSpans,
    Handler,
    Head,
    NoBody,
    Render,
    Request,
    RequestBody,
    Response,
    Scheme,
    SendOutcome,
    Stream,
)
from rs3d.http.observer import Exchange, Observer, SilentObserver
from rs3d.http.refusals import HttpRefusal, RefusalKind, render_plain

__all__ = [
    "After",
    "Body",
    "Buffer",
    "Bytes",
    "Exchange",
    "FdOwnership",
    "FileSpan",
    "FileSpans",
    "Handler",
    "Head",
    "HttpLimits",
    "HttpRefusal",
    "NoBody",
    "Observer",
    "RefusalKind",
    "Render",
    "Request",
    "RequestBody",
    "Response",
    "Scheme",
    "SendOutcome",
    "SilentObserver",
    "Stream",
    "render_plain",
]
