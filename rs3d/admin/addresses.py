"""Unix sockets behind long paths. An address holds 107 bytes (unix(7)); a directory descriptor makes every path
short."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MAXIMUM_PATH_BYTES: Final = 107
"""sun_path has 108 bytes, one of them the terminating NUL."""


@contextmanager
def reachable_path(path: Path) -> Iterator[str]:
    """A path to bind or connect to instead of `path`; valid inside the `with`.

    Raises:
        OSError: the directory of `path` cannot be opened.
    """
    if len(os.fsencode(path)) <= MAXIMUM_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
