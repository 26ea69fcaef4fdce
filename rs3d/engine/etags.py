"""ETags: MD5 of the client's bytes as S3 clients expect, or SHA-256 where a bucket says so; `-N` for N parts.

Source: S3 API reference, type Object, field ETag; the multipart form is the digest of the parts' raw digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import Enum


class EtagAlgorithm(Enum):
    """The values of the bucket setting `etag`."""

    MD5 = "md5"
    SHA256 = "sha256"

    @property
    def digest_name(self) -> str:
        """The algorithm's name among S3's checksum algorithms."""
        return self.value.upper()


def multipart_etag(algorithm: EtagAlgorithm, digests: Iterable[bytes]) -> str:
    """The ETag of an object made of parts with these raw digests, in order."""
    hasher = hashlib.md5(usedforsecurity=False) if algorithm is EtagAlgorithm.MD5 else hashlib.sha256()
    count = 0
    for digest in digests:
        hasher.update(digest)
        count += 1
    return f"{hasher.hexdigest()}-{count}"


def matches(wanted: tuple[str, ...], etag: str) -> bool:
    """Whether one of the ETags of a condition is `etag`, or `*`. Strong comparison (RFC 9110 8.8.3.2)."""
    return etag in wanted or "*" in wanted
