"""A stream cut into chunks: pieces of any size in, whole chunks with their SHA-256 out. No I/O.

Memory: the chunk that has begun, at most four times the mean (what is whole in a piece is not copied). Blocks on the
processor, some 0.7 ms a MiB; belongs in a thread. Not for two threads at once.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final, NamedTuple

from rs3d.errors import InvalidArgument
from rs3d.kernels.cdc import Chunker, FixedChunker
from rs3d.kernels.merkle import HASH_BYTES, sha256, sha256_spans

CHUNK_BYTES_FLOOR: Final = 4 << 10
CHUNK_BYTES_CEILING: Final = 1 << 20
CHUNK_BYTES_USUAL: Final = 64 << 10

SPREAD: Final = 4
"""Content-defined chunks have a quarter to four times of the mean: narrower bounds force cuts that move with an
insertion, wider ones let small and large chunks spoil the mean."""


class CutAlgorithm(enum.Enum):
    """Where chunks end, by its name in settings and recipes."""

    FIXED = "fixed"
    CONTENT_DEFINED = "content-defined"


class Cut(NamedTuple):
    """One chunk: its bytes, valid until the next call, and their SHA-256."""

    plain: memoryview
    digest: bytes


def check_chunk_bytes(algorithm: CutAlgorithm, chunk_bytes: int) -> None:
    """Raises InvalidArgument unless chunks may have this (mean) size."""
    if not CHUNK_BYTES_FLOOR <= chunk_bytes <= CHUNK_BYTES_CEILING:
        reason = f"chunks have {CHUNK_BYTES_FLOOR} to {CHUNK_BYTES_CEILING} bytes"
    elif algorithm is CutAlgorithm.CONTENT_DEFINED and chunk_bytes & (chunk_bytes - 1):
        reason = "the mean of content-defined chunks is a power of two"
    elif chunk_bytes % CHUNK_BYTES_FLOOR:
        reason = f"chunks of fixed size are a multiple of {CHUNK_BYTES_FLOOR} bytes"
    else:
        return
    raise InvalidArgument(name="chunk size", value=str(chunk_bytes), reason=reason)


def longest_chunk_bytes(algorithm: CutAlgorithm, chunk_bytes: int) -> int:
    """The most bytes that one chunk has."""
    return chunk_bytes if algorithm is CutAlgorithm.FIXED else chunk_bytes * SPREAD


class Cutter:
    """Cuts one stream."""

    __slots__ = ("_begun", "_chunker", "_position")

    def __init__(self, algorithm: CutAlgorithm, chunk_bytes: int) -> None:
        """
        Raises:
            InvalidArgument: chunks have no such size.
        """
        check_chunk_bytes(algorithm, chunk_bytes)
        self._chunker: Chunker | FixedChunker
        if algorithm is CutAlgorithm.FIXED:
            self._chunker = FixedChunker(chunk_bytes)
        else:
            self._chunker = Chunker(chunk_bytes // SPREAD, chunk_bytes, chunk_bytes * SPREAD)
        self._begun = bytearray()
        self._position = 0

    def cut(self, view: memoryview) -> list[Cut]:
        """Take the next bytes; the chunks that end within them. Those lie in `view`, all but perhaps the first."""
        start, self._position = self._position, self._position + len(view)
        ends = [end - start for end in self._chunker.update(view)]
        if not ends:
            self._begun += view
            return []
        made: list[Cut] = []
        first = 0
        if self._begun:
            first = ends.pop(0)
            self._begun += view[:first]
            # Given out for good: the next chunk begins in a buffer of its own.
            begun, self._begun = self._begun, bytearray()
            made.append(Cut(memoryview(begun), sha256(begun)))
        made.extend(_spans(view[first:], [end - first for end in ends]))
        self._begun += view[ends[-1] if ends else first :]
        return made

    def end(self) -> list[Cut]:
        """The last chunk, if bytes are left."""
        self._chunker.end()
        begun, self._begun = self._begun, bytearray()
        return [Cut(memoryview(begun), sha256(begun))] if begun else []


def _spans(view: memoryview, ends: list[int]) -> Iterator[Cut]:
    digests = sha256_spans(view, ends)
    first = 0
    for number, end in enumerate(ends):
        yield Cut(view[first:end], digests[number * HASH_BYTES : (number + 1) * HASH_BYTES])
        first = end
