"""The memory of a process as a core dump would hold it: its mappings with their flags, and where bytes are found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LARGEST_BYTES = 1024 * 1024 * 1024
"""More is not read into this process."""

_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+ *(\S*)")


@dataclass(frozen=True)
class Mapping:
    """A range of addresses. `flags` are those of smaps: `lo` locked, `dd` left out of dumps."""

    begin: int
    end: int
    permissions: str
    name: str
    flags: frozenset[str]


def mappings(pid: int | str) -> Iterator[Mapping]:
    """Every mapping of a process."""
    head: tuple[int, int, str, str] | None = None
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        found = _HEAD.match(line)
        if found is not None:
            head = int(found[1], 16), int(found[2], 16), found[3], found[4]
        elif line.startswith("VmFlags:") and head is not None:
            yield Mapping(*head, frozenset(line.split()[1:]))


def mapping_of(pid: int | str, address: int) -> Mapping:
    """The mapping that an address lies in."""
    return next(mapping for mapping in mappings(pid) if mapping.begin <= address < mapping.end)


def places_of(pid: int, needles: list[bytes]) -> list[Mapping]:
    """The mappings of another process, readable ones, that hold one of the needles. Left out are shared mappings of
    files, which a dump does not have either."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for mapping in mappings(pid):
            is_shared_file = mapping.permissions.endswith("s") and mapping.name.startswith("/")
            if not mapping.permissions.startswith("r") or "io" in mapping.flags or is_shared_file:
                continue
            if mapping.end - mapping.begin > LARGEST_BYTES:
                raise AssertionError(
                    f"a mapping of {mapping.end - mapping.begin} bytes that is no shared file: {mapping}"
                )
            try:
                memory.seek(mapping.begin)
                content = memory.read(mapping.end - mapping.begin)
            except (OSError, ValueError, OverflowError):
                continue  # vvar and the like cannot be read, and hold nothing of a program
            if any(needle in content for needle in needles):
                found.append(mapping)
    return found
