"""Verified reads of warm files: through a fresh mapping, and by pread into a buffer followed by the CRC."""

from __future__ import annotations

import os
import tempfile
from functools import partial

from perf.kernels import Case
from rs3d.kernels import crc, mapped, posix

BLOCK = 65536
FILE_BYTES = 16 << 20


def cases() -> list[Case]:
    """Ranges of 4 KiB, 64 KiB, 1 MiB and 16 MiB of one warm file; residency of the same."""
    found: list[Case] = []
    fd = os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR)
    data = os.urandom(FILE_BYTES)
    posix.pwrite_all(fd, data, 0)
    os.fsync(fd)
    for label, size in {"4 KiB": 4096, "64 KiB": 65536, "1 MiB": 1 << 20, "16 MiB": FILE_BYTES}.items():
        table, buffer = crc.crc32c_blocks(data[:size], BLOCK), bytearray(size)
        group = f"warm {label}"
        found += [
            Case(group=group, name="first_bad_block", run=partial(_mapped, fd, size, table), units=size),
            Case(
                group=group,
                name="pread_into + crc",
                run=partial(_pread, fd, buffer, table),
                units=size,
                prepare=partial(crc.use_variant, crc.variants()[0]),
            ),
            Case(
                group=group, name="copy_from_mapping", run=partial(mapped.copy_from_mapping, fd, 0, buffer), units=size
            ),
            Case(group=group, name="pread_into", run=partial(posix.pread_into, fd, buffer, 0), units=size),
            Case(group=group, name="resident_bytes", run=partial(mapped.resident_bytes, fd, 0, size), units=size),
        ]
    return found


def _mapped(fd: int, size: int, table: bytes) -> None:
    if mapped.first_bad_block(fd, 0, size, BLOCK, table) != -1:
        raise RuntimeError("a good file is called bad")


def _pread(fd: int, buffer: bytearray, table: bytes) -> None:
    posix.pread_into(fd, buffer, 0)
    if crc.crc32c_check_blocks(buffer, BLOCK, table) != -1:
        raise RuntimeError("a good file is called bad")
