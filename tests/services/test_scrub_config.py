from __future__ import annotations

import pytest

from rs3d.errors import ConfigurationError, InvalidArgument
from rs3d.services.scrubstate import ScrubConfig, parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("200MiB/s", 200 << 20),
        ("1.5GiB/s", 3 << 29),
        ("50MB/s", 50_000_000),
        ("1000", 1000),
        ("0", 0),
        ("64 kib/s", 65536),
    ],
)
def test_rates_are_read_with_their_units(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "-1", "12 parsecs", "1e9", "9999999GiB/s", "1..2MiB"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="bytes a second"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("check_interval_s", -1.0),
        ("check_interval_s", float("nan")),
        ("rate_bytes_per_s", -1),
        ("max_concurrent_repairs", 0),
        ("max_concurrent_repairs", 65),
        ("corruption_threshold", 0.0),
        ("corruption_threshold", 1.5),
    ],
)
def test_impossible_settings_are_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=key):
        ScrubConfig(**{key: value})  # type: ignore[arg-type]
