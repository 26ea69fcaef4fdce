"""CRC32 (IEEE), CRC32C (Castagnoli) and CRC64NVME over any buffer, bit-identical in every variant.

Variants: `avx512` (512-bit carry-less multiplication), `vpclmul` (256-bit; for CRC32C the crc32 instruction beside it),
`pclmul` (128-bit), `sse42` (the crc32 instruction; CRC32C only, tables for the other two), `scalar` (slicing by 8).
`RS3D_KERNEL_CRC` demands one.

All functions take any contiguous buffer, which must not change until they return, in any alignment; they drop the GIL
from 8 KiB on. None blocks on anything but the processor: some 20-30 µs a MiB. Source: CRC catalogue entries
CRC-32/ISO-HDLC, CRC-32/ISCSI, CRC-64/NVME; S3 API "Checking object integrity". Oracle: `tests/oracles/crc.py`.
"""

from _typeshed import ReadableBuffer

def crc32(data: ReadableBuffer, crc: int = 0) -> int:
    """CRC32 as zlib's: `crc` is the CRC of what came before, 0 for nothing.

    Raises:
        OverflowError: `crc` does not fit 32 bits.
    """

def crc32c(data: ReadableBuffer, crc: int = 0) -> int:
    """CRC32C (iSCSI, and our block tables): `crc` is the CRC of what came before, 0 for nothing.

    Raises:
        OverflowError: `crc` does not fit 32 bits.
    """

def is_sound(sealed: bytes, key: bytes, crc: int) -> bool:
    """Whether a row of the catalog is as it was stored: its last four bytes, big-endian, are the CRC32C of key and the
    rest of the value, begun with `crc`, the table's. False for less than four bytes.

    Raises:
        OverflowError: `crc` does not fit 32 bits.
    """

def crc64nvme(data: ReadableBuffer, crc: int = 0) -> int:
    """CRC64NVME: `crc` is the CRC of what came before, 0 for nothing.

    Raises:
        OverflowError: `crc` does not fit 64 bits.
    """

def crc32_combine(crc1: int, crc2: int, length2: int) -> int:
    """The CRC32 of A | B, from CRC32(A), CRC32(B) and the length of B in bytes. At most a few µs."""

def crc32c_combine(crc1: int, crc2: int, length2: int) -> int:
    """The CRC32C of A | B, from CRC32C(A), CRC32C(B) and the length of B in bytes. At most a few µs."""

def crc64nvme_combine(crc1: int, crc2: int, length2: int) -> int:
    """The CRC64NVME of A | B, from CRC64NVME(A), CRC64NVME(B) and the length of B in bytes. At most a few µs."""

def crc32c_blocks(data: ReadableBuffer, block_bytes: int) -> bytes:
    """The block table of a body: CRC32C of each block, the last one shorter, as little-endian 32-bit words.

    Returns:
        4 * ceil(len(data) / block_bytes) bytes; none for no data.

    Raises:
        ValueError: `block_bytes` is not positive.
    """

def crc32c_check_blocks(data: ReadableBuffer, block_bytes: int, expected_crcs: ReadableBuffer) -> int:
    """Compare a body with its block table (as made by `crc32c_blocks`).

    Returns:
        The index of the first block that differs, or -1 when all agree.

    Raises:
        ValueError: `block_bytes` is not positive, or `expected_crcs` has not 4 bytes for each block.
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
    """Known answers and every runnable variant against the tables. Returns the number of checks; well under 1 ms.

    Raises:
        RuntimeError: an answer is wrong.
    """
