"""Lists of objects: ListObjects, ListObjectsV2, ListObjectVersions.

With `encoding-type=url` the names in a document are percent-encoded: Key, Prefix, Delimiter, Marker, NextMarker,
StartAfter, KeyMarker, NextKeyMarker and the common prefixes. Tokens and version ids never are.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rs3d.documents.dates import iso8601
from rs3d.documents.owners import Owner
from rs3d.documents.xmlwriter import boolean, document_around, element, escape, optional_element, url_encode
from rs3d.kernels.listxml import common_prefixes, contents, packed_contents
from rs3d.types.objects import ListedObject, ListedVersion, PackedObjects, RowNames, VersionKind


class NameEncoding(enum.Enum):
    """How names stand in a list: as they are, or as `encoding-type=url` asks."""

    PLAIN = ""
    URL = "url"

    @property
    def write(self) -> Callable[[str], str]:
        """What turns a name into character data."""
        return url_encode if self is NameEncoding.URL else escape

    @property
    def kernel_name(self) -> Literal["plain", "url"]:
        """What the `listxml` kernel calls it."""
        return "url" if self is NameEncoding.URL else "plain"


DisplayNames = Mapping[str, str]
"""Canonical id → display name of every owner in a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBucketResult:
    """The answer of ListObjects (version 1): markers are keys."""

    bucket: str
    contents: Sequence[ListedObject] | PackedObjects
    common_prefixes: Sequence[str]
    owners: DisplayNames
    max_keys: int
    prefix: str = ""
    marker: str = ""
    next_marker: str = ""
    """Empty unless the page is truncated. S3 sends it only with a delimiter; sending it always helps V1 clients."""
    delimiter: str = ""
    encoding: NameEncoding = NameEncoding.PLAIN
    is_truncated: bool = False

    def render(self) -> bytes:
        """The document."""
        write = self.encoding.write
        head = [
            element("Name", self.bucket),
            f"<Prefix>{write(self.prefix)}</Prefix><Marker>{write(self.marker)}</Marker>",
            f"<NextMarker>{write(self.next_marker)}</NextMarker>" if self.next_marker else "",
            f"<MaxKeys>{self.max_keys}</MaxKeys>",
            f"<Delimiter>{write(self.delimiter)}</Delimiter>" if self.delimiter else "",
            optional_element("EncodingType", self.encoding.value),
            f"<IsTruncated>{boolean(self.is_truncated)}</IsTruncated>",
        ]
        return document_around(
            "ListBucketResult",
            head,
            _contents(self.contents, self.encoding, self.owners),
            common_prefixes(self.common_prefixes, encoding=self.encoding.kernel_name),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBucketResultV2:
    """The answer of ListObjectsV2: continued by an opaque token."""

    bucket: str
    contents: Sequence[ListedObject] | PackedObjects
    common_prefixes: Sequence[str]
    max_keys: int
    owners: DisplayNames | None = None
    """None unless fetch-owner was asked for."""
    prefix: str = ""
    delimiter: str = ""
    start_after: str = ""
    continuation_token: str | None = None
    """As sent, also when it was empty; None if it was not."""
    next_continuation_token: str = ""
    encoding: NameEncoding = NameEncoding.PLAIN
    is_truncated: bool = False

    def render(self) -> bytes:
        """The document; KeyCount counts keys and common prefixes."""
        write = self.encoding.write
        head = [
            element("Name", self.bucket),
            f"<Prefix>{write(self.prefix)}</Prefix>",
            "" if self.continuation_token is None else element("ContinuationToken", self.continuation_token),
            optional_element("NextContinuationToken", self.next_continuation_token),
            f"<StartAfter>{write(self.start_after)}</StartAfter>" if self.start_after else "",
            f"<KeyCount>{len(self.contents) + len(self.common_prefixes)}</KeyCount>",
            f"<MaxKeys>{self.max_keys}</MaxKeys>",
            f"<Delimiter>{write(self.delimiter)}</Delimiter>" if self.delimiter else "",
            optional_element("EncodingType", self.encoding.value),
            f"<IsTruncated>{boolean(self.is_truncated)}</IsTruncated>",
        ]
        return document_around(
            "ListBucketResult",
            head,
            _contents(self.contents, self.encoding, self.owners),
            common_prefixes(self.common_prefixes, encoding=self.encoding.kernel_name),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListVersionsResult:
    """The answer of ListObjectVersions: versions and delete markers in one order, newest first within a key."""

    bucket: str
    versions: Sequence[ListedVersion]
    common_prefixes: Sequence[str]
    owners: DisplayNames
    max_keys: int
    prefix: str = ""
    delimiter: str = ""
    key_marker: str = ""
    version_id_marker: str = ""
    next_key_marker: str = ""
    next_version_id_marker: str = ""
    encoding: NameEncoding = NameEncoding.PLAIN
    is_truncated: bool = False

    def render(self) -> bytes:
        """The document."""
        write = self.encoding.write
        owners = _owner_elements(self.owners)
        head = [
            element("Name", self.bucket),
            f"<Prefix>{write(self.prefix)}</Prefix><KeyMarker>{write(self.key_marker)}</KeyMarker>",
            element("VersionIdMarker", self.version_id_marker),
            f"<NextKeyMarker>{write(self.next_key_marker)}</NextKeyMarker>" if self.next_key_marker else "",
            optional_element("NextVersionIdMarker", self.next_version_id_marker),
            f"<MaxKeys>{self.max_keys}</MaxKeys>",
            f"<Delimiter>{write(self.delimiter)}</Delimiter>" if self.delimiter else "",
            optional_element("EncodingType", self.encoding.value),
            f"<IsTruncated>{boolean(self.is_truncated)}</IsTruncated>",
        ]
        rows = [_version(row, write, owners(row.owner)) for row in self.versions]
        prefixes = common_prefixes(self.common_prefixes, encoding=self.encoding.kernel_name)
        return document_around("ListVersionsResult", [*head, *rows], prefixes)


def _contents(
    rows: Sequence[ListedObject] | PackedObjects, encoding: NameEncoding, display_names: DisplayNames | None
) -> bytes:
    if isinstance(rows, PackedObjects):
        return _packed_contents(rows, encoding, display_names)
    if not rows:
        return b""
    # A row is a tuple: turning a page's rows into columns in one call takes a third of eight comprehensions.
    keys, sizes, modified_ns, etags, classes, owners, algorithms, types = zip(*rows, strict=True)
    return contents(
        keys,
        sizes,
        modified_ns,
        etags,
        classes,
        checksums=map(_checksum, algorithms, types) if any(algorithms) else None,
        owners=None if display_names is None else map(_owner_elements(display_names), owners),
        encoding=encoding.kernel_name,
    )


def _packed_contents(rows: PackedObjects, encoding: NameEncoding, display_names: DisplayNames | None) -> bytes:
    classes, checksums = _elements_of(rows.names)
    element_of = _owner_elements(display_names)
    return packed_contents(
        rows.data,
        classes,
        checksums,
        owners=None if display_names is None else lambda owner: element_of(owner.hex()).encode(),
        encoding=encoding.kernel_name,
    )


@lru_cache(maxsize=4)
def _elements_of(names: RowNames) -> tuple[tuple[bytes, ...], tuple[tuple[bytes, ...], ...]]:
    """What the numbers in packed rows stand for, as XML: storage classes; checksums by algorithm and type."""
    return tuple(escape(name).encode() for name in names.storage_classes), tuple(
        tuple(_checksum(algorithm, kind).encode() for kind in names.checksum_types)
        for algorithm in names.checksum_algorithms
    )


def _version(row: ListedVersion, write: Callable[[str], str], owner: str) -> str:
    identity = (
        f"<Key>{write(row.key)}</Key><VersionId>{row.version_text}</VersionId>"
        f"<IsLatest>{boolean(row.is_latest)}</IsLatest><LastModified>{iso8601(row.last_modified_ns)}</LastModified>"
    )
    if row.kind is VersionKind.DELETE_MARKER:
        return f"<DeleteMarker>{identity}{owner}</DeleteMarker>"
    return (
        f"<Version>{identity}<ETag>&quot;{row.etag}&quot;</ETag>"
        f"{_checksum(row.checksum_algorithm, row.checksum_type)}<Size>{row.size_bytes}</Size>{owner}"
        f"<StorageClass>{row.storage_class}</StorageClass></Version>"
    )


@lru_cache(maxsize=64)
def _checksum(algorithm: str, checksum_type: str) -> str:
    if not algorithm:
        return ""
    return f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm>" + optional_element("ChecksumType", checksum_type)


def _owner_elements(display_names: DisplayNames | None) -> Callable[[str], str]:
    """Canonical id → its Owner element, each rendered once a page; nothing at all where owners are not shown."""
    rendered: dict[str, str] = {}

    def owner(canonical_id: str) -> str:
        if display_names is None:
            return ""
        found = rendered.get(canonical_id)
        if found is None:
            found = rendered[canonical_id] = Owner(canonical_id, display_names.get(canonical_id, "")).render()
        return found

    return owner
