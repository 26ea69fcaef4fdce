"""What a worker does with the news of its HTTP server: count, log, and send records to those who trace."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rs3d.app import metrics
from rs3d.http.messages import Request, SendOutcome
from rs3d.http.observer import Exchange
from rs3d.telemetry import logs
from rs3d.telemetry.logs import fields
from rs3d.telemetry.metrics import Instrument

log = logging.getLogger("rs3d.request")

LONGEST_LOGGED_PATH: Final = 1200
"""Bucket and key, each byte escaped at worst in part; the query is never logged: it may hold a signature."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One finished request for a trace. No header, no query value."""

    unix_s: float
    request_id: str
    peer: str
    method: str
    path: str
    status: int
    bytes_in: int
    bytes_out: int
    duration_us: int


class WorkerObserver:
    """Implements `http.observer.Observer`."""

    def __init__(self, instruments: dict[str, Instrument], *, log_requests: bool) -> None:
        self._requests = instruments[metrics.REQUESTS.name]
        self._seconds = instruments[metrics.REQUEST_SECONDS.name]
        self._received = instruments[metrics.RECEIVED_BYTES.name]
        self._sent = instruments[metrics.SENT_BYTES.name]
        self._cut = instruments[metrics.CUT_RESPONSES.name]
        self._connections = instruments[metrics.CONNECTIONS.name]
        self._open = instruments[metrics.OPEN_CONNECTIONS.name]
        self._in_flight = instruments[metrics.IN_FLIGHT.name]
        self.log_requests = log_requests
        self.trace: Callable[[RequestRecord], None] | None = None
        """Called with every finished request while somebody traces."""

    def connection_opened(self, peer: str) -> None:
        self._connections.add(1)
        self._open.add(1)

    def connection_closed(self, peer: str) -> None:
        self._open.add(-1)

    def request_started(self, request: Request) -> None:
        logs.request_id.set(request.request_id)
        logs.operation.set("")
        self._in_flight.add(1)

    def response_head(self, request: Request, status: int) -> None:
        return

    def request_finished(self, exchange: Exchange) -> None:
        operation = logs.operation.get()
        if exchange.request is None:
            operation = ""
        else:
            self._in_flight.add(-1)
        self._requests.add(1, operation, metrics.status_class(exchange.status))
        self._seconds.observe(exchange.duration_ns / 1e9, operation)
        self._received.add(exchange.bytes_in)
        self._sent.add(exchange.bytes_out)
        if exchange.outcome is SendOutcome.CUT:
            self._cut.add(1)
        if self.trace is not None:
            self.trace(_record(exchange))
        if self.log_requests or exchange.status >= 500:
            self._log(exchange, operation)

    def _log(self, exchange: Exchange, operation: str) -> None:
        record = _record(exchange)
        log.info(
            "request",
            extra=fields(
                operation=operation or "unknown",
                method=record.method,
                path=record.path,
                status=record.status,
                peer=record.peer,
                bytes_in=record.bytes_in,
                bytes_out=record.bytes_out,
                duration_us=record.duration_us,
                outcome=exchange.outcome.value,
            ),
        )


def _record(exchange: Exchange) -> RequestRecord:
    head = exchange.request.head if exchange.request is not None else None
    path = head.target.partition(b"?")[0].decode("latin-1") if head is not None else ""
    return RequestRecord(
        unix_s=time.time(),
        request_id=exchange.request_id,
        peer=exchange.peer,
        method=head.method if head is not None else "",
        path=path[:LONGEST_LOGGED_PATH],
        status=exchange.status,
        bytes_in=exchange.bytes_in,
        bytes_out=exchange.bytes_out,
        duration_us=exchange.duration_ns // 1000,
    )
