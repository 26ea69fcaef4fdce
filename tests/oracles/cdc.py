"""Content-defined chunking a byte at a time, its tables made from their definition: the twin of `rs3d.kernels.cdc`."""

from __future__ import annotations

import hashlib

WINDOW_BYTES = 32
MASK = 0xFFFFFFFF


def nibble_tables() -> tuple[list[int], list[int]]:
    """LOW and HIGH: words of SHA-256("rs3d cdc 1 " + counter + "/" + part), of the first counter that `separates`."""
    counter = 0
    while True:
        words = []
        for part in range(4):
            digest = hashlib.sha256(f"rs3d cdc 1 {counter}/{part}".encode()).digest()
            words += [int.from_bytes(digest[at : at + 4], "little") for at in range(0, 32, 4)]
        low, high = words[:16], words[16:]
        if separates([low[byte & 15] ^ high[byte >> 4] for byte in range(256)]):
            return low, high
        counter += 1


def separates(gear: list[int]) -> bool:
    """Whether no run of one byte looks like a cut at any average size: its top eight bits are never all zero."""
    return all(window_hash(bytes([byte]) * WINDOW_BYTES, gear) >> 24 for byte in range(256))


def window_hash(window: bytes, gear: list[int]) -> int:
    value = 0
    for byte in window:
        value = (value << 1 & MASK) ^ gear[byte]
    return value


def gear_table() -> list[int]:
    low, high = nibble_tables()
    return [low[byte & 15] ^ high[byte >> 4] for byte in range(256)]


def cuts(data: bytes, min_bytes: int, average_bytes: int, max_bytes: int) -> list[int]:
    """Where the chunks of a whole stream end."""
    gear = gear_table()
    bits = average_bytes.bit_length() - 1
    ends: list[int] = []
    start = value = 0
    for at, byte in enumerate(data):
        value = (value << 1 & MASK) ^ gear[byte]
        length = at + 1 - start
        zero_bits = bits + 2 if length < average_bytes else bits - 2
        if length >= max_bytes or (length >= min_bytes and value >> (32 - zero_bits) == 0):
            ends.append(at + 1)
            start = at + 1
    if start < len(data):
        ends.append(len(data))
    return ends
