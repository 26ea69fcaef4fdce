"""splice: 16 MiB from file to file in memory by each method, and a socket into a file, beside recv_into and pwrite."""

from __future__ import annotations

import os
import socket
from functools import partial

from perf.kernels import Case
from rs3d.kernels import splice
from rs3d.kernels.splice import SplicePipe

COPY_BYTES = 16 << 20
BURST_BYTES = 128 << 10


def cases() -> list[Case]:
    """Memory files: what the processor spends, without a device. They cannot be cloned."""
    source, target = os.memfd_create("source"), os.memfd_create("target")
    os.pwrite(source, os.urandom(COPY_BYTES), 0)
    rows: list[Case] = []
    for name in ("copy_file_range", "splice", "buffer"):
        run = partial(splice.copy_range, source, 0, target, 0, COPY_BYTES)
        prepare = partial(splice.use_variant, name)
        rows.append(Case(group="copy 16 MiB", name=name, run=run, units=COPY_BYTES, prepare=prepare))
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * BURST_BYTES)
    pipe, burst, buffer = SplicePipe(), os.urandom(BURST_BYTES), bytearray(BURST_BYTES)

    def by_pipe() -> None:
        near.sendall(burst)
        pipe.receive(far.fileno(), target, 0, BURST_BYTES)

    def by_buffer() -> None:
        near.sendall(burst)
        got = 0
        while got < BURST_BYTES:
            got += far.recv_into(memoryview(buffer)[got:])
        os.pwrite(target, buffer, 0)

    rows.append(Case(group="socket to file, 128 KiB", name="SplicePipe", run=by_pipe, units=BURST_BYTES))
    rows.append(Case(group="socket to file, 128 KiB", name="recv_into, pwrite", run=by_buffer, units=BURST_BYTES))
    return rows
