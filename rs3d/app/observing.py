"""What a worker does with the news of its HTTP server: count, log, and send records to those who trace."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rs3d.app import metrics
from rs3d.http.messages import Request, SendOutcome
from rs3d.http.observer import Exchange
from rs3d.http.shortcut import Taken
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.telemetry import logs
from rs3d.telemetry.logs import fields
from rs3d.telemetry.metrics import DURATION_BOUNDS_S, Instrument

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


_BOUNDS_NS: Final = tuple(round(bound_s * 1e9) for bound_s in DURATION_BOUNDS_S)
_PUT: Final = ("PutObject", 200)
_DELETE: Final = ("DeleteObject", 204)
_KNOWN_SERIES: Final = 1024
"""Remembered (operation, status) pairs; some 110 operations meet a handful of statuses each."""


class WorkerObserver:
    """Implements `http.observer.Observer`. Runs for every request, so it adds to slots whose places it remembers: 2
    µs."""

    def __init__(self, instruments: dict[str, Instrument], *, log_requests: bool) -> None:
        self._requests = instruments[metrics.REQUESTS.name]
        self._seconds = instruments[metrics.REQUEST_SECONDS.name]
        self._cells = self._requests.cells
        self._sum_offset = metrics.REQUEST_SECONDS.slots_per_series - 1
        self._received = instruments[metrics.RECEIVED_BYTES.name].slot()
        self._sent = instruments[metrics.SENT_BYTES.name].slot()
        self._cut = instruments[metrics.CUT_RESPONSES.name]
        self._connections = instruments[metrics.CONNECTIONS.name]
        self._open = instruments[metrics.OPEN_CONNECTIONS.name]
        self._in_flight = instruments[metrics.IN_FLIGHT.name].slot()
        self._series: dict[tuple[str, int], tuple[int, int]] = {}
        self.log_requests = log_requests
        self.trace: Callable[[RequestRecord], None] | None = None
        """Called with every finished request while somebody traces."""

    def connection_opened(self, peer: str) -> None:
        self._connections.add(1)
        self._open.add(1)

    def connection_taken_over(self, peer: str) -> None:
        self._open.add(1)

    def connection_closed(self, peer: str) -> None:
        self._open.add(-1)

    def request_started(self, request: Request) -> None:
        logs.request_id.set(request.request_id)
        logs.operation.set("")
        self._cells[self._in_flight] += 1

    def response_head(self, request: Request, status: int) -> None:
        return

    def request_finished(self, exchange: Exchange) -> None:
        cells = self._cells
        operation = logs.operation.get() if exchange.request is not None else ""
        series = self._series.get((operation, exchange.status))
        if series is None:
            series = self._find_series(operation, exchange.status)
        counter, histogram = series
        cells[counter] += 1
        cells[histogram + bisect_left(_BOUNDS_NS, exchange.duration_ns)] += 1
        cells[histogram + self._sum_offset] += exchange.duration_ns // 1000
        cells[self._received] += exchange.bytes_in
        cells[self._sent] += exchange.bytes_out
        if exchange.request is not None:
            cells[self._in_flight] -= 1
        if exchange.outcome is SendOutcome.CUT:
            self._cut.add(1)
        if self.trace is not None:
            self.trace(_record(exchange))
        if self.log_requests or exchange.status >= 500:
            self._log(exchange, operation)

    @property
    def wants_requests(self) -> bool:
        return self.log_requests or self.trace is not None

    def shortcut_taken(self, taken: Taken, duration_ns: int) -> None:
        cells = self._cells
        series = self._series.get((taken.operation, taken.status))
        if series is None:
            series = self._find_series(taken.operation, taken.status)
        counter, histogram = series
        cells[counter] += 1
        cells[histogram + bisect_left(_BOUNDS_NS, duration_ns)] += 1
        cells[histogram + self._sum_offset] += duration_ns // 1000
        cells[self._received] += taken.received_bytes
        cells[self._sent] += taken.body_bytes

    def writes_taken(self, writes: list[SmallWrite], now_ns: int) -> None:
        cells, known = self._cells, self._series
        for write in writes:
            label = _PUT if write.is_put else _DELETE
            counter, histogram = known.get(label) or self._find_series(*label)
            duration_ns = now_ns - write.started_ns
            cells[counter] += 1
            cells[histogram + bisect_left(_BOUNDS_NS, duration_ns)] += 1
            cells[histogram + self._sum_offset] += duration_ns // 1000
            cells[self._received] += write.body_bytes

    def shortcut_cut(self, taken: Taken, duration_ns: int) -> None:
        self._cut.add(1)
        self.shortcut_taken(taken._replace(body_bytes=0), duration_ns)

    def _find_series(self, operation: str, status: int) -> tuple[int, int]:
        if len(self._series) >= _KNOWN_SERIES:
            self._series.clear()
        series = (self._requests.slot(operation, metrics.status_class(status)), self._seconds.slot(operation))
        self._series[operation, status] = series
        return series

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
