"""`rs3d.kernels.awschunked` against its oracle, at every split, valid and broken alike."""

from __future__ import annotations

import pickle
import random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs3d.kernels.awschunked import PIECES_MAX, ChunkedError, ChunkScanner, Piece, selftest
from tests.oracles import awschunked as oracle

SIG = b"0123456789abcdef" * 4
SIG2 = b"fedcba9876543210" * 4
Framing = Literal["signed", "unsigned"]

GOOD: list[tuple[Framing, bytes]] = [
    ("unsigned", b"0\r\n\r\n"),
    ("unsigned", b"5\r\nhello\r\n0\r\n\r\n"),
    ("unsigned", b"1\r\na\r\n2\r\nbc\r\n000\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"),
    ("unsigned", b"A\r\n0123456789\r\n0\r\na:1\r\nb:2\r\n\r\nnext request"),
    ("unsigned", b"4\r\n\r\n\r\n\r\n0\r\n\r\n"),
    ("signed", b"0;chunk-signature=" + SIG + b"\r\n\r\n"),
    ("signed", b"3;chunk-signature=" + SIG + b"\r\nabc\r\n0;chunk-signature=" + SIG2 + b"\r\n\r\n"),
    (
        "signed",
        b"1;chunk-signature="
        + SIG2
        + b"\r\n0\r\n0;chunk-signature="
        + SIG
        + b"\r\nx-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:"
        + SIG
        + b"\r\n\r\n",
    ),
]

BAD: list[tuple[Framing, bytes, int, str]] = [
    ("unsigned", b"\r\n", 0, "digits"),
    ("unsigned", b"+5\r\n", 0, "digits"),
    ("unsigned", b" 5\r\n", 0, "digits"),
    ("unsigned", b"0x5\r\n", 1, "digits"),
    ("unsigned", b"5_0\r\n", 1, "digits"),
    ("unsigned", b"5 \r\n", 1, "digits"),
    ("unsigned", b"5\nhello", 1, "digits"),
    ("unsigned", b"5\r\rhello", 2, "CRLF"),
    ("unsigned", b"00000000000000000\r\n", 16, "digits"),
    ("unsigned", b"8000000000000000\r\n", 15, "2\\^63"),
    ("unsigned", b"fffffffffffffffff\r\n", 15, "2\\^63"),
    ("unsigned", b"1\r\na\r\n7fffffffffffffff\r\n", 21, "2\\^63"),
    ("unsigned", b"5;chunk-signature=" + SIG + b"\r\n", 1, "unsigned"),
    ("unsigned", b"5\r\nhello5\r\n", 8, "followed by CRLF"),
    ("unsigned", b"5\r\nhello\n0\r\n\r\n", 8, "followed by CRLF"),
    ("unsigned", b"5\r\nhello\r0\r\n\r\n", 9, "followed by CRLF"),
    ("unsigned", b"0\r\n\n", 3, "trailer"),
    ("unsigned", b"0\r\na:b\n\r\n", 6, "trailer"),
    ("unsigned", b"0\r\na:\0\r\n\r\n", 5, "trailer"),
    ("unsigned", b"0\r\na:b\rc\r\n\r\n", 7, "trailer"),
    ("unsigned", b"0\r\n\ra", 4, "trailer"),
    ("signed", b"5\r\nhello", 1, "no chunk-signature"),
    ("signed", b"5;chunk-signature=" + SIG.upper() + b"\r\n", 28, "lower-case"),
    ("signed", b"5;chunk-signature=" + SIG[:63] + b"\r\n", 81, "64 lower-case"),
    ("signed", b"5;chunk-signature=" + SIG + b"0" * 80 + b"\r\n", 82, "SigV4A"),
    ("signed", b"5;chunk-signature=" + SIG + b"**\r\n", 82, "SigV4A"),
    ("signed", b"5;chunk-signature=" + SIG + b" \r\n", 82, "CRLF"),
    ("signed", b"5;chunk-extension=1\r\n", 8, "only chunk extension"),
    ("signed", b"5; chunk-signature=" + SIG + b"\r\n", 2, "only chunk extension"),
]


