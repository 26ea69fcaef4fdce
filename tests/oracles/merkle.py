"""The Merkle tree over a body's blocks, recursively and with hashlib: the twin of `rs3d.kernels.merkle`."""

from __future__ import annotations

import hashlib

LEAF_BYTES = 1 << 20


def leaves(data: bytes, block_bytes: int = LEAF_BYTES) -> list[bytes]:
    """The hash of each block; an empty body is one empty block."""
    return [hashlib.sha256(data[at : at + block_bytes]).digest() for at in range(0, max(len(data), 1), block_bytes)]


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(count: int) -> int:
    """Leaves in the left subtree of `count` (at least 2): the largest power of two below it (RFC 6962, 2.1)."""
    return 1 << (count - 1).bit_length() - 1


def top(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    at = split(len(hashes))
    return node(top(hashes[:at]), top(hashes[at:]))


def root(hashes: list[bytes], length_bytes: int) -> bytes:
    header = b"\x02" + len(hashes).to_bytes(8, "big") + length_bytes.to_bytes(8, "big")
    return hashlib.sha256(header + top(hashes)).digest()


def prove(hashes: list[bytes], index: int) -> list[bytes]:
    """Siblings from the leaf upwards."""
    if len(hashes) == 1:
        return []
    at = split(len(hashes))
    if index < at:
        return [*prove(hashes[:at], index), top(hashes[at:])]
    return [*prove(hashes[at:], index - at), top(hashes[:at])]
