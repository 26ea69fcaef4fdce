"""What may be configured: sections, each a frozen dataclass of plain fields, and names that are known but cannot be
set yet."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field
from typing import Final

SECRET: Final = "secret"
"""Key of a dataclass field's metadata: `metadata={SECRET: True}` keeps its value out of `rs3d config show`."""


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the file. `name` is dotted, as in `[storage.dedup]`; `kind` is a frozen dataclass whose fields
    are its keys."""

    name: str
    kind: type
    derived: frozenset[str] = frozenset()
    """Fields that the composition root fills from elsewhere; they cannot be set here."""

    def key_names(self) -> tuple[str, ...]:
        return tuple(f.name for f in dataclasses.fields(self.kind) if f.name not in self.derived)

    def is_secret(self, key: str) -> bool:
        return any(f.name == key and bool(f.metadata.get(SECRET)) for f in dataclasses.fields(self.kind))

    def hint(self, key: str) -> object:
        """The resolved annotation of the field `key`."""
        return typing.get_type_hints(self.kind)[key]


@dataclass(frozen=True, slots=True)
class Schema:
    """All sections, and `planned`: dotted names of tables or keys that are reserved, with the system that each of
    them waits for."""

    sections: tuple[Section, ...]
    planned: dict[str, str] = field(default_factory=dict)

    def section(self, name: str) -> Section | None:
        for section in self.sections:
            if section.name == name:
                return section
        return None

    def planned_system(self, name: str) -> str | None:
        """The system that the dotted `name`, or the table it is in, waits for."""
        while name:
            if name in self.planned:
                return self.planned[name]
            name = name.rpartition(".")[0]
        return None

    def names(self) -> list[str]:
        """Every name that may be written: tables and `table.key`."""
        found = []
        for section in self.sections:
            found.append(section.name)
            found += [f"{section.name}.{key}" for key in section.key_names()]
        return found

    def is_table(self, name: str) -> bool:
        """Whether `name` is a section or holds one."""
        return any(s.name == name or s.name.startswith(name + ".") for s in self.sections)

    def nearest(self, name: str) -> str | None:
        """The known name that looks most like `name`, in the same table if there is one."""
        table, _, key = name.rpartition(".")
        section = self.section(table)
        if section is not None:
            close = difflib.get_close_matches(key, section.key_names(), n=1, cutoff=0.5)
            if close:
                return f"{table}.{close[0]}"
        close = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.6)
        return close[0] if close else None
