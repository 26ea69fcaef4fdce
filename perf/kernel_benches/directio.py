"""directio: 1 MiB written and read past the page cache and through it. Processor time only: what the copy costs.

How long a device takes is not measured here; a direct transfer waits for it, a cached one does not.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial

from perf.kernels import Case
from rs3d.kernels.directio import Access, AlignedBuffer, DirectFile

SEGMENT_BYTES = 1 << 20


def cases() -> list[Case]:
    """One file that is written and read at its start again and again."""
    folder = tempfile.mkdtemp(prefix="rs3d-bench-")
    fd = os.open(folder, os.O_RDWR | os.O_TMPFILE)
    os.rmdir(folder)
    buffer = AlignedBuffer(SEGMENT_BYTES)
    writer, reader = DirectFile(fd, Access.WRITE), DirectFile(fd, Access.READ)
    writer.write_all([buffer], 0)
    found = "O_DIRECT" if writer.is_direct else "the file system refused O_DIRECT"
    return [
        Case(
            group="write 1 MiB",
            name="directio",
            run=partial(writer.write_all, [buffer], 0),
            units=SEGMENT_BYTES,
            note=found,
        ),
        Case(group="write 1 MiB", name="os.pwrite", run=partial(os.pwrite, fd, buffer, 0), units=SEGMENT_BYTES),
        Case(
            group="read 1 MiB",
            name="directio",
            run=partial(reader.read_into, [buffer], 0),
            units=SEGMENT_BYTES,
            note=found,
        ),
        Case(group="read 1 MiB", name="os.preadv", run=partial(os.preadv, fd, [buffer], 0), units=SEGMENT_BYTES),
    ]
