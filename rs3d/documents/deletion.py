"""DeleteObjects: up to 1,000 deletions in one request, each with an outcome of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rs3d.documents.dates import parse_http_date, parse_iso8601
from rs3d.documents.xmlreader import Element, malformed, read_document
from rs3d.documents.xmlwriter import document, element, optional_element

MAXIMUM_OBJECTS = 1_000
MAXIMUM_BYTES = 8 * 1024 * 1024
"""1,000 keys of 1,024 bytes, each byte written as a reference of 5 or 6 characters, and what stands around them."""


@dataclass(frozen=True, slots=True)
class ObjectIdentifier:
    """One object to delete. `version_id` empty = the latest; the conditions are None where they are not given."""

    key: str
    version_id: str = ""
    etag: str | None = None
    """Without quotes; `*` for any."""
    last_modified_ns: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """The body of DeleteObjects; `is_quiet` wants only the failures reported."""

    objects: tuple[ObjectIdentifier, ...]
    is_quiet: bool = False

    @classmethod
    def parse(cls, body: bytes) -> Delete:
        """Read the body.

        Raises:
            MalformedXML: also for no object at all, for more than 1,000, and for an empty key.
            MaxMessageLengthExceeded.
        """
        tree = read_document(body, "Delete", maximum_bytes=MAXIMUM_BYTES)
        tree.allow("Object", "Quiet")
        quiet = tree.optional("Quiet")
        found = tree.every("Object")
        if not 1 <= len(found) <= MAXIMUM_OBJECTS:
            malformed(f"{len(found)} objects to delete")
        return cls(tuple(_identifier(item) for item in found), quiet is not None and quiet.boolean())


@dataclass(frozen=True, slots=True)
class DeletedObject:
    """A deletion that happened. `delete_marker_version_id`: of the marker that was made, or that was removed."""

    key: str
    version_id: str = ""
    is_delete_marker: bool = False
    delete_marker_version_id: str = ""

    def render(self) -> str:
        """As an element."""
        return (
            f"<Deleted>{element('Key', self.key)}{optional_element('VersionId', self.version_id)}"
            f"{'<DeleteMarker>true</DeleteMarker>' if self.is_delete_marker else ''}"
            f"{optional_element('DeleteMarkerVersionId', self.delete_marker_version_id)}</Deleted>"
        )


@dataclass(frozen=True, slots=True)
class DeletionError:
    """A deletion that did not happen."""

    key: str
    code: str
    message: str
    version_id: str = ""

    def render(self) -> str:
        """As an element."""
        return (
            f"<Error>{element('Key', self.key)}{optional_element('VersionId', self.version_id)}"
            f"{element('Code', self.code)}{element('Message', self.message)}</Error>"
        )


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """The answer of DeleteObjects; a quiet request gets no Deleted elements, which is the caller's part."""

    outcomes: Sequence[DeletedObject | DeletionError]

    def render(self) -> bytes:
        """The document."""
        return document("DeleteResult", [outcome.render() for outcome in self.outcomes])


def _identifier(item: Element) -> ObjectIdentifier:
    item.allow("Key", "VersionId", "ETag", "LastModifiedTime", "Size")
    key = item.one("Key").value()
    if not key:
        malformed("Key is empty")
    version, etag, modified, size = (item.optional(n) for n in ("VersionId", "ETag", "LastModifiedTime", "Size"))
    return ObjectIdentifier(
        key=key,
        version_id=version.word() if version is not None else "",
        etag=etag.word().strip('"') if etag is not None else None,
        last_modified_ns=_time(modified.word()) if modified is not None else None,
        size_bytes=size.integer(0, 2**63 - 1) if size is not None else None,
    )


def _time(text: str) -> int:
    # The published model says RFC 822; clients send ISO 8601 as well.
    time_ns = parse_http_date(text)
    if time_ns is None:
        time_ns = parse_iso8601(text)
    if time_ns is None:
        malformed("LastModifiedTime is not a time")
    return time_ns
