from __future__ import annotations

import os

import pytest

from rs3d.errors import ProtocolMismatch
from rs3d.telemetry.metrics import Family, Kind, Label, MetricsPage, PageReader, create_page, render

REQUESTS = Family("requests_total", Kind.COUNTER, "Requests.", (Label("op", ("Get", "Put")), Label("code", ("2xx",))))
OPEN = Family("open", Kind.GAUGE, "Open connections.")
SECONDS = Family("seconds", Kind.HISTOGRAM, "Time.", (Label("op", ("Get",)),), (0.1, 1.0))


def test_counts_of_two_pages_are_added() -> None:
    pages = [MetricsPage(), MetricsPage()]
    for page in pages:
        page.install([REQUESTS, OPEN])["requests_total"].add(2, "Get", "2xx")
    text = render([page.sample() for page in pages])
    assert 'requests_total{op="Get",code="2xx"} 4' in text
    assert "# TYPE requests_total counter" in text


def test_an_unknown_label_value_counts_as_other() -> None:
    page = MetricsPage()
    page.install([REQUESTS])["requests_total"].add(1, "Drop'; table", "9xx")
    assert 'requests_total{op="other",code="other"} 1' in render([page.sample()])


def test_histogram_buckets_are_cumulative() -> None:
    page = MetricsPage()
    seconds = page.install([SECONDS])["seconds"]
    for value in (0.05, 0.1, 0.5, 7.0):
        seconds.observe(value, "Get")
    lines = render([page.sample()]).splitlines()
    assert 'seconds_bucket{op="Get",le="0.1"} 2' in lines
    assert 'seconds_bucket{op="Get",le="1.0"} 3' in lines
    assert 'seconds_bucket{op="Get",le="+Inf"} 4' in lines
    assert 'seconds_sum{op="Get"} 7.650000' in lines
    assert 'seconds_count{op="Get"} 4' in lines


def test_another_process_reads_a_page_without_knowing_its_families() -> None:
    fd = create_page()
    MetricsPage(fd).install([REQUESTS])["requests_total"].add(3, "Put", "2xx")
    reader = PageReader(fd)
    os.close(fd)
    assert reader.sample().total("requests_total") == 3


def test_a_page_that_nobody_wrote_reads_empty() -> None:
    fd = create_page()
    reader = PageReader(fd)
    os.close(fd)
    assert render([reader.sample()]) == "\n"


def test_counters_outlive_their_process_and_gauges_do_not() -> None:
    fd = create_page()
    first = MetricsPage(fd).install([REQUESTS, OPEN])
    first["requests_total"].add(5, "Get", "2xx")
    first["open"].set(9)
    second = MetricsPage(fd).install([REQUESTS, OPEN])
    os.close(fd)
    assert (second["requests_total"].read("Get", "2xx"), second["open"].read()) == (5, 0)


def test_other_families_start_from_zero() -> None:
    fd = create_page()
    MetricsPage(fd).install([OPEN, REQUESTS])["requests_total"].add(5, "Get", "2xx")
    assert MetricsPage(fd).install([REQUESTS])["requests_total"].read("Get", "2xx") == 0
    os.close(fd)


def test_too_many_series_are_refused() -> None:
    wide = Family("wide", Kind.COUNTER, "Too wide.", (Label("x", tuple(map(str, range(30000)))),))
    with pytest.raises(ProtocolMismatch):
        MetricsPage().install([wide])


def test_a_gauge_may_go_down() -> None:
    page = MetricsPage()
    gauge = page.install([OPEN])["open"]
    gauge.add(2)
    gauge.add(-3)
    assert "open -1" in render([page.sample()])
