"""Faults of the disk below a running daemon: `faultydisk.c`, compiled and steered."""

from __future__ import annotations

import mmap
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Final

_CONTROL: Final = struct.Struct("=9I")
"""`struct control` of faultydisk.c: where, calls, error, shortened, per million, delay in µs, hits by class."""
_HITS_AT: Final = 6 * 4


class Where(IntFlag):
    """Files by the directory of the store they lie in."""

    LOG = 1
    BLOBS = 2
    CATALOG = 4


class Calls(IntFlag):
    WRITES = 1
    SYNCS = 2


@dataclass(frozen=True, slots=True)
class DiskFault:
    """What becomes of `share` of the calls: wait `delay_us`, then fail with `error`, or put half, or go on."""

    where: Where
    calls: Calls
    error: int = 0
    shortened: bool = False
    share: float = 1.0
    delay_us: int = 0


class FaultyDisk:
    """The disk below `root`, which need not exist yet. `workshop` takes the library and its control block."""

    def __init__(self, root: Path, workshop: Path) -> None:
        """Compile. Raises OSError when there is no C compiler, or it fails."""
        self._library = workshop / "faultydisk.so"
        source = Path(__file__).with_suffix(".c")
        words = ["cc", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(source), "-ldl"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise OSError(f"{' '.join(words)}: {done.stderr}")
        self._root = root
        control = workshop / "faultydisk.control"
        control.write_bytes(bytes(mmap.PAGESIZE))
        with control.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self._control = control

    def environment(self) -> dict[str, str]:
        """For the daemon's processes."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAULTYDISK_CONTROL": str(self._control),
            "FAULTYDISK_ROOT": str(self._root),
        }

    @contextmanager
    def failing(self, fault: DiskFault) -> Iterator[None]:
        """While in it, the disk is like that."""
        told = struct.pack(
            "=5I", fault.calls, fault.error, int(fault.shortened), int(fault.share * 1_000_000), fault.delay_us
        )
        self._page[4:_HITS_AT] = told
        self._page[:4] = struct.pack("=I", fault.where)
        try:
            yield
        finally:
            self._page[:4] = bytes(4)

    def hits(self) -> dict[str, int]:
        """Calls that were hit so far, by class of file."""
        counts = _CONTROL.unpack(self._page[: _CONTROL.size])[6:]
        return {str(where.name).lower(): count for where, count in zip(Where, counts, strict=True)}

    def close(self) -> None:
        self._page.close()
