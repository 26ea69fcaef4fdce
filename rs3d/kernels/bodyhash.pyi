"""Everything that is computed of a body on its way to a blob, in one pass: its MD5, the SHA-256 of its leaves (Merkle
tree) and the CRC32C of its blocks, of several bodies in one call.

One body takes hardly longer than its MD5 alone: the other hashes are taken while that chain waits for itself. Two take
1.2 times as long as one; from five on the lanes of `md5` are used, with leaves side by side.

Variants: `avx512`, `shani` (both hashes of one or two bodies together), `avx2`, `scalar`. `RS3D_KERNEL_BODYHASH`
demands one. All functions take any contiguous buffer, which must not change until they return, and drop the GIL from
8 KiB on; they block on the processor alone. Source: RFC 1321, FIPS 180-4, FORMAT.md sections "Blob" and "Merkle tree".
Oracle: hashlib and `tests/oracles/{crc,merkle}.py`.
"""

from collections.abc import Iterable
from typing import Final, final

from _typeshed import ReadableBuffer

LANES: Final[int]
"""How many bodies the widest variant steps at once (16); more in one call take turns."""
LEAF_BYTES: Final[int]
"""1 MiB."""
BLOCK_BYTES: Final[int]
"""64 KiB."""

@final
class BodyHash:
    """One body. One thread at a time.

    Args:
        md5: whether its MD5 is wanted.
        tables: whether its leaves and blocks are.
        leaf_bytes, block_bytes: multiples of 64.

    Raises:
        ValueError: they are none.
    """

    def __init__(
        self, *, md5: bool = True, tables: bool = True, leaf_bytes: int = LEAF_BYTES, block_bytes: int = BLOCK_BYTES
    ) -> None: ...
    @property
    def length_bytes(self) -> int:
        """Bytes so far."""

    @property
    def has_tables(self) -> bool: ...
    def update(self, data: ReadableBuffer) -> None:
        """Append bytes.

        Raises:
            ValueError: another thread is inside.
        """

    def digest(self) -> bytes:
        """The MD5 so far, 16 bytes; the body can go on.

        Raises:
            ValueError: it was not asked for.
            RuntimeError: another thread is inside.
        """

    def leaves(self) -> bytes:
        """SHA-256 of each leaf so far, the last one perhaps shorter, 32 bytes each; of no bytes, one leaf. Raises as
        `digest`."""

    def blocks(self) -> bytes:
        """CRC32C of each block so far, the last one perhaps shorter, 4 bytes each, little-endian. Raises as
        `digest`."""

def update_many(pairs: Iterable[tuple[BodyHash, ReadableBuffer]]) -> None:
    """Append to several bodies at once, to each its own bytes.

    Args:
        pairs: bodies, each at most once, and what to append. Lengths may differ; equal ones run fastest.

    Raises:
        ValueError: a body is named twice, or another thread is inside it; nothing was appended to any.
        TypeError: not a body, or not a buffer; nothing was appended to any.
        MemoryError: no room for the tables; nothing was appended to any.
    """

def whole(data: ReadableBuffer) -> bytes:
    """Of a body that is there whole: its MD5 (16 bytes), its SHA-256 (32) and its CRC32C (4, big-endian), in a row,
    without the ends of leaves and blocks. Some 6 µs for 4 KiB."""

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
    """Known answers, and every way through the code against the plain one, in every runnable variant. Returns the
    number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
