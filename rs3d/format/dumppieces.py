"""What a dump of a file is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that fails its checks, and where."""

    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A head, body, page, record … : bytes [offset, offset + size) and what they say."""

    offset: int
    size: int
    title: str
    fields: dict[str, JsonValue]


@dataclass(slots=True)
class FileDump:
    """A whole file. `kind` is one of FORMAT.md's files, or `unknown`."""

    name: str
    size: int
    kind: str
    pieces: list[Piece] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
