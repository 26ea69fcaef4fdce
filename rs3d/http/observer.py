"""What the server tells metrics, traces and logs. All calls are synchronous and come from the connection's own task,
so a context variable set in `request_started` is seen by the handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rs3d.http.messages import Request, SendOutcome
from rs3d.http.shortcut import Taken
from rs3d.kernels.smallwrites import SmallWrite


@dataclass(slots=True)
class Exchange:
    """One finished exchange, for the log line and the counters. Not frozen, because that would cost 1 µs."""

    request: Request | None
    """None when the head was refused."""
    request_id: str
    peer: str
    status: int
    """The status sent, or that was about to be sent; 0 when the connection was lost before there was one."""
    bytes_in: int
    """Body bytes received, framing excluded."""
    bytes_out: int
    """Body bytes handed to the kernel, framing excluded."""
    duration_ns: int
    """From the complete head to the end of the response, on the boot clock."""
    outcome: SendOutcome


class Observer(Protocol):
    """Receives what happens. Must not raise and must not block."""

    @property
    def wants_requests(self) -> bool:
        """Whether every single request is to be told with its head (a trace, a log of requests): no shortcuts then."""
        ...

    def connection_opened(self, peer: str) -> None:
        """One was accepted."""
        ...

    def connection_taken_over(self, peer: str) -> None:
        """One that another process accepted is this one's now; for that one it was closed."""
        ...

    def connection_closed(self, peer: str) -> None: ...

    def request_started(self, request: Request) -> None:
        """A head was accepted; the handler comes next."""
        ...

    def response_head(self, request: Request, status: int) -> None:
        """The handler, or the renderer in its stead, has answered; sending comes next."""
        ...

    def request_finished(self, exchange: Exchange) -> None:
        """The response has ended or was cut. Also called for refused heads."""
        ...

    def shortcut_taken(self, taken: Taken, duration_ns: int) -> None:
        """A request was answered by a shortcut, whole; none of the other calls was made for it."""
        ...

    def writes_taken(self, writes: list[SmallWrite], now_ns: int) -> None:
        """As `shortcut_taken`, for small writes that were answered at that moment of the boot clock."""
        ...

    def shortcut_cut(self, taken: Taken, duration_ns: int) -> None:
        """The connection was lost before a shortcut's answer was sent whole."""
        ...


class SilentObserver:
    """Observes nothing."""

    __slots__ = ()

    wants_requests = False

    def connection_opened(self, peer: str) -> None:
        return

    def connection_taken_over(self, peer: str) -> None:
        return

    def connection_closed(self, peer: str) -> None:
        return

    def request_started(self, request: Request) -> None:
        return

    def response_head(self, request: Request, status: int) -> None:
        return

    def request_finished(self, exchange: Exchange) -> None:
        return

    def shortcut_taken(self, taken: Taken, duration_ns: int) -> None:
        return

    def writes_taken(self, writes: list[SmallWrite], now_ns: int) -> None:
        return

    def shortcut_cut(self, taken: Taken, duration_ns: int) -> None:
        return
