"""MD5 as RFC 1321 words it, on integers: the twin of `rs3d.kernels.md5`."""

from __future__ import annotations

import math

ROTATIONS = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
MASK = 0xFFFFFFFF


def md5(data: bytes) -> bytes:
    """The digest of a message."""
    padded = data + b"\x80" + bytes((55 - len(data)) % 64) + (8 * len(data)).to_bytes(8, "little")
    state = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
    for at in range(0, len(padded), 64):
        words = [int.from_bytes(padded[at + 4 * i : at + 4 * i + 4], "little") for i in range(16)]
        a, b, c, d = state
        for step in range(64):
            mixed, word = _mix(step, b, c, d)
            total = (a + mixed + words[word] + int(abs(math.sin(step + 1)) * 2**32)) & MASK
            turn = ROTATIONS[step // 16][step % 4]
            a, d, c, b = d, c, b, (b + (total << turn | total >> (32 - turn))) & MASK
        state = ((state[0] + a) & MASK, (state[1] + b) & MASK, (state[2] + c) & MASK, (state[3] + d) & MASK)
    return b"".join(word.to_bytes(4, "little") for word in state)


def _mix(step: int, b: int, c: int, d: int) -> tuple[int, int]:
    """The step's function of b, c and d, and which word of the block it takes."""
    match step // 16:
        case 0:
            return (b & c) | (~b & d), step
        case 1:
            return (d & b) | (~d & c), (5 * step + 1) % 16
        case 2:
            return b ^ c ^ d, (3 * step + 5) % 16
        case _:
            return c ^ (b | (~d & MASK)), 7 * step % 16