def _feed(framing: Framing, stream: bytes, cuts: list[int], *, compact: bool) -> oracle.Body:
    """Feed the stream in parts and gather what the scanner says, in the oracle's terms."""
    scanner, body = ChunkScanner(framing), oracle.Body()
    begins = True
    payload = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        part = bytearray(stream[start:end])
        at = 0
        while at < len(part) and not scanner.finished:
            try:
                found = scanner.compact(part, at) if compact else scanner.scan(bytes(part), at)
            except ChunkedError as error:
                body.error_offset = error.offset
                return body
            for piece in found.pieces:
                data = bytes(part[piece.offset : piece.offset + piece.length])
                if begins:
                    body.chunks.append((piece.chunk_bytes, b"", piece.signature))
                size, before, signature = body.chunks[-1]
                assert (size, signature) == (piece.chunk_bytes, piece.signature)
                body.chunks[-1] = (size, before + data, signature)
                begins = piece.ends_chunk
                assert piece.ends_chunk == (len(before + data) == size)
            if compact:
                payload += bytes(part[at : at + found.payload_bytes])
            at += found.consumed
    body.consumed, body.finished = scanner.stream_offset, scanner.finished
    body.trailers = scanner.trailers if scanner.finished else b""
    if compact and framing == "unsigned":  # no pieces there by contract: compare the payload as one
        body.chunks = [(len(payload), payload, None)]
    elif compact:
        assert payload == body.payload
    return body


def _same(mine: oracle.Body, true: oracle.Body, *, pieces: bool) -> None:
    assert mine.error_offset == true.error_offset
    if true.error_offset is not None:
        return
    assert (mine.finished, mine.consumed, mine.payload) == (true.finished, true.consumed, true.payload)
    assert mine.trailers == (true.trailers if true.finished else b"")
    if pieces:
        announced = [chunk for chunk in true.chunks if chunk[1] or chunk[0] == 0]
        assert mine.chunks == announced


@pytest.mark.parametrize(("framing", "stream"), [*GOOD, *((f, s) for f, s, _, _ in BAD)])
@pytest.mark.parametrize("compact", [False, True])
def test_every_pair_of_cuts_and_every_prefix_agrees_with_the_oracle(
    framing: Framing, stream: bytes, compact: bool
) -> None:
    whole = oracle.decode(stream, signed=framing == "signed")
    pieces = framing == "signed" or not compact
    stride = 1 if len(stream) < 60 else 7
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1, stride):
            _same(_feed(framing, stream, [first, second], compact=compact), whole, pieces=pieces)
        prefix = oracle.decode(stream[:first], signed=framing == "signed")
        _same(_feed(framing, stream[:first], [], compact=compact), prefix, pieces=pieces)
    _same(_feed(framing, stream, list(range(1, len(stream))), compact=compact), whole, pieces=pieces)


@pytest.mark.parametrize(("framing", "stream"), GOOD)
def test_good_bodies_finish_and_consume_nothing_beyond(framing: Framing, stream: bytes) -> None:
    scanner = ChunkScanner(framing)
    found = scanner.scan(stream)
    assert scanner.finished
    assert stream[found.consumed :] in (b"", b"next request")
    assert scanner.scan(b"more") == (0, 0, [])


@pytest.mark.parametrize(("framing", "stream", "offset", "reason"), BAD)
def test_broken_framing_names_the_byte_and_stays_broken(
    framing: Framing, stream: bytes, offset: int, reason: str
) -> None:
    scanner = ChunkScanner(framing)
    with pytest.raises(ChunkedError, match=reason) as caught:
        scanner.scan(stream)
    assert caught.value.offset == offset
    assert pickle.loads(pickle.dumps(caught.value)).offset == offset
    with pytest.raises(ChunkedError):
        scanner.scan(b"0\r\n\r\n")


def test_random_corruptions_agree_with_the_oracle() -> None:
    rng = random.Random(5)
    for _ in range(3000):
        framing, base = rng.choice(GOOD)
        stream = bytearray(base)
        for _ in range(rng.randrange(3)):
            stream[rng.randrange(len(stream))] = rng.choice(b"\r\n0;5af:\0 g")
        if rng.random() < 0.3:
            del stream[rng.randrange(len(stream)) :]
        true = oracle.decode(bytes(stream), signed=framing == "signed")
        cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randrange(5)))
        for compact in (False, True):
            mine = _feed(framing, bytes(stream), cuts, compact=compact)
            _same(mine, true, pieces=framing == "signed" or not compact)


