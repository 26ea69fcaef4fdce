"""S3's additional checksums in headers and trailers: names, encodings, lengths. Pure.

Source: S3 User Guide, "Checking object integrity for data uploads".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Final

from rs3d.errors import InvalidDigest
from rs3d.http.messages import Head
from rs3d.s3.errors import S3Refusal
from rs3d.types.objects import Checksum, ChecksumType

DIGEST_BYTES: Final[dict[str, int]] = {
    "CRC32": 4,
    "CRC32C": 4,
    "CRC64NVME": 8,
    "SHA1": 20,
    "SHA256": 32,
    "SHA512": 64,
    "MD5": 16,
    "XXHASH64": 8,
    "XXHASH3": 8,
    "XXHASH128": 16,
}
"""Every algorithm and the length of its value."""

HEADERS: Final[dict[bytes, str]] = {b"x-amz-checksum-" + name.lower().encode(): name for name in DIGEST_BYTES}
"""Header name → algorithm."""


def header_name(algorithm: str) -> bytes:
    """The header that carries a value of `algorithm`."""
    return b"x-amz-checksum-" + algorithm.lower().encode("ascii")


def decode_value(algorithm: str, text: str, *, place: str = "header") -> bytes:
    """The raw digest in the base64 of a checksum's header, or of the trailing one.

    Raises:
        S3Refusal: not base64, or not of the algorithm's length.
    """
    raw = _digest(algorithm, text)
    if raw is None:
        raise S3Refusal("InvalidRequest", f"Value for {header_name(algorithm).decode('ascii')} {place} is invalid.")
    return raw


def _digest(algorithm: str, text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == DIGEST_BYTES[algorithm] else None


def encode_value(checksum: Checksum, part_count: int = 0) -> str:
    """As clients see it: base64, with `-N` when it is a composite over N parts."""
    text = base64.b64encode(checksum.value).decode("ascii")
    return f"{text}-{part_count}" if checksum.type is ChecksumType.COMPOSITE and part_count else text


def declared_checksums(head: Head) -> tuple[Checksum, ...]:
    """The checksum values in request headers: none or one, as S3 allows.

    Raises:
        S3Refusal
    """
    found = [
        Checksum(HEADERS[name], decode_value(HEADERS[name], value.decode("latin-1")))
        for name, value in head.headers
        if name in HEADERS
    ]
    if len(found) > 1:
        raise S3Refusal(
            "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    return tuple(found)


def algorithm_of(value: str | None) -> str:
    """The algorithm that a header names, in upper case; '' for None.

    Raises:
        S3Refusal: S3 has no such algorithm.
    """
    if value is None:
        return ""
    name = value.upper()
    if name not in DIGEST_BYTES:
        raise S3Refusal(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types.",
        )
    return name


def trailing_algorithm(head: Head) -> str:
    """The algorithm whose value the trailer will bring (x-amz-trailer); '' when there is none.

    Raises:
        S3Refusal: the trailer is announced to hold something else.
    """
    announced = head.get(b"x-amz-trailer")
    if announced is None:
        return ""
    name = HEADERS.get(announced.strip().lower())
    if name is None:
        raise S3Refusal("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    return name


def requested_algorithm(head: Head, declared: Iterable[Checksum]) -> str:
    """The one algorithm a put wants kept: from a value, the trailer, or x-amz-sdk-checksum-algorithm.

    Raises:
        S3Refusal: they name different ones, or an unknown one.
    """
    values = {checksum.algorithm for checksum in declared}
    trailing = trailing_algorithm(head)
    if trailing:
        values.add(trailing)
    raw = head.get(b"x-amz-sdk-checksum-algorithm")
    named = algorithm_of(raw.decode("latin-1") if raw is not None else None)
    if named:
        if values and named not in values and named != "MD5":
            # SDKs name the algorithm even where they send its value; a differing pair is a mistake of the client.
            raise S3Refusal("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
        if not values and named != "MD5":
            raise S3Refusal(
                "InvalidRequest",
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer "
                "headers were found.",
            )
    if len(values) > 1:
        raise S3Refusal("InvalidRequest", "Expecting a single x-amz-checksum- header")
    return values.pop() if values else ""


def checksum_headers(checksums: Iterable[Checksum], part_count: int) -> list[tuple[bytes, bytes]]:
    """Response headers of stored checksums, with x-amz-checksum-type."""
    headers: list[tuple[bytes, bytes]] = []
    for checksum in checksums:
        headers.append((header_name(checksum.algorithm), encode_value(checksum, part_count).encode("ascii")))
        headers.append((b"x-amz-checksum-type", checksum.type.value.encode("ascii")))
    return headers


def content_md5(head: Head) -> bytes | None:
    """The digest in Content-MD5, or None.

    Raises:
        InvalidDigest
    """
    raw = head.get(b"content-md5")
    if raw is None:
        return None
    text = raw.decode("latin-1")
    digest = _digest("MD5", text)
    if digest is None:
        raise InvalidDigest(algorithm="Content-MD5", declared=text)
    return digest


def checksum_texts(checksums: Iterable[Checksum], part_count: int = 0) -> tuple[tuple[str, str], ...]:
    """(algorithm, text) pairs for XML documents."""
    return tuple((checksum.algorithm, encode_value(checksum, part_count)) for checksum in checksums)


def checksum_type(checksums: Iterable[Checksum]) -> str:
    """ChecksumType of stored checksums; '' when there are none."""
    return next((checksum.type.value for checksum in checksums), "")
