"""What may be configured: sections, each a frozen dataclass of plain fields, and names that are known but cannot be
set yet."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
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
class Family:
    """Tables `[name.ANYTHING]`, as many as the file has. The key `selector` of each says which dataclass holds the
    others."""

    name: str
    selector: str
    kinds: Mapping[str, type]

    def member(self, table: str, kind: str) -> Section:
        """The section of one table. Raises KeyError for a kind that there is not."""
        return Section(table, self.kinds[kind])

    def key_names(self) -> tuple[str, ...]:
        """Every key that some kind has, the selector first."""
        names = {f.name: None for kind in self.kinds.values() for f in dataclasses.fields(kind)}
        return (self.selector, *names)

    def hint(self, key: str) -> object:
        """The resolved annotation of `key` in the first kind that has it; keys of one name are alike in all."""
        for kind in self.kinds.values():
            hints = typing.get_type_hints(kind)
            if key in hints:
                return hints[key]
        return str


@dataclass(frozen=True, slots=True)
class Schema:
    """All sections, and `planned`: dotted names of tables or keys that are reserved, with the system that each of
    them waits for."""

    sections: tuple[Section, ...]
    planned: dict[str, str] = field(default_factory=dict)
    families: tuple[Family, ...] = ()

    def section(self, name: str) -> Section | None:
        for section in self.sections:
            if section.name == name:
                return section
        return None

    def family(self, table: str) -> Family | None:
        """The family that the table `table` belongs to."""
        name, _, member = table.rpartition(".")
        for family in self.families:
            if family.name == name and member:
                return family
        return None

    def keys_of(self, table: str) -> tuple[str, ...]:
        """The keys that may be written in a table; none where there is no such table."""
        section, family = self.section(table), self.family(table)
        if section is not None:
            return section.key_names()
        return () if family is None else family.key_names()

    def hint(self, table: str, key: str) -> object:
        """The annotation of a key that `keys_of` has."""
        section, family = self.section(table), self.family(table)
        if section is not None:
            return section.hint(key)
        return str if family is None else family.hint(key)

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
        known = [section.name for section in self.sections] + [family.name for family in self.families]
        return self.family(name) is not None or any(table == name or table.startswith(name + ".") for table in known)

    def nearest(self, name: str) -> str | None:
        """The known name that looks most like `name`, in the same table if there is one."""
        table, _, key = name.rpartition(".")
        keys = self.keys_of(table)
        if keys:
            close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
            if close:
                return f"{table}.{close[0]}"
        close = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.6)
        return close[0] if close else None
