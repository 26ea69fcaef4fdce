"""Where an object's bytes come from: an HTTP body, an aws-chunked decoder, a file, plain bytes.

The engine pulls; a source never pushes. All of it is bounded by the buffer that the caller lends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rs3d.types.objects import Checksum


class Direct(Protocol):
    """The socket from which a body comes as it is, with no framing between, to be lent to a thread that receives."""

    def lend(self, stop: Callable[[], None]) -> int | None:
        """The descriptor, non-blocking, of which the next bytes are the body's next; None while that is not so, or
        nobody is to receive but the source itself. It stays open, and the source is not asked for bytes, until it is
        given back.

        Args:
            stop: makes whoever received it give it back soon; called on the loop, at most while it is lent.
        """
        ...

    def give_back(self, received_bytes: int, waited_s: float, *, is_slow: bool) -> None:
        """It is not used any more.

        Args:
            received_bytes: no more than were declared and had not come.
            waited_s: for the client, in all.
            is_slow: it was given up because the client let it wait for too long.
        """
        ...


class Framed(Protocol):
    """A body in a framing (aws-chunked) that somebody else takes away; the source, which knows its rules, receives what
    is framed and says what is wrong with it."""

    @property
    def framed_bytes(self) -> int:
        """All of them."""
        ...

    @property
    def has_signed_chunks(self) -> bool: ...

    @property
    def direct_framed(self) -> Direct:
        """How a thread may receive the framed bytes that follow those that `receive_framed` has delivered."""
        ...

    def lend_scanner(self) -> object:
        """See `kernels.awschunked.ChunkScanner.lend`."""
        ...

    async def receive_framed(self, buffer: memoryview) -> int:
        """Put at least one framed byte into `buffer`, and return their number. Not behind the last of them.

        Raises:
            IncompleteBody
        """
        ...

    def take_back(self, framed: memoryview) -> int:
        """All that was received so far, nothing of which was looked at: how many bytes of the body are in its front
        from now on. What follows is the source's to deliver. Raises as `BodySource.receive_into`."""
        ...

    def check_chunks(self, chunks: list[tuple[bytes, bytes]], *, is_broken: bool) -> None:
        """The SHA-256 and the signatures of the next signed chunks, and what the scanner says of its framing; it was
        given up because that `is_broken`. Any thread.

        Raises:
            BodyMalformed, IncompleteBody, and the source's own RequestErrors.
        """
        ...

    def end(self) -> None:
        """All framed bytes have gone through the scanner. Raises as `check_chunks`. Any thread."""
        ...

    def trailing_checksums(self) -> Sequence[Checksum]:
        """See `BodySource`."""
        ...


class BodySource(Protocol):
    """A stream of the client's own bytes, framing already removed."""

    @property
    def declared_bytes(self) -> int | None:
        """The length that was declared beforehand, or None when the source ends when it ends."""
        ...

    @property
    def direct(self) -> Direct | None:
        """How a thread may receive the bytes that follow those that `receive_into` has delivered; None where it may
        not."""
        ...

    @property
    def framed(self) -> Framed | None:
        """The same body with its framing, before any of it was received; None where it has none, or none that the
        source does not better take away itself."""
        ...

    def whole(self) -> memoryview | None:
        """All bytes at once when they are in memory already and fully checked, without waiting; else None.

        The view stays valid until the source is closed. After a non-None answer `receive_into` is not called.
        """
        ...

    async def receive_into(self, buffer: memoryview) -> int:
        """Put at least one byte into `buffer` (owned by the caller) and return their number; 0 at the end.

        Returns 0 only after everything the source itself can check (declared length, chunk and trailer signatures,
        the payload's declared SHA-256) has held.

        Raises:
            IncompleteBody, BodyMalformed, BadDigest, and the source's own RequestErrors.
        """
        ...

    def trailing_checksums(self) -> Sequence[Checksum]:
        """Checksums that the client sent after the body; empty before the end. The engine verifies them."""
        ...


class BytesSource:
    """Bytes in memory as a body. The buffer is borrowed until the put has ended."""

    __slots__ = ("_checksums", "_offset", "_view")

    def __init__(self, data: bytes | bytearray | memoryview, trailing: Sequence[Checksum] = ()) -> None:
        self._view = memoryview(data).cast("B")
        self._offset = 0
        self._checksums = tuple(trailing)

    @property
    def direct(self) -> None:
        return None

    @property
    def framed(self) -> None:
        return None

    @property
    def declared_bytes(self) -> int | None:
        return len(self._view)

    def whole(self) -> memoryview | None:
        return self._view

    async def receive_into(self, buffer: memoryview) -> int:
        piece = self._view[self._offset : self._offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._offset += len(piece)
        return len(piece)

    def trailing_checksums(self) -> Sequence[Checksum]:
        return self._checksums
