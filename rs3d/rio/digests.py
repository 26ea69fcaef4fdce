"""Checksums of streams, and the layer `checksum`, which passes bytes on and keeps their digest in the recipe.

CRCs are the store's kernels, the rest hashlib's. Digests are raw, numbers big-endian, as S3 sends them. A reader that
reads the whole stream in order checks the digest before it hands out the end; ranges cannot be checked by it.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from time import thread_time
from typing import Final, Protocol

from rs3d.errors import FormatUnknown
from rs3d.kernels import crc
from rs3d.rio.errors import StreamDamaged
from rs3d.rio.layers import LENGTH_LIMIT, Buffer, DecodingLayer, Steps, Surroundings, octets, whole_number, word
from rs3d.types.recipe import LayerRecipe

NAME: Final = "checksum"
VERSION: Final = 1


class ChecksumAlgorithm(enum.Enum):
    """A digest, by its name in recipes and in S3."""

    CRC32 = "CRC32"
    CRC32C = "CRC32C"
    CRC64NVME = "CRC64NVME"
    MD5 = "MD5"
    SHA1 = "SHA1"
    SHA256 = "SHA256"

    @property
    def digest_bytes(self) -> int:
        """Length of the raw digest."""
        return _DIGEST_BYTES[self]


_DIGEST_BYTES: Final = {
    ChecksumAlgorithm.CRC32: 4,
    ChecksumAlgorithm.CRC32C: 4,
    ChecksumAlgorithm.CRC64NVME: 8,
    ChecksumAlgorithm.MD5: 16,
    ChecksumAlgorithm.SHA1: 20,
    ChecksumAlgorithm.SHA256: 32,
}


class Digest(Protocol):
    """A running digest."""

    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc:
    __slots__ = ("_function", "_value", "_width")

    def __init__(self, function: Callable[[Buffer, int], int], width: int) -> None:
        self._function = function
        self._value = 0
        self._width = width

    def update(self, data: Buffer, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


def new_digest(algorithm: ChecksumAlgorithm) -> Digest:
    """A digest that has seen nothing yet. Not for two threads at once; drops the GIL from some KiB on."""
    if algorithm is ChecksumAlgorithm.CRC32:
        return _Crc(crc.crc32, 4)
    if algorithm is ChecksumAlgorithm.CRC32C:
        return _Crc(crc.crc32c, 4)
    if algorithm is ChecksumAlgorithm.CRC64NVME:
        return _Crc(crc.crc64nvme, 8)
    if algorithm is ChecksumAlgorithm.MD5:
        return hashlib.md5(usedforsecurity=False)
    if algorithm is ChecksumAlgorithm.SHA1:
        return hashlib.sha1(usedforsecurity=False)
    return hashlib.sha256()


class DigestingLayer:
    """Encoder: passes everything on."""

    def __init__(self, algorithm: ChecksumAlgorithm) -> None:
        self.name: Final = NAME
        self.algorithm: Final = algorithm
        self._digest = new_digest(algorithm)
        self._length = 0

    @property
    def value(self) -> bytes:
        """The digest so far."""
        return self._digest.digest()

    def encode(self, pieces: list[Buffer]) -> list[Buffer]:
        for piece in pieces:
            self._digest.update(piece)
            self._length += memoryview(piece).nbytes
        return pieces

    def finish(self, pieces: list[Buffer]) -> list[Buffer]:
        return self.encode(pieces)

    def recipe(self) -> LayerRecipe | None:
        parameters = (("algorithm", self.algorithm.value), ("value", self.value), ("length", self._length))
        return LayerRecipe(NAME, VERSION, parameters)


class DigestCheckingLayer:
    """Decoder: passes ranges on; as long as they come in order from the first byte, the end is checked."""

    def __init__(self, recipe: LayerRecipe, outside: DecodingLayer, surroundings: Surroundings) -> None:
        self.name: Final = NAME
        self.seconds = 0.0
        self.bytes_out = 0
        self._outside = outside
        self.length = whole_number(recipe, "length", 0, LENGTH_LIMIT)
        if outside.length != self.length:
            reason = f"there are {outside.length} bytes, {self.length} were digested"
            raise StreamDamaged(layer=NAME, offset=0, reason=reason)
        try:
            self._algorithm = ChecksumAlgorithm(word(recipe, "algorithm"))
        except ValueError as error:
            raise FormatUnknown(what=f"recipe layer {NAME}", reason=str(error)) from None
        self._expected = octets(recipe, "value", self._algorithm.digest_bytes)
        self._digest: Digest = new_digest(self._algorithm)
        self._position = 0
        self.verified = False
        """Whether the whole stream was read in order and its digest was right."""

    def fill(self, first: int, out: memoryview) -> Steps:
        yield from self._outside.fill(first, out)
        started = thread_time()
        if first == 0:
            self._digest, self._position = new_digest(self._algorithm), 0
        if first == self._position:
            self._digest.update(out)
            self._position += len(out)
            if self._position == self.length:
                if self._digest.digest() != self._expected:
                    raise StreamDamaged(layer=NAME, offset=0, reason=f"the {self._algorithm.value} differs")
                self.verified = True
        self.seconds += thread_time() - started
        self.bytes_out += len(out)
