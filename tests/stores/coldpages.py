"""Pages that the kernel has dropped, and reads that are refused because of them.

A read that does not wait (RWF_NOWAIT) has the kernel begin to read all the same: where the device is quick, the pages
are there before the answer, and nothing is refused. So a refusal is looked for in many tries, beside a plain read that
says whether there was any to be had.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from rs3d.kernels.mapped import resident_bytes

_TRIES = 1000
_ENOUGH_REFUSALS = 50
_PAGE_BYTES = 4096


def drop_pages(descriptor: int, size: int) -> None:
    """None of the first `size` bytes of a synced file is in memory after this; skips the test where they stay."""
    for _ in range(200):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if not resident_bytes(descriptor, 0, size):
            return
        time.sleep(0.01)  # pages on their way from the device stay
    pytest.skip("this file system keeps what it is asked to drop")


def is_refused_when_cold(descriptor: int, size: int, read: Callable[[], bool]) -> bool:
    """Whether `read`, which says if it was answered, is refused once, of many times that the file's pages were dropped.

    No: while it was answered every time, the kernel refused the file's first page fifty times. Skips the test where
    the kernel refuses as good as never.
    """
    refusals = 0
    for _ in range(_TRIES):
        drop_pages(descriptor, size)
        if not read():
            return True
        drop_pages(descriptor, size)
        refusals += _refuses(descriptor)
        if refusals == _ENOUGH_REFUSALS:
            return False
    pytest.skip(f"the device was quicker than the answer, {_TRIES - refusals} of {_TRIES} times")


def _refuses(descriptor: int) -> bool:
    try:
        os.preadv(descriptor, [bytearray(_PAGE_BYTES)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    return False
