"""Compressing and decompressing one frame: zstd, lz4, deflate, gzip. Never more out than declared.

Contexts of the libraries are large and slow to make, so each thread keeps its own. Sources: RFC 8878 (zstd), the LZ4
block format, RFC 1951 (deflate), RFC 1952 (gzip). Nothing here waits; all codecs drop the GIL.
"""

from __future__ import annotations

import enum
import hashlib
import threading
import zlib
from collections.abc import Sequence
from typing import Final, cast

import lz4.block
import zstandard

from rs3d.rio.errors import LayersRefused
from rs3d.rio.layers import Buffer


class Codec(enum.IntEnum):
    """How one frame is stored; the numbers stand in the index of compressed streams."""

    STORED = 0
    ZSTD = 1
    LZ4 = 2
    DEFLATE = 3
    GZIP = 4


LEVELS: Final[dict[Codec, tuple[int, int, int]]] = {
    Codec.ZSTD: (1, 19, 3),
    Codec.LZ4: (0, 12, 0),
    Codec.DEFLATE: (1, 9, 6),
    Codec.GZIP: (1, 9, 6),
}
"""Lowest, highest and usual level. lz4's 0 is its fast mode, 1 to 12 are its high-compression levels."""

DICTIONARY_LIMIT_BYTES: Final = 1 << 20


class FrameBroken(Exception):
    """A frame does not decompress to what was declared. Internal: layers turn it into StreamDamaged."""


class CompressionDictionary:
    """A zstd dictionary for many small payloads of one kind. Immutable; may be shared by threads.

    Its id is the first 16 hexadecimal digits of the SHA-256 of its content, so that an id never means two things.
    """

    __slots__ = ("content", "id", "zstd")

    def __init__(self, content: bytes) -> None:
        """
        Args:
            content: a trained dictionary, or any bytes that the payloads have in common; 8 bytes to 1 MiB.

        Raises:
            LayersRefused: another size, or a malformed trained dictionary.
        """
        if not 8 <= len(content) <= DICTIONARY_LIMIT_BYTES:
            raise LayersRefused(reason=f"a dictionary has 8 to {DICTIONARY_LIMIT_BYTES} bytes, not {len(content)}")
        self.content = bytes(content)
        self.id = hashlib.sha256(self.content).hexdigest()[:16]
        self.zstd = zstandard.ZstdCompressionDict(self.content)

    @classmethod
    def train(cls, samples: Sequence[bytes], size_bytes: int = 16384) -> CompressionDictionary:
        """Learn from samples; wants a hundred times as many bytes as the dictionary gets. *Blocks* on the processor.

        Raises:
            LayersRefused: the samples are too few or too alike to learn from.
        """
        try:
            trained = zstandard.train_dictionary(size_bytes, list(samples))
        except zstandard.ZstdError as error:
            raise LayersRefused(reason=f"no dictionary can be made of these samples: {error}") from None
        return cls(trained.as_bytes())

    def __repr__(self) -> str:
        return f"CompressionDictionary({self.id}, {len(self.content)} bytes)"


def check_level(codec: Codec, level: int) -> None:
    """Raises LayersRefused when the codec has no such level, or is no codec of its own."""
    bounds = LEVELS.get(codec)
    if bounds is None:
        raise LayersRefused(reason=f"{codec.name.lower()} is no compression")
    if not bounds[0] <= level <= bounds[1]:
        raise LayersRefused(reason=f"{codec.name.lower()} has levels {bounds[0]} to {bounds[1]}, not {level}")


class _Contexts(threading.local):
    def __init__(self) -> None:
        self.compressors: dict[tuple[int, str], zstandard.ZstdCompressor] = {}
        self.decompressors: dict[str, zstandard.ZstdDecompressor] = {}


_contexts = _Contexts()

_KEPT_CONTEXTS: Final = 8
"""Contexts of one kind that a thread keeps: levels and dictionaries in use at one time are few."""


