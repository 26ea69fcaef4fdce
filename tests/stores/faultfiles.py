"""A `Files` that records each call and fails where a test says so; everything else is the real system call."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from rs3d.stores.files import SYSTEM_FILES, Files


@dataclass
class Fault:
    """Let `method` fail with `number` at its `at`-th call (from 0), and at every later one when `forever`."""

    method: str
    number: int
    at: int = 0
    forever: bool = True


class FaultFiles:
    """Use `as_files()` where a `Files` is wanted."""

    def __init__(self, *faults: Fault, short_write_bytes: int | None = None) -> None:
        self.faults = list(faults)
        self.short_write_bytes = short_write_bytes
        self.calls: list[tuple[str, object]] = []
        self._counts: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def as_files(self) -> Files:
        return cast(Files, self)

    def __getattr__(self, method: str) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            count = self._counts.get(method, 0)
            self._counts[method] = count + 1
            self.calls.append((method, self._names.get(cast(int, arguments[0]), arguments[0])))
            for fault in self.faults:
                if fault.method == method and (count == fault.at or (fault.forever and count > fault.at)):
                    raise OSError(fault.number, os.strerror(fault.number))
            if method in ("pwrite", "pwrite_past_cache") and self.short_write_bytes is not None:
                descriptor, data, offset = arguments
                arguments = (descriptor, memoryview(cast(bytes, data))[: self.short_write_bytes], offset)
            result = getattr(SYSTEM_FILES, method)(*arguments, **named)
            if method in ("open", "create", "open_directory", "open_for_writing"):
                self._names[cast(int, result)] = os.path.basename(cast(str, arguments[0]))
            return result

        return call

    def order(self, *methods: str) -> list[tuple[str, object]]:
        """The calls of these methods, with the names of the files instead of descriptors."""
        return [call for call in self.calls if call[0] in methods]


NO_SPACE = errno.ENOSPC
IO_ERROR = errno.EIO
