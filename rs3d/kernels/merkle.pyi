"""SHA-256 of a body's blocks, the Merkle tree over them, inclusion proofs; and SHA-256 of many messages at once.

The tree's definition stands in `ext/merkle.pyx`: leaf = plain SHA-256 of a block, node = SHA-256(01 | left | right), an
odd hash at a level's end is promoted unchanged, root = SHA-256(02 | leaf count u64 BE | length u64 BE | top).

Variants: `shani` (the SHA instructions, two messages interleaved), `avx2` (eight messages in eight lanes), `scalar`.
`RS3D_KERNEL_MERKLE` demands one. Only calls with several messages or blocks gain: one stream is one chain of rounds.
All functions take any contiguous buffer, which must not change until they return, and drop the GIL from 8 KiB on. They
block on the processor alone: 0.4 ms a MiB with `shani`. Source: FIPS 180-4; RFC 6962, 2.1. Oracle:
`tests/oracles/merkle.py`.
"""

from collections.abc import Iterable
from typing import Final, final

from _typeshed import ReadableBuffer

LEAF_BYTES: Final[int]
"""Bytes of a block but the last (1 MiB)."""
HASH_BYTES: Final[int]
"""32."""

def sha256(data: ReadableBuffer) -> bytes:
    """The SHA-256 of one message (32 bytes)."""

def sha256_many(buffers: Iterable[ReadableBuffer]) -> bytes:
    """The digests of several messages, 32 bytes each, in their order. Lengths may differ; equal ones run fastest."""

def sha256_spans(data: ReadableBuffer, ends: Iterable[int]) -> bytes:
    """The digests of consecutive spans of a buffer, such as the chunks between cut points.

    Args:
        data: holds all spans; the first begins at 0.
        ends: where each span ends and the next begins, ascending. What follows the last is not hashed.

    Returns:
        32 bytes a span.

    Raises:
        ValueError: an end lies before the one before it, or outside `data`.
    """

def leaves(data: ReadableBuffer, block_bytes: int = ...) -> bytes:
    """The leaves of a whole body, or of a stretch of it that begins at a block; 32 bytes each, at least one.

    Raises:
        ValueError: `block_bytes` is not positive.
    """

def check_leaves(data: ReadableBuffer, expected: ReadableBuffer, block_bytes: int = ...) -> int:
    """Compare a body, or a stretch that begins at a block, with its leaves.

    Returns:
        The index of the first block that differs, or -1 when all agree.

    Raises:
        ValueError: `expected` has not 32 bytes for each block, or `block_bytes` is not positive.
    """

def node(left: ReadableBuffer, right: ReadableBuffer) -> bytes:
    """The hash above two hashes. Raises ValueError unless both have 32 bytes."""

def root(leaves: ReadableBuffer, length_bytes: int) -> bytes:
    """The root over leaves.

    Args:
        leaves: 32 bytes each, at least one; for an object of several parts, the roots of its parts.
        length_bytes: what the leaves cover altogether.

    Raises:
        ValueError: `leaves` is empty or not a multiple of 32 bytes.
        OverflowError: `length_bytes` does not fit 64 bits.
    """

def prove(leaves: ReadableBuffer, index: int) -> bytes:
    """The siblings on the way from leaf `index` to the top, 32 bytes each, lowest first; none for a single leaf.

    Raises:
        ValueError: there is no such leaf, or `leaves` is malformed.
    """

def verify(
    root: ReadableBuffer,
    leaf: ReadableBuffer,
    index: int,
    leaf_count: int,
    length_bytes: int,
    proof: ReadableBuffer,
) -> bool:
    """Whether `proof` shows that `leaf` is leaf `index` of the body with this root.

    `leaf_count` and `length_bytes` are part of what is verified; a proof of any other shape than theirs fails.
    A malformed root, leaf or proof fails; it does not raise.

    Raises:
        OverflowError: a number is negative or does not fit 64 bits.
    """

@final
class TreeAppender:
    """A tree that grows as a body arrives, in memory for 64 hashes.

    One thread at a time. Blocks that lie whole in one `update` are hashed side by side, smaller ones in turn.

    Args:
        block_bytes: size of a block, LEAF_BYTES without.

    Raises:
        ValueError: `block_bytes` is not positive.
    """

    def __init__(self, block_bytes: int = ...) -> None: ...
    @property
    def block_bytes(self) -> int: ...
    @property
    def leaf_count(self) -> int:
        """Leaves so far, without the block being filled."""
    @property
    def length_bytes(self) -> int:
        """Bytes so far."""
    @property
    def ended(self) -> bool: ...
    def update(self, data: ReadableBuffer) -> bytes:
        """Append bytes. Returns the leaves that became complete, for the block table.

        Raises:
            ValueError: the tree has ended.
            RuntimeError: another thread is inside.
        """

    def end(self) -> tuple[bytes, bytes]:
        """Close the last block. Returns its leaf, or nothing if the body ended with a whole block, and the root.

        Raises:
            ValueError, RuntimeError: as `update`.
        """

def variant() -> str:
    """The variant in use."""

def variants() -> tuple[str, ...]:
    """The variants that this machine can run, widest first."""

def use_variant(name: str) -> None:
    """Use another variant from now on, in the whole process: for tests and benchmarks.

    Raises:
        ValueError: there is no such variant.
        RuntimeError: this machine cannot run it.
    """

def selftest() -> int:
    """FIPS examples and a known tree, in every runnable variant. Returns the number of checks; well under 1 ms.

    Raises:
        RuntimeError: an answer is wrong.
    """
