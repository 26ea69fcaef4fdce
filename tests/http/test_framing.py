"""What a head says about body and connection (RFC 9112, 6 and 9.3)."""

from __future__ import annotations

import pytest

from rs3d.http.framing import Expectation, Persistence, read_framing
from rs3d.http.messages import Head


def head(*fields: tuple[bytes, bytes], version: tuple[int, int] = (1, 1)) -> Head:
    return Head("PUT", b"/", version, ((b"host", b"a"), *fields))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (head(), 0),
        (head((b"content-length", b"0")), 0),
        (head((b"content-length", b"0017")), 17),
        (head((b"transfer-encoding", b"Chunked")), None),
    ],
)
def test_the_body_is_as_long_as_the_framing_says(found: Head, expected: int | None) -> None:
    assert read_framing(found, 100).body_bytes == expected


@pytest.mark.parametrize(
    ("value", "version", "expected"),
    [
        (None, (1, 1), Persistence.KEEP),
        (None, (1, 0), Persistence.CLOSE),
        (b"close", (1, 1), Persistence.CLOSE),
        (b"CLOSE", (1, 1), Persistence.CLOSE),
        (b"x,\tclose ,y", (1, 1), Persistence.CLOSE),
        (b"closed", (1, 1), Persistence.KEEP),
        (b"keep-alive", (1, 0), Persistence.KEEP),
        (b"x, Keep-Alive", (1, 0), Persistence.KEEP),
        (b"keep-alive, close", (1, 0), Persistence.CLOSE),
        (b"te", (1, 0), Persistence.CLOSE),
    ],
)
def test_the_connection_lives_as_the_client_says(
    value: bytes | None, version: tuple[int, int], expected: Persistence
) -> None:
    fields = [] if value is None else [(b"connection", value)]
    assert read_framing(head(*fields, version=version), 100).persistence is expected


def test_close_wins_over_keep_alive_in_any_order() -> None:
    fields = ((b"connection", b"close"), (b"connection", b"keep-alive"))
    for order in (fields, fields[::-1]):
        for version in ((1, 0), (1, 1)):
            assert read_framing(head(*order, version=version), 100).persistence is Persistence.CLOSE


def test_an_expectation_counts_only_with_a_body_and_in_http_1_1() -> None:
    expect = (b"expect", b"100-Continue")
    length = (b"content-length", b"5")
    assert read_framing(head(expect, length), 100).expectation is Expectation.CONTINUE
    assert read_framing(head(expect), 100).expectation is Expectation.NONE
    assert read_framing(head((b"expect", b""), length), 100).expectation is Expectation.NONE
    assert read_framing(head(expect, length, version=(1, 0)), 100).expectation is Expectation.NONE
