"""uring: 64 reads of 4 KiB from the page cache in one submission, beside as many preadv calls. Processor time only.

What a ring is for, many device reads in flight from one thread, does not show in processor time; its cost does.
"""

from __future__ import annotations

import os
from functools import partial

from perf.kernels import Case
from rs3d.kernels import uring
from rs3d.kernels.uring import Ring, Start

READS, READ_BYTES = 64, 4096


def cases() -> list[Case]:
    """Inline and by the kernel's workers."""
    fd = os.memfd_create("uring-bench")
    os.pwrite(fd, os.urandom(READS * READ_BYTES), 0)
    buffers = [bytearray(READ_BYTES) for _ in range(READS)]
    group = f"{READS} reads of 4 KiB"
    rows = [Case(group=group, name="os.preadv", run=partial(_by_preadv, fd, buffers), units=READS, unit="reads")]
    for start in Start:
        name = f"uring, {start.value}"
        try:
            ring = Ring(READS, start)
        except OSError:
            rows.append(Case(group=group, name=name, run=None, note=uring.probe().reason))
            continue
        rows.append(Case(group=group, name=name, run=partial(_by_ring, ring, fd, buffers), units=READS, unit="reads"))
    return rows


def _by_preadv(fd: int, buffers: list[bytearray]) -> None:
    for number, buffer in enumerate(buffers):
        os.preadv(fd, [buffer], number * READ_BYTES)


def _by_ring(ring: Ring, fd: int, buffers: list[bytearray]) -> None:
    for number, buffer in enumerate(buffers):
        ring.read(fd, buffer, number * READ_BYTES, number)
    ring.wait(READS)
