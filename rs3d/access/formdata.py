"""multipart/form-data as browsers post it to a bucket: fields first, then the file, whose bytes pass through.

Sans-I/O: bytes go in as they arrive, spans of the file come out. All but the file is bounded by S3's 20 KiB. What
follows the file is ignored, as on S3. Source: RFC 7578, RFC 2046 5.1; S3 API reference, *POST Object*.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from rs3d.access.errors import (
    IncorrectNumberOfFilesInPostRequest,
    MalformedPOSTRequest,
    MaxPostPreDataLengthExceeded,
)
from rs3d.errors import PreconditionFailed

MAXIMUM_PREDATA_BYTES = 20 * 1024
"""Everything but the file's content: S3's own figure."""
MAXIMUM_FIELDS = 100
"""Fields have about 100 bytes of framing each, so 20 KiB hold some 200; S3 knows 30."""

_FORM_TYPE = re.compile(r"multipart/form-data\s*((?:;.*)?)", re.IGNORECASE | re.DOTALL)
# RFC 2046 5.1.1: at most 70 of these, the last one no space.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_PARAMETER = re.compile(r';\s*([A-Za-z0-9*_-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))\s*')
_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n]*)")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_HTML_ESCAPES = re.compile(r"%(?:22|0D|0A)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FileStart:
    """The file begins; every field that counts is known. `filename` has no directories; type empty if not given."""

    filename: str
    content_type: str


@dataclass(frozen=True, slots=True)
class FileData:
    """The next bytes of the file: a view into what was fed, valid as long as that is."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The file is complete."""


FormEvent = FileStart | FileData | FileEnd


def parse_boundary(content_type: str) -> bytes:
    """The boundary in a Content-Type header.

    Raises:
        PreconditionFailed: it is not multipart/form-data; S3's own answer.
        MalformedPOSTRequest: it has no usable boundary.
    """
    match = _FORM_TYPE.fullmatch(content_type.strip())
    if match is None:
        raise PreconditionFailed("Bucket POST must be of the enclosure-type multipart/form-data")
    boundary = _parameters(match[1]).get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise MalformedPOSTRequest("the boundary is missing or has other than 1 to 70 of RFC 2046's characters")
    return boundary.encode("ascii")


class _State(enum.Enum):
    FIRST_DELIMITER = enum.auto()
    AFTER_DELIMITER = enum.auto()
    HEADERS = enum.auto()
    FIELD = enum.auto()
    FILE = enum.auto()
    DONE = enum.auto()


