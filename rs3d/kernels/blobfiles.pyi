"""What ends a blob on a local disk, in one call without the GIL.

They are eight system calls that each take microseconds or wait for the disk. Each of them, called by itself, gives the
GIL away and has to wait for it again, behind a loop that is busy: a body thread and the loop then hand it to each other
eight times for nothing. No variants. Oracle: `LocalBlobWriter` by single calls (`tests/stores/test_blobs_local.py`).
"""

from typing import Final

from _typeshed import ReadableBuffer

KEEP_LENGTH: Final[int]
"""For `cut_to`."""

def finish(
    data: int, directory: int, name: str, sidecar: ReadableBuffer, *, dirty_from: int = 0, cut_to: int = KEEP_LENGTH
) -> None:
    """Make a blob durable. In this order: set the data file's length (if asked), create the sidecar and write it, start
    writing both files' dirty pages out, sync the data, the sidecar and the directory (fdatasync twice, fsync), close
    the sidecar. Blocks on the disk.

    Args:
        data: descriptor of the data file; stays open.
        directory: that of the directory in which the sidecar is made; stays open.
        name: of the sidecar, which must not exist.
        dirty_from: offset in the data file up to which its write-out was begun already.
        cut_to: the data file's length, in bytes.

    Raises:
        OSError: a call failed, and none after it was made; no sync is tried again. The sidecar may exist.
        ValueError: the name is none, or the offset is negative.
    """

def selftest() -> int:
    """A blob that cannot be ended, in memory: files of a disk are the tests' business. Returns the number of checks.

    Raises:
        RuntimeError: it was done otherwise than asked.
    """
