"""Byte ranges (RFC 9110 section 14). A range that is not well-formed, of another unit, or several at once is ignored
and the whole object is sent, as the RFC and S3 have it; one that touches no byte is refused with 416."""

from __future__ import annotations

import re

from rs3d.engine.results import ContentRange
from rs3d.errors import InvalidArgument, InvalidRange

# 19 digits hold every 64-bit offset; longer ones would only cost time in int().
_RANGE = re.compile(r"[Bb][Yy][Tt][Ee][Ss]=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*\Z")
_COPY_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{1,19})\Z")


def resolve_range(text: str, size_bytes: int) -> ContentRange | None:
    """The bytes that `text` (a Range header) asks of an object; None = it is to be ignored.

    Raises:
        InvalidRange: well-formed, but no byte of the object lies in it.
    """
    match = _RANGE.match(text)
    if match is None:
        return None
    first_text, last_text = match.groups()
    if first_text:
        first = int(first_text)
        last = int(last_text) if last_text else size_bytes - 1
        if last_text and last < first:
            return None
        if first >= size_bytes:
            raise InvalidRange(requested=text, size_bytes=size_bytes)
        return ContentRange(first, min(last, size_bytes - 1), size_bytes)
    if not last_text:
        return None
    suffix = int(last_text)
    if suffix == 0 or size_bytes == 0:
        raise InvalidRange(requested=text, size_bytes=size_bytes)
    return ContentRange(max(0, size_bytes - suffix), size_bytes - 1, size_bytes)


def resolve_copy_range(text: str, size_bytes: int) -> ContentRange:
    """The bytes that an x-amz-copy-source-range names; both ends are given and lie within the source.

    Raises:
        InvalidArgument: not of the form `bytes=first-last`.
        InvalidRange: outside the source.
    """
    match = _COPY_RANGE.match(text)
    if match is None or int(match[1]) > int(match[2]):
        raise InvalidArgument(name="x-amz-copy-source-range", value=text, reason="must be bytes=first-last")
    first, last = int(match[1]), int(match[2])
    if last >= size_bytes:
        raise InvalidRange(requested=text, size_bytes=size_bytes)
    return ContentRange(first, last, size_bytes)
