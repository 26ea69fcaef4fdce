"""The time of a signature: `20130524T000000Z` (ISO 8601 basic form), or an HTTP date where only `Date` is sent."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_BASIC = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
# IMF-fixdate of RFC 9110 5.6.7, the only form that a sender may generate. `+0000` is what email libraries write.
_HTTP_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) ([0-9]{4})"
    r" ([0-9]{2}):([0-9]{2}):([0-9]{2}) (?:GMT|UTC|\+0000)"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=64)  # a busy server sees the same second over and over
def parse_basic(text: str) -> int | None:
    """Seconds since 1970 of `YYYYMMDDThhmmssZ`; None if it is not one."""
    match = _BASIC.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    return _epoch_s(year, month, day, hour, minute, second)


def parse_http_date(text: str) -> int | None:
    """Seconds since 1970 of an IMF-fixdate (RFC 9110 5.6.7); None if it is not one."""
    match = _HTTP_DATE.fullmatch(text)
    if match is None:
        return None
    day, month_name, year, hour, minute, second = match.groups()
    return _epoch_s(int(year), _MONTHS.index(month_name) + 1, int(day), int(hour), int(minute), int(second))


def format_basic(epoch_s: int) -> str:
    """`YYYYMMDDThhmmssZ`, as SigV4 signs it."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y%m%dT%H%M%SZ")


def format_extended(epoch_s: int) -> str:
    """`YYYY-MM-DDThh:mm:ssZ`, as S3's error documents show times."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _epoch_s(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        return None
