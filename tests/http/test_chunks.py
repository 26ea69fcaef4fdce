"""The chunked transfer coding, strictly (RFC 9112, 7.1)."""

from __future__ import annotations

import pytest

from rs3d.http.chunks import LINE_BYTES, ChunkDecoder
from rs3d.http.refusals import HttpRefusal, RefusalKind


def decode(wire: bytes, piece_bytes: int = 1 << 30, trailer_bytes: int = 64) -> tuple[bytes, bytes]:
    """Decode `wire` received in pieces.

    Returns:
        The data, and the bytes after the end of the body.
    """
    decoder = ChunkDecoder(trailer_bytes)
    held, out, position = bytearray(), bytearray(), 0
    while not decoder.done:
        if decoder.remaining and held:
            count = min(decoder.remaining, len(held))
            out += held[:count]
            del held[:count]
            decoder.take(count)
            continue
        if not decoder.remaining:
            del held[: decoder.advance(held, 0, len(held))]
            if decoder.done or (decoder.remaining and held):
                continue
        assert position < len(wire), "the decoder wants more than there is"
        held += wire[position : position + piece_bytes]
        position += piece_bytes
    return bytes(out), bytes(held) + wire[position:]


GOOD = b'5\r\nhello\r\n00A;name=value;flag; q="a\\"b"\r\n, big worl\r\n1\r\nd\r\n0\r\n\r\n'


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 1000])
def test_data_is_the_same_however_the_bytes_arrive(piece_bytes: int) -> None:
    assert decode(GOOD + b"GET", piece_bytes) == (b"hello, big world", b"GET")


def test_trailer_fields_are_checked_and_dropped() -> None:
    assert decode(b"0\r\nX-Checksum: abc\r\nEmpty:\r\n\r\nnext") == (b"", b"next")


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"5\r\nhelloworld\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n",
        b"5;a=\r\nhello\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b'5;a="b\r\nhello\r\n',
        b"5;\0\r\nhello\r\n",
        b"10000000000000000\r\n",
        b"0" * (LINE_BYTES + 2),
        b"5;" + b"a" * LINE_BYTES + b"\r\nhello\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\nX: \0\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 20 + b"\r\n",
        b"0\r\nX: " + b"y" * 1000,
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 1000])
def test_everything_else_is_refused(wire: bytes, piece_bytes: int) -> None:
    with pytest.raises(HttpRefusal) as caught:
        decode(wire, piece_bytes)
    assert caught.value.kind is RefusalKind.BAD_CHUNK


def test_sizes_are_read_as_hexadecimal_of_either_case() -> None:
    decoder = ChunkDecoder(0)
    line = bytearray(b"00000000fFfFfFfF\r\n")
    assert decoder.advance(line, 0, len(line)) == len(line)
    assert decoder.remaining == 0xFFFFFFFF
