"""The lists: objects, versions, uploads, parts. One walk serves the first three.

Everything is in byte order of the UTF-8 keys. A common prefix costs one seek, not a scan of what lies below it.
Sources: S3 API, ListObjects, ListObjectsV2, ListObjectVersions, ListMultipartUploads, ListParts. A page is read in
one view and never awaits.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from rs3d.engine.requests import (
    MAXIMUM_PAGE,
    ListPartsRequest,
    ListRequest,
    ListUploadsRequest,
    ListVersionsRequest,
)
from rs3d.engine.results import ObjectPage, PartPage, UploadPage, VersionPage
from rs3d.engine.runtime import Runtime, find_bucket
from rs3d.engine.uploads import find_upload
from rs3d.errors import InvalidArgument
from rs3d.kernels import crc
from rs3d.types.identifiers import NULL_VERSION, UploadId, VersionId
from rs3d.types.objects import ListedObject, ListedVersion, Upload

Row = TypeVar("Row")

_TOKEN_VERSION: Final = b"\x01"


# -------------------------------------------------------------------------------------------------------- the walk


@dataclass(slots=True)
class _Walked(Generic[Row]):
    rows: list[Row]
    prefixes: list[bytes]
    is_truncated: bool
    last: bytes
    """The last key or common prefix on the page."""
    last_is_prefix: bool


def _walk(
    seek: Callable[[bytes], Iterator[tuple[bytes, Row]]], start: bytes, prefix: bytes, delimiter: bytes, maximum: int
) -> _Walked[Row]:
    """Take up to `maximum` rows and common prefixes from the first key ≥ `start`.

    `seek` gives (key, row) in order from a key on; one row more than is returned is read, to know whether more follow.
    """
    if maximum == 0:
        return _Walked([], [], False, b"", False)
    if not delimiter:
        found = list(itertools.islice(seek(start), maximum + 1))
        is_truncated = len(found) > maximum
        if is_truncated:
            found.pop()
        return _Walked([row for _, row in found], [], is_truncated, found[-1][0] if found else b"", False)
    rows: list[Row] = []
    prefixes: list[bytes] = []
    last, last_is_prefix = b"", False
    entries = seek(start)
    while (entry := next(entries, None)) is not None:
        key, row = entry
        if len(rows) + len(prefixes) == maximum:
            return _Walked(rows, prefixes, True, last, last_is_prefix)
        common = _common_prefix(key, prefix, delimiter)
        if common is None:
            rows.append(row)
            last, last_is_prefix = key, False
        else:
            prefixes.append(common)
            last, last_is_prefix = common, True
            entries = seek(_behind_prefix(common))
    return _Walked(rows, prefixes, False, last, last_is_prefix)


def _common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """The part of `key` up to the first delimiter behind `prefix`, delimiter included."""
    cut = key.find(delimiter, len(prefix))
    return None if cut < 0 else key[: cut + len(delimiter)]


def _behind_prefix(prefix: bytes) -> bytes:
    """The first byte string that sorts behind everything that begins with `prefix`. UTF-8 has no byte 255, so the
    last can grow."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def _behind_key(key: bytes) -> bytes:
    """The first byte string that sorts behind `key`."""
    return key + b"\0"


def _behind_marker(marker: bytes, prefix: bytes, delimiter: bytes) -> bytes:
    """Where a list goes on behind a marker. One that lies in a common prefix ends it: the page before has shown
    that."""
    if delimiter and marker.startswith(prefix):
        common = _common_prefix(marker, prefix, delimiter)
        if common is not None:
            return _behind_prefix(common)
    return _behind_key(marker)