class FormReader:
    """Reads one form. Feed it all of the body in order, then `finish`."""

    __slots__ = ("_buffer", "_delimiter", "_field", "_find", "_position", "_predata_bytes", "_state", "fields")

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        """The fields so far, by lower-case name; complete once the file starts."""
        self._delimiter = b"\r\n--" + boundary
        self._find = re.compile(re.escape(self._delimiter))
        self._state = _State.FIRST_DELIMITER
        self._buffer = b""
        self._field = ""
        self._position = 0
        self._predata_bytes = 0

    def feed(self, data: bytes | bytearray | memoryview) -> list[FormEvent]:
        """Take the next bytes of the body.

        Args:
            data: any length; views in the events point into it.

        Raises:
            MalformedPOSTRequest, MaxPostPreDataLengthExceeded, IncorrectNumberOfFilesInPostRequest.
        """
        events: list[FormEvent] = []
        if self._state is _State.FILE:
            self._feed_file(memoryview(data), events)
        elif self._state is not _State.DONE:
            self._feed_fields(data, events)
        return events

    def finish(self) -> None:
        """The body has ended.

        Raises:
            MalformedPOSTRequest: within a part.
        """
        if self._state is not _State.DONE:
            raise MalformedPOSTRequest("the body ends before its closing boundary")

    def _feed_fields(self, data: bytes | bytearray | memoryview, events: list[FormEvent]) -> None:
        self._buffer += data
        while self._step(events):
            pass
        rest = self._buffer[self._position :]
        self._buffer, self._position = b"", 0
        if events:
            self._feed_file(memoryview(rest), events)
            return
        self._buffer = rest
        if self._predata_bytes + len(rest) > MAXIMUM_PREDATA_BYTES:
            raise MaxPostPreDataLengthExceeded(MAXIMUM_PREDATA_BYTES)

    def _step(self, events: list[FormEvent]) -> bool:
        """Advance by one piece of the form; False if more bytes are needed."""
        if self._state is _State.FIRST_DELIMITER:
            return self._read_first_delimiter()
        if self._state is _State.AFTER_DELIMITER:
            return self._read_after_delimiter()
        if self._state is _State.HEADERS:
            return self._read_headers(events)
        if self._state is _State.FIELD:
            return self._read_field()
        return False

    def _take(self, length: int) -> bytes:
        taken = self._buffer[self._position : self._position + length]
        self._position += length
        self._predata_bytes += length
        if self._predata_bytes > MAXIMUM_PREDATA_BYTES:
            raise MaxPostPreDataLengthExceeded(MAXIMUM_PREDATA_BYTES)
        return taken

    def _read_first_delimiter(self) -> bool:
        # Some clients put an empty line before the first boundary; no other preamble is of use to anybody.
        wanted = self._delimiter if self._buffer.startswith(b"\r") else self._delimiter[2:]
        if not wanted.startswith(self._buffer[: len(wanted)]):
            raise MalformedPOSTRequest("the body does not begin with its boundary")
        if len(self._buffer) < len(wanted):
            return False
        self._take(len(wanted))
        self._state = _State.AFTER_DELIMITER
        return True

    def _read_after_delimiter(self) -> bool:
        if len(self._buffer) - self._position < 2:
            return False
        end = self._take(2)
        if end == b"--":
            raise IncorrectNumberOfFilesInPostRequest()
        if end != b"\r\n":
            raise MalformedPOSTRequest("a boundary is followed by neither a line end nor the closing mark")
        self._state = _State.HEADERS
        return True

    def _read_headers(self, events: list[FormEvent]) -> bool:
        end = self._buffer.find(b"\r\n\r\n", self._position)
        if end < 0:
            return False
        block = self._take(end + 4 - self._position)[:-4]
        name, filename, content_type = _part_headers(block)
        if name == "file":
            events.append(FileStart(filename, content_type))
            self._state = _State.FILE
            return False
        if name in self.fields:
            raise MalformedPOSTRequest(f"the field {name} is given twice")
        if len(self.fields) >= MAXIMUM_FIELDS:
            raise MalformedPOSTRequest(f"more than {MAXIMUM_FIELDS} fields")
        self._field = name
        self._state = _State.FIELD
        return True

    def _read_field(self) -> bool:
        end = self._buffer.find(self._delimiter, self._position)
        if end < 0:
            return False
        value = self._take(end - self._position)
        self._take(len(self._delimiter))
        try:
            self.fields[self._field] = value.decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedPOSTRequest(f"the field {self._field} is not UTF-8") from None
        self._state = _State.AFTER_DELIMITER
        return True

    def _feed_file(self, view: memoryview, events: list[FormEvent]) -> None:
        if self._buffer:
            # The last piece ended in what may be the beginning of a boundary; rare, so the copy does not matter.
            view = memoryview(self._buffer + bytes(view))
            self._buffer = b""
        found = self._find.search(view)
        if found is not None:
            if found.start():
                events.append(FileData(view[: found.start()]))
            events.append(FileEnd())
            self._state = _State.DONE
            return
        kept = self._unfinished(view)
        self._buffer = bytes(view[len(view) - kept :])
        if len(view) > kept:
            events.append(FileData(view[: len(view) - kept]))

    def _unfinished(self, view: memoryview) -> int:
        """How many bytes at the end of `view` may be the beginning of the delimiter."""
        tail = bytes(view[-len(self._delimiter) + 1 :])
        start = tail.find(b"\r")
        while start >= 0:
            if self._delimiter.startswith(tail[start:]):
                return len(tail) - start
            start = tail.find(b"\r", start + 1)
        return 0


def _part_headers(block: bytes) -> tuple[str, str, str]:
    """Lower-case field name, file name without directories, and content type of one part."""
    try:
        lines = block.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        raise MalformedPOSTRequest("a part's headers are not UTF-8") from None
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None or match[1].lower() in headers:
            raise MalformedPOSTRequest("a part's headers are malformed")
        headers[match[1].lower()] = match[2].strip()
    kind, semicolon, rest = headers.get("content-disposition", "").partition(";")
    parameters = _parameters(semicolon + rest)
    # S3's fields become headers, so their names are header names (RFC 9110 5.1) and nothing else.
    if kind.strip().lower() != "form-data" or not _NAME.fullmatch(parameters.get("name", "")):
        raise MalformedPOSTRequest("a part has no Content-Disposition: form-data with a usable name")
    filename = re.split(r"[/\\]", parameters.get("filename", ""))[-1]
    return parameters["name"].lower(), filename, headers.get("content-type", "")


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or match[1].lower() in found:
            raise MalformedPOSTRequest("a header's parameters are malformed")
        quoted = match[2]
        found[match[1].lower()] = match[3] if quoted is None else _unescape(quoted)
        position = match.end()
    return found


def _unescape(quoted: str) -> str:
    # HTML writes %22, %0D and %0A; older browsers \"; a lone backslash is part of a Windows path.
    plain = quoted.replace('\\"', '"')
    return _HTML_ESCAPES.sub(lambda match: chr(int(match[0][1:], 16)), plain)
