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


@dataclass(frozen=True, slots=True)
class LogPlace:
    """What the files beside a segment of the log tell of it. Nothing, where they cannot be read or are not there."""

    named_end: int | None = None
    """Where its records end as the header of the next segment says."""
    known_end: int | None = None
    """Of the last segment: up to where the catalog knows its records. What lies behind may have been cut by a crash."""
    is_ahead: bool = False
    """It stands behind the last segment: prepared for the log, and no header was ever durable in it."""
