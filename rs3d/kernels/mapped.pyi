"""Verified reads of data files through mappings, surviving what a mapping can do to a process.

A page of a mapped file that was truncated, or that its device cannot deliver, raises SIGBUS. These functions catch it
for exactly the range that they read, in the thread that reads it, and raise `MappingFault`; any other SIGBUS goes to
the handler that was there before (Python's faulthandler, say). A `HeldMapping` may be read by any code instead: there a
page that cannot be had reads as zeros. Nothing else in rs3d touches a mapping of a data file.

All drop the GIL and read at memory speed where pages are warm; on cold pages they *block* on the device: ask
`resident_bytes`, or go to a thread. Descriptors stay open and unmoved. Variants, as in `rs3d.kernels.crc`, are forced
by `RS3D_KERNEL_MAPPED`. Source: mmap(2), mincore(2), sigaction(2). Oracle: `tests/oracles/crc.py`.
"""

from typing import Literal, final

from _typeshed import ReadableBuffer, WriteableBuffer

class MappingFault(OSError):
    """A page could not be had; errno is EIO."""

    kind: Literal["truncated", "unreadable"]
    """truncated: the file ends before it. unreadable: the device or the memory failed (or, for a mapping made by the
    caller, either)."""
    offset: int
    """truncated: the size of the file, or where the range begins if that is later. unreadable: the beginning of a page
    that could not be had, not always the first one, because a block is read at several places at once. In the file, or
    in the mapping made by the caller."""
    def __init__(self, kind: Literal["truncated", "unreadable"], offset: int) -> None: ...

def first_bad_block(fd: int, offset: int, length: int, block_bytes: int, expected_crcs: ReadableBuffer) -> int:
    """Check a range of a file, in the page cache, against its block table.

    From 512 KiB on through a fresh mapping; shorter ranges are read through a 64 KiB window, which is quicker for them.
    The answers and errors are the same.

    Args:
        offset, length: bytes; the range starts a block, and ends one or the last one.
        expected_crcs: CRC32C of each block as little-endian 32-bit words, as `crc.crc32c_blocks` makes them.

    Returns:
        The index of the first block (counted from `offset`) that differs, or -1 when all agree.

    Raises:
        MappingFault: the file is shorter, or a page cannot be read.
        ValueError: the range or `block_bytes` is impossible, or the table has not 4 bytes for each block.
        OSError: the file cannot be mapped.
    """

def first_bad_block_of(mapping: ReadableBuffer, block_bytes: int, expected_crcs: ReadableBuffer) -> int:
    """`first_bad_block` over a mapping that the caller made (`mmap.mmap`, or a memoryview of a part of one)."""

def copy_from_mapping(fd: int, offset: int, dest: WriteableBuffer) -> None:
    """Fill `dest` from a file at `offset` through a mapping.

    Raises:
        MappingFault: the file is shorter, or a page cannot be read; part of `dest` may be overwritten.
        ValueError: the range is impossible.
        OSError: the file cannot be mapped.
    """

def copy_from(mapping: ReadableBuffer, offset: int, dest: WriteableBuffer) -> None:
    """Fill `dest` from a mapping that the caller made.

    Raises:
        MappingFault: a page cannot be read; part of `dest` may be overwritten.
        ValueError: the range is not within the mapping.
    """

def copy_checked(
    mapping: ReadableBuffer, offset: int, dest: WriteableBuffer, block_bytes: int, expected_crcs: ReadableBuffer
) -> int:
    """Fill `dest` from a mapping that the caller holds, and check the copy: what is handed out is what was checked,
    whatever becomes of the file meanwhile. 50 us a MiB, where reading the file and checking it takes 75.

    Args:
        offset: in the mapping, where the first block begins.
        block_bytes: length of a block; the last one may be shorter.
        expected_crcs: CRC32C of each block, 4 little-endian bytes each.

    Returns:
        Index of the first block that differs, or -1. If one does, `dest` is not to be used.

    Raises:
        MappingFault: a page cannot be had; `offset` counts within the mapping, and `dest` is not to be used.
        ValueError: the range is not within the mapping, `block_bytes` is not positive, or the table has not 4 bytes for
            each block.
    """

@final
class HeldMapping:
    """A range of a file, mapped for as long as this lives; exports its bytes, read-only, by the buffer protocol.

    For whoever reads the same pages again and again and checks what they read each time (an AEAD's tag, a CRC): no
    system call and no copy goes before it. A page that cannot be had when it is touched (the file was truncated, the
    device failed) is replaced by zeros for the rest of the mapping's life: the check then fails. 1,024 may be held in a
    process.

    Args:
        fd: may be closed when the mapping was made.
        offset, length: bytes, at least one; all within the file now.

    Raises:
        MappingFault: the file is shorter. ValueError: the range is impossible or empty. OSError: the file cannot be
        mapped, or too many mappings are held (ENFILE).
    """

    def __init__(self, fd: int, offset: int, length: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def is_whole(self) -> bool:
        """Whether all its pages are in memory now, so that reading it waits for no device, and none is one of zeros in
        place of one that could not be had. Never blocks; a microsecond a MiB.

        Raises:
            ValueError: it was closed.
        """

    def close(self) -> None:
        """Unmap it. Twice is harmless.

        Raises:
            BufferError: a view of it is in use.
        """

def resident_bytes(fd: int, offset: int, length: int) -> int:
    """How much of a range of a file is in the page cache: `length` means that reading it will not block.

    Asks cachestat(2) first (Linux 6.5, 2 µs a MiB) and mincore(2) where it does not answer or a page is missing (28
    µs). cachestat also counts pages whose reading has only begun. Since Linux 5.2 mincore tells only who may write the
    file or owns it; others hear that everything is resident.
    The answer is old when it arrives: pages may be evicted at any time.

    Returns:
        Bytes, by whole pages clipped to the range; what lies beyond the end of the file does not count.

    Raises:
        ValueError: the range is impossible.
        OSError: the file cannot be mapped.
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
    """A good, a bad and a truncated block, a mapping that is held. Returns the number of checks; well under 1 ms.

    Raises:
        RuntimeError: an answer is wrong.
    """
