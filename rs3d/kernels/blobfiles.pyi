"""What begins a blob on a local disk, and what ends it, each in one call without the GIL.

They are six and ten system calls that each take microseconds or wait for the disk. Each of them, called by itself,
gives the GIL away and has to wait for it again, behind a loop that is busy: a body thread and the loop then hand it to
each other each time for nothing. No variants. Oracle: `LocalBlobWriter` by single calls
(`tests/stores/test_blobs_local.py`).
"""

from typing import Final

from _typeshed import ReadableBuffer

KEEP_LENGTH: Final[int]
"""For `cut_to`."""

ALIGN_BYTES: Final[int]
"""Of lengths that go past the page cache."""

def begin(
    top: int, segment: str, name: str, data: ReadableBuffer, *, align_bytes: int = ALIGN_BYTES
) -> tuple[int, int]:
    """Begin a blob with its first bytes. In this order: open its segment's directory (openat2, beneath `top` and by no
    link), create the data file, write. Blocks on the disk.

    The bytes go past the page cache as by `directio.write_past_cache`; with an `align_bytes` of 0, through it.

    Args:
        top: descriptor of the directory in which the segment's is.
        segment, name: of the directory and of the file, which must not exist.

    Returns:
        Descriptors of the file and of the directory, the caller's.

    Raises:
        OSError: a call failed; nothing is open, and a file that this call made is unlinked again.
        ValueError: a name is none.
    """

def finish(
    data: int,
    directory: int,
    name: str,
    sidecar: ReadableBuffer,
    *,
    dirty_from: int = 0,
    is_clean: bool = False,
    cut_to: int = KEEP_LENGTH,
) -> None:
    """Make a blob durable. In this order: set the data file's length (if asked), create the sidecar and write it, start
    writing both files' dirty pages out, sync the data, the sidecar and the directory (fdatasync twice, fsync), close
    all three. Blocks on the disk.

    Where the data has no dirty pages, nothing is started before the syncs, and the sidecar's goes first: one commit of
    the file system's journal instead of two.

    Args:
        data: descriptor of the data file.
        directory: that of the directory in which the sidecar is made.
        name: of the sidecar, which must not exist.
        dirty_from: offset in the data file up to which its write-out was begun already.
        is_clean: the data was written past the page cache. Where that is not so, the result is no less durable.
        cut_to: the data file's length, in bytes.

    Raises:
        OSError: a call failed, and none after it was made; no sync is tried again. The sidecar may exist, and what was
            open is.
        ValueError: the name is none, or the offset is negative.
    """

def selftest() -> int:
    """A blob that cannot be ended, in memory: files of a disk are the tests' business. Returns the number of checks.

    Raises:
        RuntimeError: it was done otherwise than asked.
    """
