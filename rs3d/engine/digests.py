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
from rs3d.kernels import crc, md5

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


SLOWEST: Final = "MD5"
"""0.8 GB/s a core, and not to be had faster for one stream: the one worth a thread of its own, and company."""


class DigestSet:
    """Several digests of one stream.

    Not to be used from two threads at once, except that `update_slowest` and `update_others` touch nothing in common.
    """

    __slots__ = ("_hashers", "_others", "size_bytes", "slowest")

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashers = {algorithm: new_hasher(algorithm) for algorithm in algorithms}
        slowest = self._hashers.get(SLOWEST)
        self.slowest: Final = slowest if isinstance(slowest, md5.Md5) else None
        """The stream of the slowest, if it is wanted: for a `HashGang`."""
        self._others = [hasher for algorithm, hasher in self._hashers.items() if algorithm != SLOWEST]
        self.size_bytes = 0

    def update(self, data: Buffer) -> None:
        """Add the next bytes; the buffer may be reused afterwards."""
        self.update_slowest(data)
        self.update_others(data)

    def update_slowest(self, data: Buffer) -> None:
        """Half of `update`."""
        if self.slowest is not None:
            self.slowest.update(data)

    def update_others(self, data: Buffer) -> None:
        """The other half."""
        self.size_bytes += len(data)
        for hasher in self._others:
            hasher.update(data)

    def has(self, algorithm: str) -> bool:
        return algorithm in self._hashers

    def value(self, algorithm: str) -> bytes:
        """The digest of everything so far."""
        return self._hashers[algorithm].digest()
