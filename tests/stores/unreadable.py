"""Files whose disk cannot read some pages: EIO where a read begins in one, a short read before it, as Linux does."""

from __future__ import annotations

import errno
import os
from typing import cast

from rs3d.stores.files import PAGE_BYTES, Files, SystemFiles


class UnreadablePages(SystemFiles):
    """Use `as_files()` where a `Files` is wanted. Of blobs' data the pages `bad` cannot be read."""

    def __init__(self) -> None:
        self.bad: set[int] = set()
        self.failures = 0

    def as_files(self) -> Files:
        return cast(Files, self)

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if path.endswith(".data") and "/blobs/" in path:
            pages = range(offset // PAGE_BYTES, -(-(offset + len(buffer)) // PAGE_BYTES))
            met = next((page for page in pages if page in self.bad), None)
            if met == offset // PAGE_BYTES:
                self.failures += 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if met is not None:
                buffer = buffer[: met * PAGE_BYTES - offset]
        return super().pread_into(descriptor, buffer, offset)
