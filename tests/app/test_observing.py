from __future__ import annotations

import contextvars
import logging

import pytest

from rs3d.app import metrics
from rs3d.app.observing import RequestRecord, WorkerObserver
from rs3d.http.messages import Head, Request, Scheme, SendOutcome
from rs3d.http.observer import Exchange
from rs3d.http.shortcut import Taken
from rs3d.kernels import smallwrites
from rs3d.telemetry import logs
from rs3d.telemetry.metrics import MetricsPage, render


class NoBody:
    declared_bytes = 0
    direct = None

    async def receive_into(self, buffer: memoryview) -> int:
        return 0

    def whole(self) -> memoryview | None:
        return None


REQUEST = Request(
    head=Head("GET", b"/bucket/key?X-Amz-Signature=abcdef0123456789", (1, 1), ()),
    body=NoBody(),
    peer="127.0.0.1:5",
    local="127.0.0.1:9000",
    scheme=Scheme.HTTP,
    request_id="0123456789ABCDEF",
    received_ns=0,
)


def exchange(
    status: int, *, request: Request | None = REQUEST, outcome: SendOutcome = SendOutcome.COMPLETE
) -> Exchange:
    return Exchange(
        request=request,
        request_id="0123456789ABCDEF",
        peer="127.0.0.1:5",
        status=status,
        bytes_in=10,
        bytes_out=20,
        duration_ns=3_000_000,
        outcome=outcome,
    )


@pytest.fixture
def page() -> MetricsPage:
    return MetricsPage()


@pytest.fixture
def observer(page: MetricsPage) -> WorkerObserver:
    return WorkerObserver(page.install(metrics.WORKER_FAMILIES), log_requests=False)


def serve(observer: WorkerObserver, operation: str, finished: Exchange) -> None:
    """One exchange in a context of its own, as each connection's task has one."""

    def run() -> None:
        if finished.request is not None:
            observer.request_started(finished.request)
        logs.operation.set(operation)
        observer.request_finished(finished)

    contextvars.copy_context().run(run)


def test_requests_are_counted_by_operation_and_class(page: MetricsPage, observer: WorkerObserver) -> None:
    for status in (200, 206, 404):
        serve(observer, "GetObject", exchange(status))
    text = render([page.sample()])
    assert 'rs3d_requests_total{operation="GetObject",status="2xx"} 2' in text
    assert 'rs3d_requests_total{operation="GetObject",status="4xx"} 1' in text
    assert 'rs3d_request_seconds_bucket{operation="GetObject",le="0.0025"} 0' in text
    assert 'rs3d_request_seconds_bucket{operation="GetObject",le="0.005"} 3' in text
    assert 'rs3d_request_seconds_sum{operation="GetObject"} 0.009000' in text
    assert "rs3d_received_bytes_total 30" in text
    assert "rs3d_sent_bytes_total 60" in text
    assert "rs3d_requests_in_flight 0" in text


def test_a_head_that_was_refused_counts_as_other(page: MetricsPage, observer: WorkerObserver) -> None:
    serve(observer, "PutObject", exchange(400, request=None))
    text = render([page.sample()])
    assert 'rs3d_requests_total{operation="other",status="4xx"} 1' in text
    assert "rs3d_requests_in_flight 0" in text


def test_a_lost_connection_is_told_apart(page: MetricsPage, observer: WorkerObserver) -> None:
    serve(observer, "", exchange(0, outcome=SendOutcome.CUT))
    text = render([page.sample()])
    assert 'status="lost"} 1' in text
    assert "rs3d_cut_responses_total 1" in text


def test_s10_a_trace_and_a_log_line_have_no_query(observer: WorkerObserver, caplog: pytest.LogCaptureFixture) -> None:
    records: list[RequestRecord] = []
    observer.trace = records.append
    with caplog.at_level(logging.INFO, logger="rs3d.request"):
        serve(observer, "GetObject", exchange(503))
    assert records[0].path == "/bucket/key"
    assert len(caplog.records) == 1
    assert "abcdef" not in str(vars(caplog.records[0]))


def test_successes_are_logged_only_when_asked(observer: WorkerObserver, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="rs3d.request"):
        serve(observer, "GetObject", exchange(200))
        assert caplog.records == []
        observer.log_requests = True
        serve(observer, "GetObject", exchange(200))
    assert len(caplog.records) == 1


def test_small_writes_are_counted_as_other_answers_of_a_shortcut(page: MetricsPage) -> None:
    pages = [page, MetricsPage()]
    one, other = (WorkerObserver(found.install(metrics.WORKER_FAMILIES), log_requests=False) for found in pages)
    fields = (27, 1, b"k", bytes(16), False, bytes(32), None, None, None)
    put = smallwrites.put(*fields, b"body", 0, 4, lambda _: None)
    removal = smallwrites.delete(28, 1, b"k", bytes(16), bytes(64), lambda _: None)
    for write, started_ns in ((put, 1_000_000), (removal, 4_000_000)):
        write.park(3, None, lambda _: None, started_ns, bytearray(4), 4)
    one.writes_taken([put, removal], 9_000_000)
    other.shortcut_taken(Taken([], 4, 0, "PutObject", 200, received_bytes=4), 8_000_000)
    other.shortcut_taken(Taken([], 4, 0, "DeleteObject", 204), 5_000_000)
    told = [render([found.sample()]) for found in pages]
    assert told[0] == told[1] and 'operation="PutObject"' in told[0]


def test_a_connection_that_was_taken_over_is_open_and_was_accepted_elsewhere(
    page: MetricsPage, observer: WorkerObserver
) -> None:
    observer.connection_opened("peer")
    observer.connection_taken_over("peer")
    text = render([page.sample()])
    assert "rs3d_connections_total 1" in text and "rs3d_open_connections 2" in text
    observer.connection_closed("peer")
    observer.connection_closed("peer")
    assert "rs3d_open_connections 0" in render([page.sample()])