def _compressor(level: int, dictionary: CompressionDictionary | None) -> zstandard.ZstdCompressor:
    name = (level, "" if dictionary is None else dictionary.id)
    found = _contexts.compressors.get(name)
    if found is None:
        if len(_contexts.compressors) >= _KEPT_CONTEXTS:
            _contexts.compressors.clear()
        known = None if dictionary is None else dictionary.zstd
        # Sizes are in the frame, so that a reader can refuse before it allocates; checksums are the index's business.
        found = zstandard.ZstdCompressor(
            level=level, dict_data=known, write_content_size=True, write_checksum=False, write_dict_id=False
        )
        _contexts.compressors[name] = found
    return found


def _decompressor(dictionary: CompressionDictionary | None) -> zstandard.ZstdDecompressor:
    name = "" if dictionary is None else dictionary.id
    found = _contexts.decompressors.get(name)
    if found is None:
        if len(_contexts.decompressors) >= _KEPT_CONTEXTS:
            _contexts.decompressors.clear()
        found = zstandard.ZstdDecompressor(dict_data=None if dictionary is None else dictionary.zstd)
        _contexts.decompressors[name] = found
    return found


def compress_frame(codec: Codec, level: int, data: Buffer, dictionary: CompressionDictionary | None = None) -> bytes:
    """One frame, compressed by itself.

    Raises:
        LayersRefused: the codec cannot compress.
    """
    if codec is Codec.ZSTD:
        return _compressor(level, dictionary).compress(data)
    if codec is Codec.LZ4:
        if level:
            packed = lz4.block.compress(data, mode="high_compression", compression=level, store_size=False)
        else:
            packed = lz4.block.compress(data, mode="default", store_size=False)
        return cast(bytes, packed)
    if codec is Codec.DEFLATE:
        return zlib.compress(data, level, wbits=-15)
    if codec is Codec.GZIP:
        return zlib.compress(data, level, wbits=31)
    raise LayersRefused(reason=f"{codec.name.lower()} is no compression")


def decompress_frame(
    codec: Codec, data: Buffer, plain_bytes: int, dictionary: CompressionDictionary | None = None
) -> Buffer:
    """The frame's bytes, exactly `plain_bytes` of them; memory for no more is ever taken.

    Raises:
        FrameBroken: not one whole frame of this codec, or of another size.
    """
    try:
        if codec is Codec.STORED:
            plain: Buffer = data
        elif codec is Codec.ZSTD:
            plain = _unpack_zstd(data, plain_bytes, dictionary)
        elif codec is Codec.LZ4:
            plain = cast(bytes, lz4.block.decompress(data, uncompressed_size=plain_bytes))
        else:
            plain = _inflate(data, plain_bytes, -15 if codec is Codec.DEFLATE else 31)
    except (zstandard.ZstdError, lz4.block.LZ4BlockError, zlib.error) as error:
        raise FrameBroken(f"{codec.name.lower()}: {error}") from None
    if len(plain) != plain_bytes:
        raise FrameBroken(f"{codec.name.lower()}: {len(plain)} bytes came out, {plain_bytes} were declared")
    return plain


def _unpack_zstd(data: Buffer, plain_bytes: int, dictionary: CompressionDictionary | None) -> bytes:
    # The library allocates what the frame claims: so the claim is read first.
    claimed = zstandard.frame_content_size(data)
    if claimed != plain_bytes:
        raise FrameBroken(f"zstd: the frame claims {claimed} bytes, {plain_bytes} were declared")
    decompressor = _decompressor(dictionary)
    return decompressor.decompress(data, max_output_size=plain_bytes, allow_extra_data=False)


def _inflate(data: Buffer, plain_bytes: int, window_bits: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    plain = inflater.decompress(data, plain_bytes + 1)
    if not inflater.eof or inflater.unused_data or inflater.unconsumed_tail:
        raise FrameBroken("deflate: the frame does not end where it should")
    return plain
