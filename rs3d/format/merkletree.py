"""The Merkle root of a blob, and of an object over its parts. FORMAT.md section "Merkle tree".

leaf = SHA-256(block) · node = SHA-256(01 ‖ left ‖ right), an odd node is promoted · root = SHA-256(02 ‖ leaf count ‖
length ‖ top), both 64-bit big-endian, the length in bytes. No bytes have one leaf, SHA-256 of nothing. The tags keep a
node from passing as a root, and the root's count and length keep a subtree from passing as a tree (a leaf needs no tag:
its place is fixed by both).
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

NODE_TAG: Final = b"\x01"
ROOT_TAG: Final = b"\x02"
ROOT: Final = struct.Struct(">BQQ")
DIGEST_BYTES: Final = 32


def merkle_root(leaves: bytes, length_bytes: int) -> bytes:
    """The root over `leaves` (SHA-256 digests end to end, at least one) of `length_bytes` bytes.

    Raises:
        ValueError: `leaves` is empty or not a whole number of digests.
    """
    if not leaves or len(leaves) % DIGEST_BYTES:
        raise ValueError(f"{len(leaves)} bytes are no whole number of leaves")
    level = [leaves[i : i + DIGEST_BYTES] for i in range(0, len(leaves), DIGEST_BYTES)]
    count = len(level)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [hashlib.sha256(NODE_TAG + left + right).digest() for left, right in pairs]
        level = [*above, level[-1]] if len(level) % 2 else above
    return hashlib.sha256(ROOT.pack(ROOT_TAG[0], count, length_bytes) + level[0]).digest()
