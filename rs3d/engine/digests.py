"""Streaming digests of a body: MD5, SHA-*, CRC*, XXH*, any set of them in one pass.

Names are S3's (`x-amz-checksum-algorithm`), digests are raw, numbers big-endian. Sources: S3 API "Checking object
integrity"; RFC 1321, FIPS 180-4, the xxHash specification. Nothing here awaits; from some KiB on, all drop the GIL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import xxhash

from rs3d.errors import InvalidArgument
from rs3d.kernels import bodyhash, crc, md5
from rs3d.kernels.bodyhash import BodyHash, Chunks, WholeCrc

Buffer = bytes | bytearray | memoryview


class Hasher(Protocol):
    """What hashlib's and xxhash's objects have in common."""

    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A CRC kernel as a hasher."""

    __slots__ = ("_function", "_value", "_width")

    def __init__(self, function: Callable[[Buffer, int], int], width: int) -> None:
        self._function = function
        self._value = 0
        self._width = width

    def update(self, data: Buffer, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


def _sha1() -> Hasher:
    return hashlib.sha1(usedforsecurity=False)


_FACTORIES: Final[dict[str, tuple[int, Callable[[], Hasher]]]] = {
    "MD5": (16, md5.Md5),
    "SHA1": (20, _sha1),
    "SHA256": (32, hashlib.sha256),
    "SHA512": (64, hashlib.sha512),
    "CRC32": (4, lambda: _Crc(crc.crc32, 4)),
    "CRC32C": (4, lambda: _Crc(crc.crc32c, 4)),
    "CRC64NVME": (8, lambda: _Crc(crc.crc64nvme, 8)),
    "XXHASH64": (8, xxhash.xxh64),
    "XXHASH3": (8, xxhash.xxh3_64),
    "XXHASH128": (16, xxhash.xxh3_128),
}

ALGORITHMS: Final = frozenset(_FACTORIES)


def digest_bytes(algorithm: str) -> int:
    """Length of the algorithm's raw digest.

    Raises:
        InvalidArgument: the algorithm is not one of S3's.
    """
    found = _FACTORIES.get(algorithm)
    if found is None:
        raise InvalidArgument(name="checksum algorithm", value=algorithm, reason="is not one of " + _names())
    return found[0]


def _names() -> str:
    return ", ".join(_FACTORIES)


def new_hasher(algorithm: str) -> Hasher:
    """A hasher that has seen nothing yet.

    Raises:
        InvalidArgument: the algorithm is not one of S3's.
    """
    digest_bytes(algorithm)
    return _FACTORIES[algorithm][1]()


def digest_of(algorithm: str, data: Buffer) -> bytes:
    """The digest of bytes in memory."""
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return hasher.digest()


_MD5: Final = "MD5"
_SHA256: Final = "SHA256"
_HAS_SHA_UNIT: Final = bodyhash.variant() in ("avx512", "shani")
_CRCS: Final = frozenset({"CRC32", "CRC32C", "CRC64NVME"})
"""Digests of a body as a whole that an intake makes beside the stream."""


def body_stream(
    algorithms: Iterable[str], *, tables: bool, is_one_leaf: bool = False, chunks: Chunks | None = None
) -> BodyHash | None:
    """What of `algorithms` is better computed apart and in company (MD5: 0.8 GB/s a core, and not to be had faster for
    one body; SHA-256 beside that of the leaves), together with the tables of the blob, if its bytes are the client's;
    None when there is neither.

    Args:
        is_one_leaf: the whole has no more bytes than a leaf of the tables: then it is not hashed twice. Else it is
            where the processor has a unit for SHA-256; without, OpenSSL's is faster, and such a body goes piece by
            piece.
        chunks: of a body that `can_take_framed`.
    """
    wants_md5 = _MD5 in algorithms
    wants_sha256 = _HAS_SHA_UNIT and tables and not is_one_leaf and _SHA256 in algorithms
    if not wants_md5 and not tables:
        return None
    return BodyHash(md5=wants_md5, tables=tables, sha256=wants_sha256, chunks=chunks)


def can_take_framed(algorithms: Iterable[str], *, is_signed: bool) -> bool:
    """Whether an intake makes all of `algorithms` of a body from which it takes the framing; and the SHA-256 of its
    chunks where that `is_signed`: in the place of that of the whole, and where the processor has a unit for it."""
    if is_signed and not _HAS_SHA_UNIT:
        return False
    return all(algorithm == _MD5 or algorithm in _CRCS for algorithm in algorithms)


def _hasher_beside_stream(algorithm: str) -> Hasher:
    return WholeCrc(algorithm) if algorithm in _CRCS else new_hasher(algorithm)


class _OfStream:
    """SHA-256 of a body whose stream makes it, or makes that of its only leaf."""

    __slots__ = ("digest",)

    def __init__(self, digest: Callable[[], bytes]) -> None:
        self.digest: Final = digest

    def update(self, data: Buffer, /) -> None:
        pass


class DigestSet:
    """Several digests of one stream.

    Not to be used from two threads at once, except that `update_stream` and `update_others` touch nothing in common.
    """

    __slots__ = ("_hashers", "_others", "crcs", "size_bytes", "stream")

    def __init__(self, algorithms: Iterable[str], stream: BodyHash | None = None, *, is_one_leaf: bool = False) -> None:
        """Args:
        stream: by `body_stream` for the same algorithms; a `HashGang` may add the bytes to it. None: all digests are
            computed one by one.
        is_one_leaf: the whole has no more bytes than a leaf of the stream's tables, which there are.
        """
        self.stream: Final = stream
        apart: dict[str, Hasher] = {} if stream is None else {_MD5: stream}
        if stream is not None and is_one_leaf:
            apart[_SHA256] = _OfStream(stream.leaves)
        elif stream is not None and stream.has_sha256:
            apart[_SHA256] = _OfStream(stream.sha256)
        make = new_hasher if stream is None else _hasher_beside_stream
        self._hashers = {algorithm: apart.get(algorithm) or make(algorithm) for algorithm in algorithms}
        self._others = [hasher for algorithm, hasher in self._hashers.items() if algorithm not in apart]
        self.size_bytes = 0
        crcs = tuple(hasher for hasher in self._others if isinstance(hasher, WholeCrc))
        self.crcs: Final = crcs if stream is not None and len(crcs) == len(self._others) else None
        """What an intake has to make beside the stream, perhaps nothing; None where it cannot make all there is."""

    def update(self, data: Buffer) -> None:
        """Add the next bytes; the buffer may be reused afterwards."""
        self.update_stream(data)
        self.update_others(data)

    def update_stream(self, data: Buffer) -> None:
        """Half of `update`."""
        if self.stream is not None:
            self.stream.update(data)

    def update_others(self, data: Buffer) -> None:
        """The other half."""
        self.size_bytes += len(data)
        for hasher in self._others:
            hasher.update(data)

    def count(self, byte_count: int) -> None:
        """So many bytes were added to the stream, and to all of `crcs`, by somebody else."""
        self.size_bytes += byte_count

    def has(self, algorithm: str) -> bool:
        return algorithm in self._hashers

    def value(self, algorithm: str) -> bytes:
        """The digest of everything so far."""
        return self._hashers[algorithm].digest()
