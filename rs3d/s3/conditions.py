"""Conditional headers (RFC 9110 section 13; S3 API reference, "Conditional requests") into the engine's conditions.
Pure."""

from __future__ import annotations

from rs3d.access.timestamps import parse_http_date
from rs3d.engine.requests import NO_CONDITIONS, ReadConditions
from rs3d.http.messages import Head
from rs3d.s3.errors import S3Refusal
from rs3d.types.operations import NO_PRECONDITIONS, Preconditions


def parse_etags(raw: bytes | None) -> tuple[str, ...] | None:
    """The entity tags of an If-Match or If-None-Match without quotes and without a weakness mark, or None when absent.

    S3's clients send them with and without quotes; both are taken.
    """
    if raw is None:
        return None
    tags: list[str] = []
    for piece in raw.decode("latin-1").split(","):
        tag = piece.strip()
        if tag.startswith("W/"):
            tag = tag[2:]
        if len(tag) >= 2 and tag[0] == tag[-1] == '"':
            tag = tag[1:-1]
        if tag:
            tags.append(tag)
    return tuple(tags)


def _seconds(raw: bytes | None) -> int | None:
    # RFC 9110 13.1.3: a condition whose date is not valid is ignored.
    return None if raw is None else parse_http_date(raw.decode("latin-1"))


def read_conditions(head: Head, prefix: bytes = b"") -> ReadConditions:
    """Conditions on a version that is read; `prefix` is `x-amz-copy-source-` for the source of a copy."""
    match = head.get(prefix + b"if-match")
    none_match = head.get(prefix + b"if-none-match")
    modified = head.get(prefix + b"if-modified-since")
    unmodified = head.get(prefix + b"if-unmodified-since")
    if match is None and none_match is None and modified is None and unmodified is None:
        return NO_CONDITIONS
    return ReadConditions(
        if_match=parse_etags(match),
        if_none_match=parse_etags(none_match),
        if_modified_since_s=_seconds(modified),
        if_unmodified_since_s=_seconds(unmodified),
    )


def write_preconditions(head: Head) -> Preconditions:
    """If-Match and If-None-Match of a put or Complete.

    An If-None-Match with entity tags means what RFC 9110 says, though S3 itself documents `*` alone.

    Raises:
        S3Refusal: NotImplemented for both at once, as S3 answers.
    """
    match = parse_etags(head.get(b"if-match"))
    none_match = parse_etags(head.get(b"if-none-match"))
    if match is None and none_match is None:
        return NO_PRECONDITIONS
    if match is not None and none_match is not None:
        raise S3Refusal("NotImplemented", "If-Match and If-None-Match exclude each other.")
    return Preconditions(if_match=match, if_none_match=none_match)


def delete_preconditions(head: Head) -> Preconditions:
    """If-Match, x-amz-if-match-last-modified-time and x-amz-if-match-size of DeleteObject.

    Raises:
        S3Refusal: a malformed time or size.
    """
    match = parse_etags(head.get(b"if-match"))
    raw_time = head.get(b"x-amz-if-match-last-modified-time")
    raw_size = head.get(b"x-amz-if-match-size")
    if match is None and raw_time is None and raw_size is None:
        return NO_PRECONDITIONS
    time_s = _seconds(raw_time)
    if raw_time is not None and time_s is None:
        raise S3Refusal("InvalidArgument", "x-amz-if-match-last-modified-time is not an HTTP date.")
    if raw_size is not None and not (raw_size.isdigit() and len(raw_size) < 20):
        raise S3Refusal("InvalidArgument", "x-amz-if-match-size is not a number of bytes.")
    return Preconditions(
        if_match=match,
        if_match_last_modified_s=time_s,
        if_match_size_bytes=None if raw_size is None else int(raw_size),
    )
