"""The segments of a log in order, as their headers link them. STORE.md 2, 3 and 7."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from rs3d.errors import StoreDamaged
from rs3d.format.logsegment import COMPACTED, SegmentHeader, SegmentName
from rs3d.stores.logreader import read_header, segment_names

REBUILD_COMMAND: Final = "rs3d check --rebuild --accept-loss"


@dataclass(frozen=True, slots=True)
class LogFile:
    """A segment with a valid header."""

    file_name: str
    name: SegmentName
    header: SegmentHeader

    @property
    def is_run(self) -> bool:
        """Whether compaction made it."""
        return self.header.number >= COMPACTED


@dataclass(frozen=True, slots=True)
class LogDirectory:
    """What lies in log/: segments by number, prepared files that were never used, files whose header is no header."""

    path: str
    segments: dict[int, LogFile]
    prepared: tuple[int, ...]
    broken: dict[int, str]
    """By number: the reason."""

    @property
    def highest_number(self) -> int:
        """Of plain segments, used or not."""
        plain = [number for number in self.segments if number < COMPACTED]
        return max([0, *plain, *self.prepared, *(number for number in self.broken if number < COMPACTED)])

    def successor(self, number: int) -> LogFile | None:
        """The plain segment that was begun behind `number`."""
        for file in self.segments.values():
            if not file.is_run and file.header.previous_number == number:
                return file
        return None

    def path_of(self, file: LogFile) -> str:
        return os.path.join(self.path, file.file_name)

    def damaged(self, reason: str) -> StoreDamaged:
        """The error for a log that cannot be followed."""
        return StoreDamaged(root=os.path.dirname(self.path), reason=reason, command=REBUILD_COMMAND)


def read_directory(log_path: str, store_id: bytes) -> LogDirectory:
    """Read the headers of all segments.

    Raises:
        StoreDamaged: a segment belongs to another store, or its name and header disagree.
    """
    segments: dict[int, LogFile] = {}
    prepared: list[int] = []
    broken: dict[int, str] = {}
    for file_name, name in segment_names(log_path).items():
        try:
            header = read_header(os.path.join(log_path, file_name))
        except ValueError as error:
            broken[name.number] = f"{file_name}: {error}"
            continue
        if header is None:
            prepared.append(name.number)
            continue
        if header.store_id != store_id or header.number != name.number:
            raise StoreDamaged(
                root=os.path.dirname(log_path),
                reason=f"{file_name} belongs to another store or was renamed",
                command=REBUILD_COMMAND,
            )
        segments[name.number] = LogFile(file_name, name, header)
    return LogDirectory(log_path, segments, tuple(sorted(prepared)), broken)
