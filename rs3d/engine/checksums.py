"""S3's additional checksums: which type goes with which algorithm, and those of a whole multipart object.

Source: S3 User Guide, "Checking object integrity", table of algorithms and checksum types. CRCs of a whole object can
be combined from those of its parts, all others cannot; CRC64NVME is always of the full object.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from rs3d.engine.digests import digest_bytes, digest_of
from rs3d.errors import BadDigest, InvalidArgument, InvalidDigest
from rs3d.kernels import crc
from rs3d.types.objects import Checksum, ChecksumType

_COMBINE: Final[dict[str, Callable[[int, int, int], int]]] = {
    "CRC32": crc.crc32_combine,
    "CRC32C": crc.crc32c_combine,
    "CRC64NVME": crc.crc64nvme_combine,
}


def upload_type(algorithm: str, wanted: ChecksumType | None) -> ChecksumType:
    """The checksum type of an upload with `algorithm`: the one wanted, or S3's default.

    Raises:
        InvalidArgument: unknown algorithm, or S3 does not have this pair.
    """
    digest_bytes(algorithm)
    if wanted is None:
        return ChecksumType.FULL_OBJECT if algorithm == "CRC64NVME" else ChecksumType.COMPOSITE
    if wanted is ChecksumType.FULL_OBJECT and algorithm not in _COMBINE:
        raise _no_such_pair(algorithm, wanted)
    if wanted is ChecksumType.COMPOSITE and algorithm == "CRC64NVME":
        raise _no_such_pair(algorithm, wanted)
    return wanted


def _no_such_pair(algorithm: str, wanted: ChecksumType) -> InvalidArgument:
    return InvalidArgument(
        name="checksum type", value=wanted.value, reason=f"cannot be had with the algorithm {algorithm}"
    )


def whole_checksum(algorithm: str, kind: ChecksumType, parts: Sequence[tuple[bytes, int]]) -> Checksum:
    """The checksum of a multipart object from its parts' (digest, length in bytes), in order; there is at least one."""
    if kind is ChecksumType.COMPOSITE:
        return Checksum(algorithm, digest_of(algorithm, b"".join(digest for digest, _ in parts)), kind)
    combine = _COMBINE[algorithm]
    value = int.from_bytes(parts[0][0], "big")
    for digest, length in parts[1:]:
        value = combine(value, int.from_bytes(digest, "big"), length)
    return Checksum(algorithm, value.to_bytes(digest_bytes(algorithm), "big"), kind)


def check_well_formed(checksums: Iterable[Checksum]) -> None:
    """Refuse declared checksums that cannot be values of their algorithm.

    Raises:
        InvalidArgument: unknown algorithm.
        InvalidDigest: wrong length.
    """
    for checksum in checksums:
        if len(checksum.value) != digest_bytes(checksum.algorithm):
            raise InvalidDigest(algorithm=checksum.algorithm, declared=_text(checksum.value))


def check_equal(algorithm: str, declared: bytes, computed: bytes) -> None:
    """Raises BadDigest when they differ."""
    if declared != computed:
        raise BadDigest(algorithm=algorithm, declared=_text(declared), computed=_text(computed))


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
