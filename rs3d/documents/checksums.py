"""Additional checksums in documents: an element a value, called Checksum and the algorithm."""

from __future__ import annotations

from collections.abc import Iterable

from rs3d.documents.xmlwriter import element, optional_element

ALGORITHMS = (
    "CRC32",
    "CRC32C",
    "CRC64NVME",
    "SHA1",
    "SHA256",
    "SHA512",
    "MD5",
    "XXHASH64",
    "XXHASH3",
    "XXHASH128",
)
"""S3's names, as in x-amz-checksum-algorithm."""

ELEMENTS = tuple("Checksum" + algorithm for algorithm in ALGORITHMS)

ChecksumTexts = tuple[tuple[str, str], ...]
"""(algorithm, base64 text) pairs; a composite value ends in `-N`."""


def render_checksums(checksums: Iterable[tuple[str, str]], checksum_type: str = "") -> str:
    """The elements of `checksums`, and ChecksumType if it is given."""
    return "".join([element("Checksum" + algorithm, text) for algorithm, text in checksums]) + optional_element(
        "ChecksumType", checksum_type
    )