@settings(max_examples=150, deadline=None)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    signed=st.booleans(),
    trailers=st.sampled_from([b"", b"x-amz-checksum-sha256:abc=\r\n"]),
    data=st.data(),
)
def test_what_the_oracle_frames_comes_back_from_any_split(
    chunks: list[bytes], signed: bool, trailers: bytes, data: st.DataObject
) -> None:
    framed = oracle.encode([(chunk, SIG if signed else None) for chunk in [*chunks, b""]], trailers)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(framed)), max_size=8)))
    body = _feed("signed" if signed else "unsigned", framed, cuts, compact=True)
    assert (body.payload, body.trailers, body.finished) == (b"".join(chunks), trailers, True)


def test_trailers_are_bounded() -> None:
    line = b"x:" + b"y" * 96 + b"\r\n"
    assert len(line) == 100
    fits = b"0\r\n" + line * 81 + b"z:" + b"y" * 88 + b"\r\n"
    scanner = ChunkScanner("unsigned")
    scanner.scan(fits + b"\r\n")
    assert len(scanner.trailers) == 8192
    for beyond in (b"0\r\n" + line * 82, b"0\r\n" + b"z" * 8193, b"0\r\n" + b"z" * 8191 + b"\r\n"):
        with pytest.raises(ChunkedError, match="8 KiB") as caught:
            ChunkScanner("unsigned").scan(beyond)
        assert caught.value.offset == 3 + 8192


def test_a_call_reports_a_bounded_number_of_pieces_and_goes_on() -> None:
    stream = oracle.encode([(b"x", SIG)] * (2 * PIECES_MAX + 5) + [(b"", SIG)])
    scanner, part, at, calls, seen = ChunkScanner("signed"), bytearray(stream), 0, 0, 0
    while not scanner.finished:
        found = scanner.compact(part, at)
        assert bytes(part[at : at + found.payload_bytes]) == b"x" * found.payload_bytes
        assert len(found.pieces) <= PIECES_MAX
        at, calls, seen = at + found.consumed, calls + 1, seen + len(found.pieces)
    assert (calls, seen, scanner.decoded_bytes) == (3, 2 * PIECES_MAX + 6, 2 * PIECES_MAX + 5)


def test_unsigned_compaction_takes_any_number_of_chunks_in_one_call() -> None:
    stream = oracle.encode([(b"x", None)] * 3000 + [(b"", None)])
    scanner, part = ChunkScanner("unsigned"), bytearray(stream)
    assert scanner.compact(part) == (len(stream), 3000, [])
    assert part[:3000] == b"x" * 3000
    assert scanner.finished


def test_large_chunks_are_moved_together_within_the_given_span() -> None:
    rng = random.Random(6)
    payload = rng.randbytes(3 * 65536)
    framed = oracle.encode([(payload[at : at + 65536], SIG) for at in range(0, len(payload), 65536)] + [(b"", SIG2)])
    buffer = bytearray(b"\xee" * 1000 + framed + b"\xee" * 1000)
    scanner = ChunkScanner("signed")
    found = scanner.compact(buffer, 1000, 1000 + len(framed))
    assert found.consumed == len(framed)
    assert buffer[1000 : 1000 + len(payload)] == payload
    assert buffer[:1000] == buffer[-1000:] == b"\xee" * 1000
    assert found.pieces[1] == Piece(1000 + 65536, 65536, 65536, SIG, True)
    assert found.pieces[-1] == Piece(1000 + 3 * 65536, 0, 0, SIG2, True)


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="neither"):
        ChunkScanner("plain")  # type: ignore[arg-type]
    scanner = ChunkScanner("unsigned")
    for start, end in [(-1, 3), (0, 6), (4, 3)]:
        with pytest.raises(ValueError, match="outside"):
            scanner.scan(b"0\r\n\r\n", start, end)
    with pytest.raises(BufferError):
        scanner.compact(b"0\r\n\r\n")
    with pytest.raises(ValueError, match="finished"):
        _ = scanner.trailers


def test_selftest_counts_its_checks() -> None:
    assert selftest() == 7
