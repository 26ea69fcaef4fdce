"""Where a head ends, and the limits on its size."""

from __future__ import annotations

import pytest

from rs3d.http.heads import read_head
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import Head
from rs3d.http.refusals import HttpRefusal, RefusalKind

GOOD = b"GET /b/k HTTP/1.1\r\nHost: a\r\nX-Amz-Date: 20261123T090000Z\r\n\r\n"
SMALL = HttpLimits(head_bytes=2048, uri_bytes=512, header_count=8)


def read(raw: bytes, limits: HttpLimits = SMALL, start: int = 0) -> tuple[Head, int] | None:
    data = bytearray(raw)
    return read_head(data, memoryview(data), start, len(data), limits)


def kind_of(raw: bytes, limits: HttpLimits = SMALL) -> RefusalKind:
    with pytest.raises(HttpRefusal) as caught:
        read(raw, limits)
    return caught.value.kind


def test_every_proper_beginning_of_a_head_waits_for_more() -> None:
    for end in range(1, len(GOOD)):
        assert read(GOOD[:end]) is None, GOOD[:end]


def test_the_position_after_the_head_is_told_and_what_follows_is_not_read() -> None:
    found = read(b"junk" + GOOD + b"\0body", start=4)
    assert found is not None
    head, position = found
    assert (head.target, position) == (b"/b/k", 4 + len(GOOD))


def test_one_empty_line_before_a_head_is_ignored_and_a_second_is_refused() -> None:
    found = read(b"\r\n" + GOOD)
    assert found is not None
    assert found[1] == len(GOOD) + 2
    assert read(b"\r\n") is None
    assert read(b"\r") is None
    assert kind_of(b"\r\n\r\n" + GOOD) is RefusalKind.BAD_HEAD


@pytest.mark.parametrize("line", [b"GET /b HTTP/1.1\nHost: a\n\n", b"GET /b HTTP/1.1\r\nHost: a\n\r\n"])
def test_a_head_whose_empty_line_follows_a_lone_lf_is_refused_without_waiting(line: bytes) -> None:
    assert kind_of(line) is RefusalKind.BAD_HEAD


@pytest.mark.parametrize("first", [b"\x16\x03\x01\x02\x00\x01", b"\n", b"\0", b" GET", b"\x80", b"\rx"])
def test_bytes_that_cannot_begin_a_request_are_refused_at_once(first: bytes) -> None:
    assert kind_of(first) is RefusalKind.BAD_HEAD


def test_a_head_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    def sized(size: int) -> bytes:
        frame = b"GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n"
        return frame.replace(b"X: ", b"X: " + b"y" * (size - len(frame)))

    assert read(sized(2048)) is not None
    assert kind_of(sized(2049)) is RefusalKind.HEAD_TOO_LARGE
    assert read(sized(4000)[:2047]) is None
    assert kind_of(sized(4000)[:2048]) is RefusalKind.HEAD_TOO_LARGE, "an endless head is waited for"


def test_a_target_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    def target(size: int) -> bytes:
        return b"GET /" + b"k" * (size - 1) + b" HTTP/1.1\r\nHost: a\r\n\r\n"

    assert read(target(512)) is not None
    assert kind_of(target(513)) is RefusalKind.URI_TOO_LONG
    assert kind_of(target(5000)[:1000]) is RefusalKind.URI_TOO_LONG, "an endless target is waited for"


def test_fields_are_counted() -> None:
    def fields(count: int) -> bytes:
        return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * (count - 1) + b"\r\n"

    assert read(fields(8)) is not None
    assert kind_of(fields(9)) is RefusalKind.TOO_MANY_HEADERS
