"""Exact transfers and atomic words: the kernel beside what `os` has, on files in the page cache."""

from __future__ import annotations

import mmap
import os
import tempfile
from functools import partial

from perf.kernels import Case
from rs3d.kernels import posix

PIECES = 16


def cases() -> list[Case]:
    """Reads and vectored writes of 4 KiB and 1 MiB, a word of shared memory, a confined open."""
    found: list[Case] = []
    fd = os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR)
    for label, size in {"4 KiB": 4096, "1 MiB": 1 << 20}.items():
        data, buffer = os.urandom(size), bytearray(size)
        pieces = [data[at : at + size // PIECES] for at in range(0, size, size // PIECES)]
        posix.pwrite_all(fd, data, 0)
        found += [
            Case(group=f"read {label}", name="pread_into", run=partial(posix.pread_into, fd, buffer, 0), units=size),
            Case(group=f"read {label}", name="os.preadv", run=partial(os.preadv, fd, [buffer], 0), units=size),
            Case(group=f"write {label}", name="pwritev_all", run=partial(posix.pwritev_all, fd, pieces, 0), units=size),
            Case(group=f"write {label}", name="os.pwritev", run=partial(os.pwritev, fd, pieces, 0), units=size),
        ]
    page = mmap.mmap(-1, 4096)
    found += [
        Case(group="shared word", name="store_u64_release", run=partial(posix.store_u64_release, page, 8, 1), units=1,
             unit="call"),
        Case(group="shared word", name="load_u64_acquire", run=partial(posix.load_u64_acquire, page, 8), units=1,
             unit="call"),
        Case(group="shared word", name="add_u64", run=partial(posix.add_u64, page, 8, 1), units=1, unit="call"),
    ]  # fmt: skip
    directory = os.open(tempfile.gettempdir(), os.O_RDONLY | os.O_DIRECTORY)
    confined = posix.RESOLVE_BENEATH | posix.RESOLVE_NO_SYMLINKS
    found += [
        Case(group="open and close", name="openat2", run=lambda: os.close(posix.openat2(
            directory, ".", os.O_RDONLY, resolve=confined)), units=1, unit="call"),
        Case(group="open and close", name="os.open", run=lambda: os.close(os.open(
            ".", os.O_RDONLY, dir_fd=directory)), units=1, unit="call"),
    ]  # fmt: skip
    return found
