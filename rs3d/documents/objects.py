"""Results about single objects: copies, attributes, form uploads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rs3d.documents.checksums import ChecksumTexts, render_checksums
from rs3d.documents.dates import iso8601
from rs3d.documents.xmlwriter import boolean, document, element, optional_element, plain_document


@dataclass(frozen=True, slots=True)
class CopyObjectResult:
    """The answer of CopyObject; `etag` without quotes."""

    etag: str
    last_modified_ns: int
    checksums: ChecksumTexts = ()
    checksum_type: str = ""

    def render(self) -> bytes:
        """The document."""
        return document(
            "CopyObjectResult",
            [
                f"<LastModified>{iso8601(self.last_modified_ns)}</LastModified>",
                element("ETag", f'"{self.etag}"'),
                render_checksums(self.checksums, self.checksum_type),
            ],
        )


@dataclass(frozen=True, slots=True)
class CopyPartResult:
    """The answer of UploadPartCopy; `etag` without quotes."""

    etag: str
    last_modified_ns: int
    checksums: ChecksumTexts = ()

    def render(self) -> bytes:
        """The document."""
        return document(
            "CopyPartResult",
            [
                f"<LastModified>{iso8601(self.last_modified_ns)}</LastModified>",
                element("ETag", f'"{self.etag}"'),
                render_checksums(self.checksums),
            ],
        )


@dataclass(frozen=True, slots=True)
class AttributePart:
    """One part of an object in GetObjectAttributes."""

    number: int
    size_bytes: int
    checksums: ChecksumTexts = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeParts:
    """The ObjectParts of an object that was uploaded in parts; `parts` only if they carry checksums, as on S3."""

    total_parts: int
    parts: Sequence[AttributePart] = ()
    part_number_marker: int = 0
    next_part_number_marker: int = 0
    max_parts: int = 1_000
    is_truncated: bool = False

    def render(self) -> str:
        """As an element."""
        rows = [
            f"<Part>{render_checksums(part.checksums)}<PartNumber>{part.number}</PartNumber>"
            f"<Size>{part.size_bytes}</Size></Part>"
            for part in self.parts
        ]
        return (
            f"<ObjectParts><IsTruncated>{boolean(self.is_truncated)}</IsTruncated><MaxParts>{self.max_parts}</MaxParts>"
            f"<NextPartNumberMarker>{self.next_part_number_marker}</NextPartNumberMarker>"
            f"<PartNumberMarker>{self.part_number_marker}</PartNumberMarker>{''.join(rows)}"
            f"<PartsCount>{self.total_parts}</PartsCount></ObjectParts>"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GetObjectAttributesResponse:
    """The answer of GetObjectAttributes: only what was asked for is given. The ETag stands without quotes, as on S3."""

    etag: str | None = None
    checksums: ChecksumTexts = ()
    checksum_type: str = ""
    parts: AttributeParts | None = None
    storage_class: str | None = None
    size_bytes: int | None = None

    def render(self) -> bytes:
        """The document."""
        pieces = [optional_element("ETag", self.etag)]
        if self.checksums:
            pieces.append(f"<Checksum>{render_checksums(self.checksums, self.checksum_type)}</Checksum>")
        if self.parts is not None:
            pieces.append(self.parts.render())
        pieces.append(optional_element("StorageClass", self.storage_class))
        if self.size_bytes is not None:
            pieces.append(f"<ObjectSize>{self.size_bytes}</ObjectSize>")
        return document("GetObjectAttributesResponse", pieces)


@dataclass(frozen=True, slots=True)
class PostResponse:
    """The answer of a form upload with success_action_status=201; `etag` without quotes."""

    location: str
    bucket: str
    key: str
    etag: str

    def render(self) -> bytes:
        """The document."""
        return plain_document(
            "PostResponse",
            [
                element("Location", self.location),
                element("Bucket", self.bucket),
                element("Key", self.key),
                element("ETag", f'"{self.etag}"'),
            ],
        )
