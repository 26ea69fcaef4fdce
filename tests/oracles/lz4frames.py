"""A stream of lz4 frames with its rows, written from the format alone (FORMAT.md, layer `compress`) with the package
lz4 and a bitwise CRC: the twin of `rs3d.kernels.lz4frames`."""

from __future__ import annotations

import struct

import lz4.block

from tests.oracles import crc

STORED, LZ4 = 0, 2


def check(frame: int, place: int, stored: bytes, plain: bytes) -> int:
    """The check of a row."""
    covered = struct.pack(">QQ", frame, place) + stored + (b"" if place >> 56 == STORED else plain)
    return crc.CRC32C.update(covered)


def encode(plain: bytes, frame_bytes: int, first_frame: int = 0, begin: int = 0) -> tuple[bytes, bytes]:
    """Stored bytes and rows of consecutive frames; one that does not shrink is stored as it is."""
    stored, rows = b"", b""
    for number, at in enumerate(range(0, len(plain), frame_bytes), first_frame):
        frame = plain[at : at + frame_bytes]
        packed = lz4.block.compress(frame, store_size=False)
        codec, kept = (LZ4, packed) if len(packed) < len(frame) else (STORED, frame)
        stored += kept
        place = codec << 56 | (begin + len(stored))
        rows += struct.pack(">QI", place, check(number, place, kept, frame))
    return stored, rows
