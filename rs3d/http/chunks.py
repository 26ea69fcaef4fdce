"""The chunked transfer coding, read strictly. Pure: no I/O.

Lenient readings of chunk sizes, extensions and line ends are how two servers in a row come to disagree about where a
body ends. So: CRLF only, no white space around a size, at most 16 hexadecimal digits, bounded extensions and trailers.

Source: RFC 9112 section 7.1.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from rs3d.http.refusals import HttpRefusal, RefusalKind

LINE_BYTES: Final = 256
"""Longest chunk-size line, extensions included. No S3 client sends extensions; a signature in one takes 85 bytes."""

_TOKEN: Final = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION: Final = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:%b)*" % _EXTENSION)
_TRAILER_LINE: Final = re.compile(_TOKEN + rb":[\t \x21-\x7e\x80-\xff]*")


class _Expected(enum.Enum):
    SIZE = "size"
    DATA = "data"
    DATA_END = "data end"
    TRAILER = "trailer"
    NOTHING = "nothing"


class ChunkDecoder:
    """Reads the framing; the data between is taken by the caller, who says so with `take`."""

    __slots__ = ("_expected", "_trailer_bytes", "remaining")

    def __init__(self, trailer_bytes: int) -> None:
        """Args:
        trailer_bytes: how long the trailer section may be. Its fields are checked and dropped, as RFC 9110, 6.5.1
            permits: none has a meaning for S3, whose trailers are inside aws-chunked.
        """
        self._expected = _Expected.SIZE
        self._trailer_bytes = trailer_bytes
        self.remaining = 0
        """Data bytes of the current chunk that were not taken yet."""

    @property
    def done(self) -> bool:
        """Whether the last chunk and the trailer section were read."""
        return self._expected is _Expected.NOTHING

    def take(self, count: int) -> None:
        """`count` of the `remaining` bytes were taken."""
        self.remaining -= count
        if not self.remaining:
            self._expected = _Expected.DATA_END

    def advance(self, data: bytearray, start: int, end: int) -> int:
        """Read framing from `data[start:end]` until data begins, the body ends or the bytes do not suffice.

        Returns:
            The position of the first byte not read.

        Raises:
            HttpRefusal: BAD_CHUNK.
        """
        while not self.remaining and not self.done:
            stop = data.find(b"\n", start, end)
            if stop < 0:
                if end - start > max(LINE_BYTES, self._trailer_bytes if self._expected is _Expected.TRAILER else 0):
                    raise _bad("a line of the chunked body is too long")
                break
            if stop == start or data[stop - 1] != 0x0D:
                raise _bad("a line of the chunked body does not end in CRLF")
            self._read_line(bytes(data[start : stop - 1]))
            start = stop + 1
        return start

    def _read_line(self, line: bytes) -> None:
        if self._expected is _Expected.DATA_END:
            if line:
                raise _bad("a chunk is longer than its size says")
            self._expected = _Expected.SIZE
        elif self._expected is _Expected.SIZE:
            match = _SIZE_LINE.fullmatch(line) if len(line) <= LINE_BYTES else None
            if match is None:
                raise _bad("the size of a chunk is malformed")
            self.remaining = int(match[1], 16)
            self._expected = _Expected.DATA if self.remaining else _Expected.TRAILER
        elif not line:
            self._expected = _Expected.NOTHING
        else:
            self._trailer_bytes -= len(line) + 2
            if self._trailer_bytes < 0:
                raise _bad("the trailer section is too long")
            if _TRAILER_LINE.fullmatch(line) is None:
                raise _bad("a trailer field is malformed")


def _bad(detail: str) -> HttpRefusal:
    return HttpRefusal(kind=RefusalKind.BAD_CHUNK, detail=detail)
