"""CRCs bit by bit, straight from the catalogue's parameters: the twin of `rs3d.kernels.crc`."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A reflected CRC whose initial value and final exclusive-or are all ones."""

    width: int
    polynomial: int  # normal (not reflected) form, without the leading term

    def update(self, data: bytes, crc: int = 0) -> int:
        """The CRC of `data` after a message whose CRC is `crc`."""
        ones = (1 << self.width) - 1
        reflected = int(f"{self.polynomial:0{self.width}b}"[::-1], 2)
        state = crc ^ ones
        for byte in data:
            state ^= byte
            for _ in range(8):
                state = (state >> 1) ^ (reflected if state & 1 else 0)
        return state ^ ones

    def combine(self, crc1: int, crc2: int, length2: int) -> int:
        """The CRC of A | B: run A's state over `length2` zero bytes (slow, and plainly right)."""
        reflected = int(f"{self.polynomial:0{self.width}b}"[::-1], 2)
        for _ in range(8 * length2):
            crc1 = (crc1 >> 1) ^ (reflected if crc1 & 1 else 0)
        return crc1 ^ crc2


CRC32 = Polynomial(32, 0x04C11DB7)
CRC32C = Polynomial(32, 0x1EDC6F41)
CRC64NVME = Polynomial(64, 0xAD93D23594C93659)


def crc32c_blocks(data: bytes, block_bytes: int) -> bytes:
    """CRC32C of each block as little-endian words."""
    starts = range(0, len(data), block_bytes)
    return b"".join(struct.pack("<I", CRC32C.update(data[at : at + block_bytes])) for at in starts)
