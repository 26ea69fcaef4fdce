"""A chunked body means the same however it arrives."""

from __future__ import annotations

import random

import pytest
from chunks import ChunkedBody

DATA = bytes(range(256)) * 20
TEXT = b"".join(b"%x\r\n%b\r\n" % (size, DATA[:size]) for size in (1, 16, 300, len(DATA))) + b"0\r\nX: y\r\n\r\n"
MEANT = DATA[:1] + DATA[:16] + DATA[:300] + DATA


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100, 10_000])
def test_pieces_of_any_size_give_the_same_bytes(most: int) -> None:
    chance = random.Random(most)
    body, found, at = ChunkedBody(), b"", 0
    while at < len(TEXT):
        assert not body.is_done
        size = chance.randint(1, most)
        found += b"".join(body.take(memoryview(TEXT)[at : at + size]))
        at += size
    assert body.is_done and found == MEANT


@pytest.mark.parametrize("text", [b"xyz\r\n", b"\r\n", b"1\r\nab\r\n", b"1" * 5000, b"0\r\n\r\n0\r\n\r\n"])
def test_what_is_no_chunked_body_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        list(ChunkedBody().take(memoryview(text)))
