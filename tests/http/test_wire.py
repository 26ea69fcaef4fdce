"""Response heads, byte for byte."""

from __future__ import annotations

import pytest

from rs3d.clock import ManualClock
from rs3d.http.wire import ConnectionField, HeadWriter, Unnumbered


def test_a_head_is_status_date_length_connection_and_the_handlers_fields() -> None:
    clock = ManualClock()
    writer = HeadWriter(clock)
    head = writer.write(200, [(b"ETag", b'"x"')], 5, ConnectionField.CLOSE)
    assert head == (
        b"HTTP/1.1 200 OK\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 5\r\nConnection: close\r\n"
        b'ETag: "x"\r\n\r\n'
    )
    clock.advance(1)
    head = writer.write(404, [], Unnumbered.CHUNKED, ConnectionField.KEEP_ALIVE)
    assert head == (
        b"HTTP/1.1 404 Not Found\r\nDate: Tue, 14 Nov 2023 22:13:21 GMT\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: keep-alive\r\n\r\n"
    )


@pytest.mark.parametrize("length", [Unnumbered.UNTIL_CLOSE, Unnumbered.UNSTATED])
def test_a_length_that_is_not_stated_leaves_no_field(length: Unnumbered) -> None:
    head = HeadWriter(ManualClock()).write(299, [], length, ConnectionField.ABSENT)
    assert head == b"HTTP/1.1 299 \r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\n"
