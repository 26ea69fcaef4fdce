"""Whether a file system reads from the page cache without waiting for a device (RWF_NOWAIT)."""

from __future__ import annotations

import os
import pathlib

from rs3d.kernels.directio import read_nowait


def reads_without_waiting(directory: pathlib.Path) -> bool:
    """Tried with a new file in `directory`."""
    path = directory / "read-without-waiting"
    path.write_bytes(b"x")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_nowait(descriptor, bytearray(1), 0) == 1
    except OSError:
        return False
    finally:
        os.close(descriptor)
        path.unlink()
