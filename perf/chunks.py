"""The body of an answer whose length was not known when it began (RFC 9112, 7.1)."""

from __future__ import annotations

from collections.abc import Iterator

MOST_LINE_BYTES = 4096


class ChunkedBody:
    """Takes a chunked body apart as it arrives. `is_done` after the empty line behind the last chunk."""

    __slots__ = ("_is_in_trailer", "_left", "_line", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._left = 0
        """Bytes of the chunk still to come, with the CRLF behind it."""
        self._line = b""
        self._is_in_trailer = False

    def take(self, piece: memoryview) -> Iterator[memoryview]:
        """The data in the next bytes received, as views of `piece`.

        Raises:
            ValueError: this is no chunked body, or something comes after its end.
        """
        at = 0
        while at < len(piece):
            if self.is_done:
                raise ValueError(f"{len(piece) - at} bytes after the last chunk")
            if self._left > 2:
                data = piece[at : at + self._left - 2]
                self._left -= len(data)
                at += len(data)
                yield data
                continue
            line_end = bytes(piece[at : at + MOST_LINE_BYTES]).find(b"\n") + 1
            end = at + line_end if line_end else len(piece)
            self._line += piece[at:end]
            at = end
            if len(self._line) > MOST_LINE_BYTES:
                raise ValueError(f"a line of more than {MOST_LINE_BYTES} bytes")
            if line_end:
                self._read_line(self._line.removesuffix(b"\n").removesuffix(b"\r"))
                self._line = b""

    def _read_line(self, line: bytes) -> None:
        if self._left:
            if line:
                raise ValueError(f"{line[:20]!r} behind a chunk")
            self._left = 0
        elif self._is_in_trailer:
            self.is_done = not line
        else:
            size = int(line.partition(b";")[0], 16)
            self._left = size + 2 if size else 0
            self._is_in_trailer = size == 0