def _encoded(name: str, text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument(name=name, value=ascii(text), reason="must be UTF-8") from None


def _page_size(maximum: int) -> int:
    if maximum < 0:
        raise InvalidArgument(name="maximum", value=str(maximum), reason="must be 0 or more")
    return min(maximum, MAXIMUM_PAGE)


def _texts(prefixes: list[bytes]) -> list[str]:
    # A delimiter is whole characters, so is what ends with one.
    return [prefix.decode("utf-8") for prefix in prefixes]


# --------------------------------------------------------------------------------------------------------- objects


def list_objects(runtime: Runtime, bucket: str, request: ListRequest) -> ObjectPage:
    """A page of live objects.

    Raises:
        NoSuchBucket, InvalidArgument (a negative page size, a token that no page gave)
    """
    prefix, delimiter = _encoded("prefix", request.prefix), _encoded("delimiter", request.delimiter)
    start = _objects_start(request, prefix, delimiter)
    maximum = _page_size(request.maximum)
    with runtime.catalog.snapshot() as view:
        record = find_bucket(view, bucket)
        if maximum == 0:
            return ObjectPage()

        walked = view.walk_objects(record.bucket_id, prefix, max(start, prefix), delimiter, maximum)
        page = ObjectPage(objects=walked.objects, common_prefixes=_texts(walked.common_prefixes))
        if walked.go_on is None:
            _end(page, walked.is_truncated, walked.last, walked.last_is_prefix)
            return page

        def seek(position: bytes) -> Iterator[tuple[bytes, ListedObject]]:
            return view.list_objects(record.bucket_id, prefix, max(position, prefix))

        left = maximum - len(walked.objects) - len(walked.common_prefixes)
        rest = _walk(seek, walked.go_on, prefix, delimiter, left)
    page = ObjectPage(objects=page.entries + rest.rows, common_prefixes=page.common_prefixes + _texts(rest.prefixes))
    _end(page, rest.is_truncated, rest.last, rest.last_is_prefix)
    return page


def _end(page: ObjectPage, is_truncated: bool, last: bytes, last_is_prefix: bool) -> None:
    """Say on a page whether it is the last one, and where the next begins."""
    page.is_truncated = is_truncated
    if is_truncated:
        page.next_marker = last.decode("utf-8")
        page.next_token = _encode_token(_behind_prefix(last) if last_is_prefix else _behind_key(last))


def _objects_start(request: ListRequest, prefix: bytes, delimiter: bytes) -> bytes:
    if request.token:
        return _decode_token(request.token)
    if request.start_after:
        return _behind_key(_encoded("start-after", request.start_after))
    if request.marker:
        return _behind_marker(_encoded("marker", request.marker), prefix, delimiter)
    return b""


def _encode_token(start: bytes) -> str:
    raw = _TOKEN_VERSION + start
    return base64.urlsafe_b64encode(raw + crc.crc32c(raw).to_bytes(4, "big")).decode("ascii").rstrip("=")


def _decode_token(token: str) -> bytes:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    body, check = raw[:-4], raw[-4:]
    if body[:1] != _TOKEN_VERSION or crc.crc32c(body).to_bytes(4, "big") != check:
        raise InvalidArgument(name="continuation-token", value=token, reason="was not given by a page")
    return body[1:]


# -------------------------------------------------------------------------------------------------------- versions


def list_object_versions(runtime: Runtime, bucket: str, request: ListVersionsRequest) -> VersionPage:
    """A page of versions and delete markers, newest first within a key.

    Raises:
        NoSuchBucket, InvalidArgument
    """
    prefix, delimiter = _encoded("prefix", request.prefix), _encoded("delimiter", request.delimiter)
    marker = _encoded("key-marker", request.key_marker)
    after = _version_marker(request)
    start = b"" if not marker else _behind_marker(marker, prefix, delimiter)
    if after is not None and start == _behind_key(marker):
        start = marker
    else:
        after = None
    with runtime.catalog.snapshot() as view:
        record = find_bucket(view, bucket)

        def seek(position: bytes) -> Iterator[tuple[bytes, ListedVersion]]:
            behind = after if position == marker else None
            return view.list_versions(record.bucket_id, prefix, max(position, prefix), behind)

        walked = _walk(seek, start, prefix, delimiter, _page_size(request.maximum))
    page = VersionPage(entries=walked.rows, common_prefixes=_texts(walked.prefixes), is_truncated=walked.is_truncated)
    if walked.is_truncated:
        page.next_key_marker = walked.last.decode("utf-8")
        if not walked.last_is_prefix:
            page.next_version_marker = walked.rows[-1].version_text
    return page


def _version_marker(request: ListVersionsRequest) -> VersionId | str | None:
    text = request.version_marker
    if not text:
        return None
    if not request.key_marker:
        raise InvalidArgument(name="version-id-marker", value=text, reason="needs a key-marker")
    if text == NULL_VERSION:
        return text
    parsed = VersionId.parse(text)
    if parsed is None:
        raise InvalidArgument(name="version-id-marker", value=text, reason="is not a version id")
    return parsed


# --------------------------------------------------------------------------------------------------------- uploads


def list_multipart_uploads(runtime: Runtime, bucket: str, request: ListUploadsRequest) -> UploadPage:
    """A page of open uploads, the oldest first within a key.

    Raises:
        NoSuchBucket, InvalidArgument
    """
    prefix, delimiter = _encoded("prefix", request.prefix), _encoded("delimiter", request.delimiter)
    marker = _encoded("key-marker", request.key_marker)
    after = _upload_marker(request)
    start = b"" if not marker else _behind_marker(marker, prefix, delimiter)
    if after is not None and start == _behind_key(marker):
        start = marker
    else:
        after = None
    with runtime.catalog.snapshot() as view:
        record = find_bucket(view, bucket)

        def seek(position: bytes) -> Iterator[tuple[bytes, Upload]]:
            behind = after if position == marker else None
            return view.list_uploads(record.bucket_id, prefix, max(position, prefix), behind)

        walked = _walk(seek, start, prefix, delimiter, _page_size(request.maximum))
    page = UploadPage(uploads=walked.rows, common_prefixes=_texts(walked.prefixes), is_truncated=walked.is_truncated)
    if walked.is_truncated:
        page.next_key_marker = walked.last.decode("utf-8")
        if not walked.last_is_prefix:
            page.next_upload_marker = walked.rows[-1].upload.text()
    return page


def _upload_marker(request: ListUploadsRequest) -> UploadId | None:
    if not request.upload_marker or not request.key_marker:
        return None
    parsed = UploadId.parse(request.upload_marker)
    if parsed is None:
        raise InvalidArgument(name="upload-id-marker", value=request.upload_marker, reason="is not an upload id")
    return parsed


# ----------------------------------------------------------------------------------------------------------- parts


def list_parts(runtime: Runtime, bucket: str, key: str, upload_id: str, request: ListPartsRequest) -> PartPage:
    """A page of the parts of an open upload, by number.

    Raises:
        NoSuchBucket, NoSuchUpload, InvalidArgument
    """
    maximum = _page_size(request.maximum)
    with runtime.catalog.snapshot() as view:
        upload = find_upload(view, find_bucket(view, bucket), key, upload_id)
        parts = list(itertools.islice(view.parts(upload.upload, request.after), maximum + 1))
    is_truncated = 0 < maximum < len(parts)
    del parts[maximum:]
    return PartPage(
        upload=upload,
        parts=parts,
        is_truncated=is_truncated,
        next_marker=parts[-1].number if parts else request.after,
    )
