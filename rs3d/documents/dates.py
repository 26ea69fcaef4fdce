"""Times as S3 writes them: ISO 8601 with milliseconds in XML, HTTP dates in headers.

Rendering is cached by second, because lists and busy servers repeat them. S3's own precision is the second: its XML
times end in `.000Z`, and so do ours, so that a client that compares XML and Last-Modified sees one time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_NANOSECONDS = 1_000_000_000
_DAY_S = 86_400
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
# RFC 9110 5.6.7: a recipient takes all three, a sender makes only the first.
_IMF_FIXDATE = re.compile(
    rf"[A-Z][a-z]{{2}}, (?P<day>[0-9]{{1,2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} (?:GMT|UTC|[+-]0000)"
)
_RFC_850 = re.compile(rf"[A-Z][a-z]{{5,8}}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT")
_ASCTIME = re.compile(rf"[A-Z][a-z]{{2}} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})")
_ISO_8601 = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,9}))?(?:Z|(?P<sign>[+-])(?P<off_hour>[0-9]{2}):?(?P<off_minute>[0-9]{2}))"
)


def iso8601(time_ns: int) -> str:
    """`2009-10-12T17:50:30.000Z`: the second that `time_ns` (since 1970, UTC) lies in."""
    return _iso8601(time_ns // _NANOSECONDS)


def http_date(time_ns: int) -> str:
    """`Mon, 12 Oct 2009 17:50:30 GMT` (RFC 9110 IMF-fixdate): the second that `time_ns` lies in."""
    return _http_date(time_ns // _NANOSECONDS)


def parse_http_date(text: str) -> int | None:
    """Nanoseconds since 1970 of an HTTP date in any of RFC 9110's three forms; None if it is none of them.

    A two-digit year more than 50 years ahead of 2026 is of the last century (RFC 9110 asks for such a rule).
    """
    for form in (_IMF_FIXDATE, _RFC_850, _ASCTIME):
        match = form.fullmatch(text)
        if match is None:
            continue
        year = int(match["year"])
        if form is _RFC_850:
            year += 2000 if year <= 76 else 1900
        month = _MONTHS.index(match["month"]) + 1
        return _nanoseconds(
            year, month, int(match["day"]), int(match["hour"]), int(match["minute"]), int(match["second"])
        )
    return None


def parse_iso8601(text: str) -> int | None:
    """Nanoseconds since 1970 of an ISO 8601 time with a zone; None if it is not one."""
    match = _ISO_8601.fullmatch(text)
    if match is None:
        return None
    names = ("year", "month", "day", "hour", "minute", "second")
    base = _nanoseconds(*(int(match[name]) for name in names))
    if base is None:
        return None
    if match["sign"]:
        offset = timedelta(hours=int(match["off_hour"]), minutes=int(match["off_minute"])).seconds * _NANOSECONDS
        base += offset if match["sign"] == "-" else -offset
    return base + int((match["fraction"] or "0").ljust(9, "0"))


@lru_cache(maxsize=4_096)
def _iso8601(epoch_s: int) -> str:
    # A page of a list has a thousand different seconds but few different days.
    day, second = divmod(epoch_s, _DAY_S)
    minute, second = divmod(second, 60)
    return f"{_iso8601_day(day)}T{minute // 60:02}:{minute % 60:02}:{second:02}.000Z"


@lru_cache(maxsize=256)
def _iso8601_day(day: int) -> str:
    return datetime.fromtimestamp(day * _DAY_S, UTC).strftime("%Y-%m-%d")


@lru_cache(maxsize=4_096)
def _http_date(epoch_s: int) -> str:
    # Not strftime: %a and %b follow the process's locale.
    at = datetime.fromtimestamp(epoch_s, UTC)
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day:02} {month} {at.year:04} {at.hour:02}:{at.minute:02}:{at.second:02} GMT"


def _nanoseconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    try:
        # A leap second is legal in all these forms; it counts as the second before it.
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) * _NANOSECONDS if second <= 60 else None
