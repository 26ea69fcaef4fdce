"""lz4frames: a MiB of text in frames of 128 KiB, from memory and from the page cache, beside the package lz4 with a CRC
over each frame and a copy to where it belongs (what the kernel replaces)."""

from __future__ import annotations

import os
import random
import struct
import tempfile
from functools import partial

import lz4.block

from perf.kernels import Case
from rs3d.kernels import crc, lz4frames

FRAME_BYTES = 131_072
BODY_BYTES = 1 << 20


def cases() -> list[Case]:
    """Text of a small vocabulary, which shrinks to three quarters."""
    chance = random.Random(7)
    vocabulary = [b"%08x " % chance.getrandbits(32) for _ in range(4_000)]
    body = b"".join(chance.choice(vocabulary) for _ in range(BODY_BYTES // 9 + 1))[:BODY_BYTES]
    packed = [
        lz4.block.compress(body[at : at + FRAME_BYTES], store_size=False) for at in range(0, BODY_BYTES, FRAME_BYTES)
    ]
    stored, rows = b"", b""
    for number, frame in enumerate(packed):
        stored += frame
        place = 2 << 56 | len(stored)
        check = crc.crc32c(frame, crc.crc32c(struct.pack(">QQ", number, place)))
        check = crc.crc32c(body[number * FRAME_BYTES : (number + 1) * FRAME_BYTES], check)
        rows += struct.pack(">QI", place, check)
    fd = os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR)
    os.pwrite(fd, stored, 0)
    out = bytearray(BODY_BYTES)
    return [
        Case(group="1 MiB", name="decode", run=partial(_decode, stored, rows, out), units=BODY_BYTES),
        Case(group="1 MiB", name="decode_resident", run=partial(_decode_resident, fd, rows, out), units=BODY_BYTES),
        Case(group="1 MiB", name="package + crc + copy", run=partial(_by_package, packed, out), units=BODY_BYTES),
        Case(group="1 MiB", name="package alone", run=partial(_bare, packed), units=BODY_BYTES),
    ]


def _decode(stored: bytes, rows: bytes, out: bytearray) -> None:
    if lz4frames.decode(stored, rows, 0, 0, out, FRAME_BYTES) is not lz4frames.Outcome.DECODED:
        raise RuntimeError("good frames are called bad")


def _decode_resident(fd: int, rows: bytes, out: bytearray) -> None:
    if lz4frames.decode_resident(fd, rows, 0, 0, out, FRAME_BYTES) is not lz4frames.Outcome.DECODED:
        raise RuntimeError("good frames are called bad, or not resident")


def _by_package(packed: list[bytes], out: bytearray) -> None:
    for number, frame in enumerate(packed):
        plain = lz4.block.decompress(frame, uncompressed_size=FRAME_BYTES)
        crc.crc32c(plain, crc.crc32c(frame))
        out[number * FRAME_BYTES : (number + 1) * FRAME_BYTES] = plain


def _bare(packed: list[bytes]) -> None:
    for frame in packed:
        lz4.block.decompress(frame, uncompressed_size=FRAME_BYTES)
