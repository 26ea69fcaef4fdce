"""How much of the catalog's file is in memory: for whoever looks after a server.

Lookups do not ask (`engine/lookups.py`): free pages count here, and nobody reads those.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from rs3d.kernels.mapped import resident_bytes
from rs3d.stores.catalogpages import FILE

_WINDOW_BYTES: Final = 1 << 20
_MOST_WINDOWS: Final = 256
"""Of a larger file so many are looked at, evenly spread: some 0.5 ms, by 2 µs a MiB."""


class Residency(NamedTuple):
    """Of the catalog's file. `resident_bytes` is an estimate where the file is larger than 256 MiB."""

    file_bytes: int
    resident_bytes: int


def catalog_residency(catalog_path: str) -> Residency:
    """What is in the page cache now, whoever read it. Does not wait for the disk. Both zero without a catalog."""
    try:
        descriptor = os.open(os.path.join(catalog_path, FILE), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return Residency(0, 0)
    try:
        size = os.fstat(descriptor).st_size
        looked = found = 0
        windows = -(-size // _WINDOW_BYTES)
        for number in range(min(windows, _MOST_WINDOWS)):
            offset = number * windows // min(windows, _MOST_WINDOWS) * _WINDOW_BYTES
            length = min(_WINDOW_BYTES, size - offset)
            looked += length
            found += resident_bytes(descriptor, offset, length)
        return Residency(size, found * size // looked if looked else 0)
    finally:
        os.close(descriptor)
