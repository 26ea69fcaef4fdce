"""Frames of a compressed stream (lz4 blocks, or stored as they are) decoded from the page cache of a file.

The format is that of the layer `compress` (FORMAT.md section "Recipe"): frames of a fixed number of plain bytes, a row
of 12 bytes for each (codec and end offset u64 BE, check u32 BE). Reading, decompressing and checking go frame by frame,
straight into the caller's buffer. The GIL is dropped. Variants, as in `rs3d.kernels.crc`, are forced by
`RS3D_KERNEL_LZ4FRAMES`. Source: lz4 block format; preadv2(2), RWF_NOWAIT. Oracle: `tests/oracles/lz4frames.py`.
"""

import enum
from typing import Final

from _typeshed import ReadableBuffer, WriteableBuffer

ROW_BYTES: Final[int]
FRAME_BYTES_LIMIT: Final[int]
"""Plain bytes of the longest frame (4 MiB)."""

class Outcome(enum.Enum):
    """What became of a reading."""

    DECODED = 0
    NOT_RESIDENT = 1
    """Stored bytes are not in the page cache, or the file system cannot tell."""
    OTHER_CODEC = 2
    """A frame is neither lz4 nor stored as it is."""
    BROKEN = 3
    """A row is impossible, a check fails, or a block does not decompress to its frame's length."""

def decode(
    stored: ReadableBuffer, rows: ReadableBuffer, first_frame: int, begin: int, out: WriteableBuffer, frame_bytes: int
) -> Outcome:
    """Decode consecutive whole frames from memory. *Blocks* for some 0.3 ms a MiB.

    Args:
        stored: the stream's bytes from the frame `first_frame` on; must not overlap `out`.
        rows: those of the frames, beginning with that of `first_frame`.
        first_frame: its number.
        begin: where it begins in the stream.
        out: writable, exactly the frames' bytes: only the last may be shorter than `frame_bytes`.
        frame_bytes: 1 to FRAME_BYTES_LIMIT.

    Returns:
        DECODED, or why not (NOT_RESIDENT: `stored` ends before the last of them); then `out` has any content.

    Raises:
        ValueError: a negative number, too few rows, or frames too long.
        MemoryError
    """

def decode_resident(
    fd: int, rows: ReadableBuffer, first_frame: int, begin: int, out: WriteableBuffer, frame_bytes: int
) -> Outcome:
    """The same from a file that holds the stream from its first byte (its position is not used), without waiting for a
    device: for the event loop, up to a MiB or so."""

def variant() -> str:
    """The CRC implementation in use."""

def variants() -> tuple[str, ...]:
    """Those that this machine can run, widest first."""

def use_variant(name: str) -> None:
    """Use another one from now on: for tests.

    Raises:
        ValueError: there is none of this name. RuntimeError: this machine cannot run it.
    """

def selftest() -> int:
    """Two known answers. Raises RuntimeError when one is wrong."""
