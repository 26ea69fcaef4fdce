"""Every bound of the HTTP server, with the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rs3d.errors import ConfigurationError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

RECEIVE_BUFFER_BYTES = 64 * KIB
"""Size of a pooled receive buffer: holds the largest head and, beside an ordinary one, a body that is small enough to
be handled without another system call."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of one server process. Durations in seconds, sizes in bytes; each must be positive."""

    head_bytes: int = 32 * KIB
    """Request line and fields together. S3 allows 8 KiB of fields; a presigned URI with a session token comes on top.
    At most half a receive buffer, so that a head never has to grow one."""

    header_count: int = 256
    """Fields in a head. 2 KiB of user metadata in the shortest possible fields are some 200; Apache allows 100."""

    uri_bytes: int = 16 * KIB
    """Request target. A key of 1,024 bytes is 3 KiB when every byte is escaped; session tokens reach several KiB."""

    trailer_bytes: int = 8 * KIB
    """Trailer section after a chunked body; S3 sends its checksums inside aws-chunked bodies, not here."""

    body_bytes: int = 6 * GIB
    """Body of one request. S3 stores at most 5 GiB a request; aws-chunked framing with 8 KiB chunks adds 1.2 %."""

    head_timeout_s: float = 20.0
    """From the first byte of a head to its last; also for the TLS handshake and for the first byte of a connection.
    Apache's value."""

    idle_timeout_s: float = 120.0
    """Between requests. Longer than the 90 s after which Go's client drops an idle connection, so that the server
    seldom closes one that a client is about to use."""

    stall_timeout_s: float = 30.0
    """Longest wait for the next byte of a body, or for room to send the next byte of a response."""

    minimum_rate_bytes_per_s: int = 500
    """Average rate below which a body or a response is cut once `rate_grace_s` is used up. Only time spent waiting for
    the client counts, not the server's own work. Apache's value: slower than any real link, faster than an attack."""

    rate_grace_s: float = 30.0
    """Waiting time a client has beside what the minimum rate gives it, and the most that it can save up."""

    drain_bytes: int = 64 * KIB
    """Unread rest of a body that is read and thrown away to keep the connection; more costs more than reconnecting."""

    linger_timeout_s: float = 5.0
    """After a final answer on a connection that still receives, how long the rest is thrown away so that the client can
    read the answer before a reset destroys it (RFC 9112, 9.6)."""

    linger_bytes: int = 16 * MIB
    """The same in bytes: what a client has in flight in its socket buffers and the network, generously."""

    connections: int = 4096
    """Open connections of one process; more are answered 503. Idle ones cost a few KiB each; keep below LimitNOFILE."""

    requests_in_flight: int = 512
    """Requests that handlers of one process may work on at once; more are answered 503 SlowDown. Each may hold buffers
    of a few MiB, and a queue longer than this is longer than any client's patience."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ConfigurationError(source="http", key=field.name, reason="must be positive")
        if self.head_bytes > RECEIVE_BUFFER_BYTES // 2:
            reason = f"at most {RECEIVE_BUFFER_BYTES // 2} bytes, half a receive buffer"
            raise ConfigurationError(source="http", key="head_bytes", reason=reason)
        if self.uri_bytes > self.head_bytes:
            raise ConfigurationError(source="http", key="uri_bytes", reason="more than head_bytes")
