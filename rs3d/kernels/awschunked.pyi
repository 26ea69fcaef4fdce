"""The aws-chunked framing of S3 uploads, scanned in place: sans-I/O, resumable at any byte, strict.

The scanner knows framing, not cryptography: for each chunk it tells where its payload lies and which signature it came
with, and the caller hashes the payload and checks the chain. Typical use, one pooled buffer a segment:

    scanner = ChunkScanner("signed")
    count = sock.recv_into(buffer)
    start = 0
    while start < count and not scanner.finished:
        found = scanner.compact(buffer, start, count)
        for piece in found.pieces:
            chunk_hash.update(view[piece.offset : piece.offset + piece.length])
            if piece.ends_chunk: ...check piece.signature...
        write(view[start : start + found.payload_bytes])
        start += found.consumed

Strict: CRLF only, sizes of 1 to 16 hexadecimal digits without sign, space or underscore, no extension but
chunk-signature, sizes and their sum below 2^63, trailers within 8 KiB. Nothing but a signature and the trailers is
buffered. Source: AWS, "Transferring Payload in Multiple Chunks" (signed, and unsigned with trailers).
Oracle: `tests/oracles/awschunked.py`. Loop-safe: memory speed; the GIL is dropped from 8 KiB on.
"""

from typing import Final, Literal, NamedTuple, final

from _typeshed import ReadableBuffer, WriteableBuffer

TRAILERS_BYTES_MAX: Final[int]
PIECES_MAX: Final[int]
"""Pieces that one call reports at most; it then stops, and `consumed` says where to go on."""

class ChunkedError(ValueError):
    """The framing is broken. The scanner stays broken: every later call raises the same."""

    offset: int
    """Position in the framed stream of the first byte that cannot be right."""
    reason: str
    def __init__(self, offset: int, reason: str) -> None: ...

class Piece(NamedTuple):
    """A run of payload bytes of one chunk. The final chunk is reported with length 0."""

    offset: int
    """Where it lies in the buffer that was passed (after compaction, for `compact`)."""
    length: int
    chunk_bytes: int
    """The size that the chunk declares; 0 for the final one."""
    signature: bytes | None
    """64 lower-case hexadecimal digits of a signed body's chunk."""
    ends_chunk: bool
    """The chunk's payload is complete with this piece."""

class Scan(NamedTuple):
    """What one call found."""

    consumed: int
    """Bytes scanned from `start` on: all of them, unless the body ended or PIECES_MAX pieces were found."""
    payload_bytes: int
    pieces: list[Piece]

@final
class ChunkScanner:
    """One body's scanner. Not for two threads at once (RuntimeError)."""

    def __new__(cls, framing: Literal["signed", "unsigned"]) -> ChunkScanner:
        """
        Args:
            framing: whether every chunk must, or must not, carry a chunk-signature.

        Raises:
            ValueError: neither.
        """

    def scan(self, body: ReadableBuffer, start: int = 0, end: int = -1) -> Scan:
        """Scan body[start:end], changing nothing; `end` -1 means all.

        Raises:
            ChunkedError: the framing is broken.
            ValueError: start and end do not lie within the buffer.
        """

    def compact(self, body: WriteableBuffer, start: int = 0, end: int = -1) -> Scan:
        """Scan body[start:end] and move its payload together to body[start : start + payload_bytes].

        The bytes between there and `start + consumed` are left undefined. An unsigned body reports no pieces: nobody
        needs its chunks' borders, and so no number of tiny chunks costs more than its bytes.

        Raises:
            ChunkedError: the framing is broken; the buffer's contents are undefined then.
            ValueError: start and end do not lie within the buffer.
        """

    def lend(self) -> object:
        """The scanner for another kernel (`bodyhash.Intake`), as a capsule, which keeps it alive. Whoever has it calls
        nothing of the scanner while that kernel is at work."""

    def check(self) -> None:
        """Raises ChunkedError when the framing is broken, whoever found that out."""

    @property
    def finished(self) -> bool:
        """The final CRLF was seen; later bytes are not consumed. False at the end of input means a truncated body."""

    @property
    def decoded_bytes(self) -> int:
        """Sum of the chunk sizes declared so far: compare with x-amz-decoded-content-length."""

    @property
    def stream_offset(self) -> int:
        """Framed bytes consumed so far."""

    @property
    def trailers(self) -> bytes:
        """The trailer lines with their CRLFs, without the empty line.

        Raises:
            ValueError: the scanner is not finished.
        """

def selftest() -> int:
    """Known bodies, whole and split, and known refusals. Returns the number of checks; well under 1 ms.

    Raises:
        RuntimeError: an answer is wrong.
    """
