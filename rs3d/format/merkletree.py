"""The Merkle root of a blob, and of an object over its parts. FORMAT.md section "Merkle tree".

leaf = SHA-256(block) · node = SHA-256(01 ‖ left ‖ right), an odd node is promoted · root = SHA-256(02 ‖ leaf count ‖
length ‖ top), both 64-bit big-endian, the length in bytes. No bytes have one leaf, SHA-256 of nothing. The tags keep a
node from passing as a root, and the root's count and length keep a subtree from passing as a tree (a leaf needs no tag:
its place is fixed by both).
"""

from __future__ import annotations

from rs3d.kernels import merkle


def merkle_root(leaves: bytes, length_bytes: int) -> bytes:
    """The root over `leaves` (32 bytes each, end to end, at least one) of `length_bytes` bytes. For an object of parts
    the leaves are the parts' own roots and the length is the object's.

    Raises:
        ValueError: `leaves` is empty or not a whole number of digests.
    """
    return merkle.root(leaves, length_bytes)
