"""Multipart uploads: opening, listing, listing parts, completing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rs3d.documents.checksums import ELEMENTS, ChecksumTexts, render_checksums
from rs3d.documents.dates import iso8601
from rs3d.documents.listings import NameEncoding
from rs3d.documents.owners import Owner
from rs3d.documents.xmlreader import NAMESPACE, Element, malformed, read_document
from rs3d.documents.xmlwriter import boolean, document, document_around, element, optional_element
from rs3d.errors import InvalidArgument, InvalidPartOrder
from rs3d.kernels.listxml import common_prefixes

MAXIMUM_PARTS = 10_000
MAXIMUM_PART_NUMBER = 10_000
MAXIMUM_COMPLETE_BYTES = 6 * 1024 * 1024
"""10,000 parts with ETag and a SHA-512, about 320 bytes each, indented generously."""

_NUMBER: Final = rb"<PartNumber>(?P<number>[1-9][0-9]{0,3}|10000)</PartNumber>"
_ETAG: Final = rb'<ETag>(?:"|&quot;|&#34;)?(?P<etag>[0-9a-f]{64}|[0-9a-f]{32})(?:"|&quot;|&#34;)?</ETag>'
_USUAL_PARTS: Final = tuple(
    re.compile(b"<Part>" + fields + b"</Part>") for fields in (_NUMBER + _ETAG, _ETAG + _NUMBER)
)
"""As SDKs write a part, in the order that each of them has."""
_NAMED: Final = re.compile(rb"\?P<\w+>")
_USUAL_DOCUMENTS: Final = tuple(
    re.compile(
        b'<CompleteMultipartUpload(?: xmlns="%b")?>(?:%b)+</CompleteMultipartUpload>'
        % (re.escape(NAMESPACE).encode("ascii"), _NAMED.sub(b"?:", part.pattern))
    )
    for part in _USUAL_PARTS
)
"""Documents of nothing but such parts: none that an XML reader would read otherwise."""


@dataclass(frozen=True, slots=True)
class InitiateMultipartUploadResult:
    """The answer of CreateMultipartUpload."""

    bucket: str
    key: str
    upload_id: str

    def render(self) -> bytes:
        """The document."""
        return document(
            "InitiateMultipartUploadResult",
            [element("Bucket", self.bucket), element("Key", self.key), element("UploadId", self.upload_id)],
        )


@dataclass(frozen=True, slots=True)
class CompletedPart:
    """A part as the client names it: number, ETag without quotes, and the checksums it gives."""

    number: int
    etag: str
    checksums: ChecksumTexts = ()


@dataclass(frozen=True, slots=True)
class CompleteMultipartUpload:
    """The body of CompleteMultipartUpload: 1 to 10,000 parts in ascending order."""

    parts: tuple[CompletedPart, ...]

    @classmethod
    def parse(cls, body: bytes) -> CompleteMultipartUpload:
        """Read the body (about 60 ms for 10,000 parts, a third of it where it is as SDKs write it).

        Raises:
            MalformedXML, MaxMessageLengthExceeded.
            InvalidArgument: a part number is not in 1 to 10,000.
            InvalidPartOrder: the numbers do not ascend.
        """
        parts = _usual_parts(body) if len(body) <= MAXIMUM_COMPLETE_BYTES else []
        if not parts:
            tree = read_document(body, "CompleteMultipartUpload", maximum_bytes=MAXIMUM_COMPLETE_BYTES)
            tree.allow("Part")
            if not 1 <= len(tree.children) <= MAXIMUM_PARTS:
                malformed(f"{len(tree.children)} parts")
            parts = [_completed_part(part) for part in tree.children]
        previous = 0
        for part in parts:
            if part.number <= previous:
                raise InvalidPartOrder(part.number)
            previous = part.number
        return cls(tuple(parts))


@dataclass(frozen=True, slots=True)
class CompleteMultipartUploadResult:
    """The answer of CompleteMultipartUpload; `etag` without quotes."""

    location: str
    bucket: str
    key: str
    etag: str
    checksums: ChecksumTexts = ()
    checksum_type: str = ""

    def render(self) -> bytes:
        """The document; it begins with `xmlwriter.DECLARATION`, which may have been sent already."""
        return document(
            "CompleteMultipartUploadResult",
            [
                element("Location", self.location),
                element("Bucket", self.bucket),
                element("Key", self.key),
                element("ETag", f'"{self.etag}"'),
                render_checksums(self.checksums, self.checksum_type),
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRow:
    """One open upload of ListMultipartUploads."""

    key: str
    upload_id: str
    initiator: Owner
    owner: Owner
    initiated_ns: int
    storage_class: str = "STANDARD"
    checksum_algorithm: str = ""
    checksum_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMultipartUploadsResult:
    """The answer of ListMultipartUploads."""

    bucket: str
    uploads: Sequence[UploadRow]
    common_prefixes: Sequence[str]
    max_uploads: int
    prefix: str = ""
    delimiter: str = ""
    key_marker: str = ""
    upload_id_marker: str = ""
    next_key_marker: str = ""
    next_upload_id_marker: str = ""
    encoding: NameEncoding = NameEncoding.PLAIN
    is_truncated: bool = False

    def render(self) -> bytes:
        """The document."""
        write = self.encoding.write
        rows = [
            f"<Upload><Key>{write(row.key)}</Key>{element('UploadId', row.upload_id)}"
            f"{row.initiator.render('Initiator')}{row.owner.render()}<StorageClass>{row.storage_class}</StorageClass>"
            f"<Initiated>{iso8601(row.initiated_ns)}</Initiated>"
            f"{optional_element('ChecksumAlgorithm', row.checksum_algorithm)}"
            f"{optional_element('ChecksumType', row.checksum_type)}</Upload>"
            for row in self.uploads
        ]
        return document_around(
            "ListMultipartUploadsResult",
            [
                element("Bucket", self.bucket),
                f"<KeyMarker>{write(self.key_marker)}</KeyMarker>",
                element("UploadIdMarker", self.upload_id_marker),
                f"<NextKeyMarker>{write(self.next_key_marker)}</NextKeyMarker>" if self.next_key_marker else "",
                optional_element("NextUploadIdMarker", self.next_upload_id_marker),
                f"<Prefix>{write(self.prefix)}</Prefix>",
                f"<Delimiter>{write(self.delimiter)}</Delimiter>" if self.delimiter else "",
                optional_element("EncodingType", self.encoding.value),
                f"<MaxUploads>{self.max_uploads}</MaxUploads>",
                f"<IsTruncated>{boolean(self.is_truncated)}</IsTruncated>",
                *rows,
            ],
            common_prefixes(self.common_prefixes, encoding=self.encoding.kernel_name),
        )


@dataclass(frozen=True, slots=True)
class PartRow:
    """One uploaded part of ListParts; `etag` without quotes."""

    number: int
    last_modified_ns: int
    etag: str
    size_bytes: int
    checksums: ChecksumTexts = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPartsResult:
    """The answer of ListParts. `next_part_number_marker` is the last number shown, 0 if there is none."""

    bucket: str
    key: str
    upload_id: str
    initiator: Owner
    owner: Owner
    parts: Sequence[PartRow]
    max_parts: int
    part_number_marker: int = 0
    next_part_number_marker: int = 0
    is_truncated: bool = False
    storage_class: str = "STANDARD"
    checksum_algorithm: str = ""
    checksum_type: str = ""

    def render(self) -> bytes:
        """The document."""
        rows = [
            f"<Part><PartNumber>{row.number}</PartNumber><LastModified>{iso8601(row.last_modified_ns)}</LastModified>"
            f"<ETag>&quot;{row.etag}&quot;</ETag><Size>{row.size_bytes}</Size>{render_checksums(row.checksums)}</Part>"
            for row in self.parts
        ]
        return document(
            "ListPartsResult",
            [
                element("Bucket", self.bucket),
                element("Key", self.key),
                element("UploadId", self.upload_id),
                self.initiator.render("Initiator"),
                self.owner.render(),
                element("StorageClass", self.storage_class),
                f"<PartNumberMarker>{self.part_number_marker}</PartNumberMarker>",
                f"<NextPartNumberMarker>{self.next_part_number_marker}</NextPartNumberMarker>",
                f"<MaxParts>{self.max_parts}</MaxParts><IsTruncated>{boolean(self.is_truncated)}</IsTruncated>",
                optional_element("ChecksumAlgorithm", self.checksum_algorithm),
                optional_element("ChecksumType", self.checksum_type),
                *rows,
            ],
        )


def _usual_parts(body: bytes) -> list[CompletedPart]:
    """The parts of a usual document; none of any other."""
    for whole, part in zip(_USUAL_DOCUMENTS, _USUAL_PARTS, strict=True):
        if whole.fullmatch(body) is not None:
            found = [CompletedPart(int(one["number"]), one["etag"].decode("ascii")) for one in part.finditer(body)]
            return found if len(found) <= MAXIMUM_PARTS else []
    return []


def _completed_part(part: Element) -> CompletedPart:
    number = 0
    etag = ""
    checksums = []
    seen = set()
    # One pass instead of `optional` for each of twelve names: there may be 10,000 of these.
    for child in part.children:
        if child.name in seen:
            malformed(f"Part holds {child.name} twice")
        seen.add(child.name)
        if child.name == "PartNumber":
            number = _part_number(child)
        elif child.name == "ETag":
            etag = child.word().strip('"')
        elif child.name in ELEMENTS:
            checksums.append((child.name.removeprefix("Checksum"), child.word()))
        else:
            malformed(f"Part may not hold {child.name}")
    if part.attributes:
        malformed("Part has attributes")
    if "PartNumber" not in seen or not etag:
        malformed("Part has no PartNumber or no ETag")
    return CompletedPart(number, etag, tuple(checksums))


def _part_number(leaf: Element) -> int:
    number = leaf.integer(-(2**63), 2**63 - 1)
    if not 1 <= number <= MAXIMUM_PART_NUMBER:
        raise InvalidArgument(
            "PartNumber", str(number), f"Part number must be an integer between 1 and {MAXIMUM_PART_NUMBER}, inclusive"
        )
    return number
