"""aws-chunked as a grammar that is sent one byte at a time: the twin of `rs3d.kernels.awschunked`.

The grammar is a generator; each `yield` takes the next byte, so the code reads like the production rules.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

HEX = b"0123456789abcdefABCDEF"
LOWER_HEX = b"0123456789abcdef"


class Malformed(Exception):
    """Raised inside the grammar at the byte that it cannot take."""


@dataclass(slots=True)
class Body:
    """What a stream decodes to; `error_offset` is set where it is not aws-chunked."""

    chunks: list[tuple[int, bytes, bytes | None]] = field(default_factory=list)
    """Declared size, payload seen so far, signature."""
    trailers: bytes = b""
    finished: bool = False
    consumed: int = 0
    error_offset: int | None = None

    @property
    def payload(self) -> bytes:
        return b"".join(payload for _, payload, _ in self.chunks)


def decode(stream: bytes, *, signed: bool) -> Body:
    """Decode as much as there is."""
    body = Body()
    grammar = _grammar(body, signed)
    next(grammar)
    for position, byte in enumerate(stream):
        try:
            grammar.send(byte)
        except Malformed:
            body.error_offset = position
            break
        except StopIteration:
            body.finished = True
            body.consumed = position + 1
            break
        body.consumed = position + 1
    return body


def encode(chunks: Sequence[tuple[bytes, bytes | None]], trailers: bytes = b"") -> bytes:
    """Frame chunks (payload and signature; the last one empty)."""
    framed = b""
    for payload, signature in chunks:
        extension = b"" if signature is None else b";chunk-signature=" + signature
        framed += b"%x%b\r\n" % (len(payload), extension)
        framed += payload + b"\r\n" if payload else b""
    return framed + trailers + b"\r\n"


def _grammar(body: Body, signed: bool) -> Generator[None, int, None]:
    total = 0
    while True:
        size, signature = yield from _header(total, signed)
        total += size
        payload = b""
        body.chunks.append((size, payload, signature))
        if size == 0:
            break
        while len(payload) < size:
            payload += bytes([(yield)])
            body.chunks[-1] = (size, payload, signature)
        yield from _exactly(b"\r\n")
    while (byte := (yield)) != 0x0D:
        yield from _trailer(body, byte)
    yield from _exactly(b"\n")


def _header(total: int, signed: bool) -> Generator[None, int, tuple[int, bytes | None]]:
    digits = b""
    while (byte := (yield)) in HEX:
        digits += bytes([byte])
        if len(digits) > 16 or int(digits, 16) + total >= 1 << 63:
            raise Malformed
    if not digits:
        raise Malformed
    if not signed:
        if byte != 0x0D:
            raise Malformed
        yield from _exactly(b"\n")
        return int(digits, 16), None
    if byte != ord(";"):
        raise Malformed
    yield from _exactly(b"chunk-signature=")
    signature = b""
    for _ in range(64):
        signature += bytes([(yield)])
        if signature[-1] not in LOWER_HEX:
            raise Malformed
    yield from _exactly(b"\r\n")
    return int(digits, 16), signature


def _trailer(body: Body, byte: int) -> Generator[None, int, None]:
    while byte != 0x0D:
        if byte in b"\n\0" or len(body.trailers) == 8192:
            raise Malformed
        body.trailers += bytes([byte])
        byte = yield
    for expected in b"\r\n":
        if byte != expected or len(body.trailers) == 8192:
            raise Malformed
        body.trailers += bytes([byte])
        if expected == 0x0D:
            byte = yield


def _exactly(expected: bytes) -> Generator[None, int, None]:
    for wanted in expected:
        if (yield) != wanted:
            raise Malformed
