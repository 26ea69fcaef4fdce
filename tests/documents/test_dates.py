"""Dates as S3 and HTTP write them, and all the forms that have to be read."""

from __future__ import annotations

import pytest

from rs3d.documents.dates import http_date, iso8601, parse_http_date, parse_iso8601

SECOND = 1_000_000_000
EXAMPLE_NS = 784_111_777 * SECOND  # RFC 9110's own example


def test_rendering() -> None:
    assert http_date(EXAMPLE_NS + 999_999_999) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert iso8601(EXAMPLE_NS + 999_999_999) == "1994-11-06T08:49:37.000Z"
    assert http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_all_forms_of_rfc_9110_are_read(text: str) -> None:
    assert parse_http_date(text) == EXAMPLE_NS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "sun, 06 nov 1994 08:49:37 gmt",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
    ],
)
def test_what_is_no_http_date(text: str) -> None:
    assert parse_http_date(text) is None


def test_a_leap_second_counts_as_the_second_before_it() -> None:
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == parse_http_date("Sat, 31 Dec 2016 23:59:59 GMT")


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1994-11-06T08:49:37Z", EXAMPLE_NS),
        ("1994-11-06T08:49:37.5Z", EXAMPLE_NS + SECOND // 2),
        ("1994-11-06T08:49:37.000000001Z", EXAMPLE_NS + 1),
        ("1994-11-06T10:19:37+01:30", EXAMPLE_NS),
        ("1994-11-06T07:49:37-0100", EXAMPLE_NS),
        ("1994-11-06T08:49:37", None),
        ("1994-13-06T08:49:37Z", None),
        ("1994-11-06 08:49:37Z", None),
    ],
)
def test_iso_8601(text: str, time_ns: int | None) -> None:
    assert parse_iso8601(text) == time_ns
