"""Object metadata between HTTP headers and `ObjectMeta`: system headers, user metadata, and the headers of GET and
HEAD.

Source: S3 User Guide, "Working with object metadata"; S3 API reference, GetObject (response-* overrides). Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rs3d.documents.dates import http_date
from rs3d.engine.results import ObjectHead
from rs3d.http.messages import Head
from rs3d.s3.checksums import checksum_headers
from rs3d.s3.encryption import version_headers
from rs3d.s3.errors import S3Refusal
from rs3d.types.objects import Pairs

SYSTEM_HEADERS: Final = (
    b"cache-control",
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"content-type",
    b"expires",
)
"""Headers that S3 stores with an object and returns with it."""

MAXIMUM_USER_METADATA_BYTES: Final = 2048
"""S3's limit on the sum of names and values of x-amz-meta-* headers."""

_META: Final = b"x-amz-meta-"

_RESPONSE_NAMES: Final[dict[str, bytes]] = {
    "cache-control": b"Cache-Control",
    "content-disposition": b"Content-Disposition",
    "content-encoding": b"Content-Encoding",
    "content-language": b"Content-Language",
    "content-type": b"Content-Type",
    "expires": b"Expires",
}

_OVERRIDES: Final[dict[str, str]] = {f"response-{name}": name for name in _RESPONSE_NAMES}

_DEFAULT_CONTENT_TYPE: Final = "binary/octet-stream"
"""S3's type for an object that was put without one."""


def stored_headers(head: Head) -> Pairs:
    """The system headers to store. `aws-chunked` is a framing of the transfer and never part of Content-Encoding.

    Raises:
        S3Refusal: a value is not printable text.
    """
    found: list[tuple[str, str]] = []
    for name in SYSTEM_HEADERS:
        raw = head.get(name)
        if raw is None:
            continue
        value = _text(name, raw)
        if name == b"content-encoding":
            codings = [coding.strip() for coding in value.split(",")]
            kept = [coding for coding in codings if coding and coding.lower() != "aws-chunked"]
            value = value if len(kept) == len(codings) else ", ".join(kept)
        if value:
            found.append((name.decode("ascii"), value))
    return tuple(found)


def user_metadata(head: Head) -> Pairs:
    """The x-amz-meta-* headers without their prefix; a repeated name is joined by commas, as S3 does.

    Raises:
        S3Refusal: MetadataTooLarge, or a value is not printable text.
    """
    found: dict[str, str] = {}
    for name, raw in head.headers:
        if name.startswith(_META):
            short = name[len(_META) :].decode("ascii")
            value = _text(name, raw)
            found[short] = f"{found[short]},{value}" if short in found else value
    if not found:
        return ()
    size = sum(len(name) + len(value.encode("utf-8")) for name, value in found.items())
    if size > MAXIMUM_USER_METADATA_BYTES:
        raise S3Refusal("MetadataTooLarge")
    return tuple(found.items())


def _text(name: bytes, raw: bytes) -> str:
    try:
        value = raw.decode("utf-8")
    except UnicodeDecodeError:
        # Latin-1 is what old clients send; every byte is a character there, and UTF-8 goes out again.
        value = raw.decode("latin-1")
    if any(ord(character) < 0x20 and character != "\t" for character in value):
        raise S3Refusal("InvalidArgument", f"The header {name.decode('ascii')} holds a control character.")
    return value


def _checksums(found: ObjectHead) -> list[tuple[bytes, bytes]]:
    """Of the whole object, or of the part that was asked for; a byte range has none."""
    meta = found.version.meta
    if found.content_range is None:
        return checksum_headers(meta.checksums, meta.part_count)
    part = found.part.checksum if found.part is not None else None
    if part is None or not meta.checksums:
        return []
    return checksum_headers((replace(part, type=meta.checksums[0].type),), 0)


def _overrides(query: dict[str, str]) -> dict[str, str]:
    found = {_OVERRIDES[name]: value for name, value in query.items() if name in _OVERRIDES and value}
    for name, value in found.items():
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
            raise S3Refusal("InvalidArgument", f"response-{name} holds a control character.")
    return found


MERKLE_ROOT: Final = b"x-rs3d-merkle-root"
"""Of the stored bytes: those of the client, where bucket and request add no layer to them."""


def object_headers(found: ObjectHead, query: dict[str, str], *, with_checksums: bool) -> list[tuple[bytes, bytes]]:
    """Headers of GetObject and HeadObject.

    Args:
        found: what the engine says of the version.
        query: of the request: `response-*` parameters override stored headers.
        with_checksums: the client sent x-amz-checksum-mode: ENABLED.

    Raises:
        S3Refusal: an override could not be a header's value.
    """
    version = found.version
    meta = version.meta
    headers: list[tuple[bytes, bytes]] = [
        (b"Accept-Ranges", b"bytes"),
        (b"Last-Modified", http_date(meta.last_modified_ns).encode("ascii")),
        (b"ETag", b'"' + meta.etag.encode("ascii") + b'"'),
    ]
    stored = dict(meta.headers)
    if query:
        stored.update(_overrides(query))
    stored.setdefault("content-type", _DEFAULT_CONTENT_TYPE)
    headers.extend((_RESPONSE_NAMES[name], value.encode("utf-8")) for name, value in stored.items())
    headers.extend((_META + name.encode("ascii"), value.encode("utf-8")) for name, value in meta.user_metadata)
    if found.reports_version:
        headers.append((b"x-amz-version-id", version.version_text.encode("ascii")))
    mutable = version.mutable
    if mutable.storage_class != "STANDARD":
        headers.append((b"x-amz-storage-class", mutable.storage_class.encode("ascii")))
    if mutable.tags:
        headers.append((b"x-amz-tagging-count", b"%d" % len(mutable.tags)))
    if found.part_count:
        headers.append((b"x-amz-mp-parts-count", b"%d" % found.part_count))
    if with_checksums:
        headers.extend(_checksums(found))
    if meta.merkle_root:
        headers.append((MERKLE_ROOT, meta.merkle_root.hex().encode("ascii")))
    if mutable.wrapped_key:
        headers.extend(version_headers(version))
    if found.content_range is not None and found.content_range.length:  # an empty part has no bytes to be named
        first, last, size = found.content_range
        headers.append((b"Content-Range", b"bytes %d-%d/%d" % (first, last, size)))
    return headers
