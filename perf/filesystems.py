"""The file system under a folder: figures of durable writes mean something on one with a journal only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileSystem:
    """Where a folder lies. `device` is the name the kernel gives it ("loop0", "sda1"), or empty."""

    kind: str
    device: str
    has_journal: bool
    is_direct: bool | None
    """Of a loop device, whether it passes the page cache of the file behind it; None for others."""

    def __str__(self) -> str:
        loop = {True: ", a loop device with direct I/O", False: ", a loop device over the page cache", None: ""}
        journal = "a journal" if self.has_journal else "no journal that this knows of"
        return f"{self.kind} with {journal}{' on ' + self.device if self.device else ''}{loop[self.is_direct]}"


def file_system_of(folder: Path, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> FileSystem:
    """What `folder`, or the nearest folder above it that exists, lies on. The journal is XFS's own, or one of jbd2 for
    that device.

    Raises:
        OSError: /proc cannot be read.
    """
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    found = folder.stat().st_dev
    number = f"{os.major(found)}:{os.minor(found)}"
    lines = (proc / "self" / "mountinfo").read_text().splitlines()
    kinds = [line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == number]
    kind = kinds[-1] if kinds else "an unknown file system"
    link = sys / "dev" / "block" / number
    device = link.resolve().name if link.exists() else ""
    has_journal = kind == "xfs" or (bool(device) and any((proc / "fs" / "jbd2").glob(f"{device}-*")))
    direct = sys / "block" / device / "loop" / "dio"
    return FileSystem(kind, device, has_journal, direct.read_text().strip() == "1" if direct.exists() else None)
