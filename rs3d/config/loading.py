"""From a file, the environment and the command line to dataclasses, each value with its source.

Later sources win: defaults, file, environment (`RS3D_SECTION__KEY`, `RS3D_STORAGE__DEDUP__BLOCK_SIZE` for
`[storage.dedup] block_size`), command line. Unknown names, wrong types and reserved names are errors that name the
place.
"""

from __future__ import annotations

import enum
import math
import pathlib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar, cast

import msgspec

from rs3d.config.lines import line_numbers
from rs3d.config.schema import Family, Schema, Section
from rs3d.errors import ConfigurationError

ENVIRONMENT_PREFIX: Final = "RS3D_"
"""Only names with a double underscore behind it are configuration; RS3D_SOCKET and RS3D_KERNEL_CRC are not."""

T = TypeVar("T")

Scalar = str | int | float | bool
Value = Scalar | list[Scalar]
Tree = dict[str, dict[str, Value]]
"""Section name → key → value, explicit values only. Travels to child processes as msgpack."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value for `rs3d config show`."""

    section: str
    key: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """Checked values. `tree` holds what was set explicitly, `sources` where (by `section.key`)."""

    schema: Schema
    values: Mapping[type, object]
    tree: Tree
    sources: Mapping[str, str]
    members: Mapping[str, Mapping[str, tuple[Section, object]]] = field(default_factory=dict)
    """Family → name of a table in it → its section and its values."""

    def family(self, name: str) -> dict[str, object]:
        """The tables of a family by the last part of their names."""
        return {member: record for member, (_, record) in self.members.get(name, {}).items()}

    def get(self, kind: type[T]) -> T:
        """The section whose dataclass is `kind`.

        Raises:
            LookupError: no section has this class.
        """
        return cast(T, self.values[kind])

    def source(self, name: str) -> str:
        return self.sources.get(name, "default")

    def settings(self) -> list[Setting]:
        """Every effective value in the order of the schema, secrets hidden."""
        found = []
        named = [(section, self.values[section.kind]) for section in self.schema.sections]
        for tables in self.members.values():
            named.extend(tables.values())
        for section, record in named:
            for key in section.key_names():
                value = getattr(record, key)
                text = "(hidden)" if section.is_secret(key) and value else _plain(value)
                found.append(Setting(section.name, key, text, self.source(f"{section.name}.{key}")))
        return found


@dataclass(frozen=True, slots=True)
class Override:
    """A value from the command line; `source` is the option's name."""

    name: str
    value: Value
    source: str


def load(
    schema: Schema,
    *,
    path: pathlib.Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Sequence[Override] = (),
) -> Configuration:
    """Read and check a configuration.

    Args:
        path: a TOML file, or None for defaults.
        environment: usually `os.environ`; None leaves it out.
        overrides: from the command line; they win.

    Raises:
        ConfigurationError: the file cannot be read or parsed, or a name or value is wrong. Names file and line, or
        the variable.

    Blocking: reads one small file.
    """
    tree: Tree = {}
    sources: dict[str, str] = {}
    if path is not None:
        text, document = _read(path)
        _collect(schema, document, "", tree, sources, _Places(str(path), line_numbers(text)))
    for name, source, text in _environment_settings(schema, environment or {}):
        table, _, key = name.rpartition(".")
        tree.setdefault(table, {})[key] = _from_text(schema.hint(table, key), text)
        sources[name] = source
    for override in overrides:
        _check_name(schema, override.name, override.source)
        table, _, key = override.name.rpartition(".")
        tree.setdefault(table, {})[key] = override.value
        sources[override.name] = override.source
    return from_tree(schema, tree, sources)


def from_tree(schema: Schema, tree: Tree, sources: Mapping[str, str] | None = None) -> Configuration:
    """Checked values from explicit ones, such as a parent process sends.

    Raises:
        ConfigurationError: a value has the wrong type or is refused by its section.
    """
    sources = sources or {}
    values: dict[type, object] = {}
    for section in schema.sections:
        explicit = tree.get(section.name, {})
        for key in explicit:
            _check_name(schema, f"{section.name}.{key}", sources.get(f"{section.name}.{key}", "configuration"))
        values[section.kind] = _convert(section, explicit, sources)
    members = {family.name: _members_of(schema, family, tree, sources) for family in schema.families}
    return Configuration(schema=schema, values=values, tree=tree, sources=sources, members=members)


def _members_of(
    schema: Schema, family: Family, tree: Tree, sources: Mapping[str, str]
) -> dict[str, tuple[Section, object]]:
    found = {}
    for table in sorted(tree):
        if schema.family(table) is not family:
            continue
        explicit = dict(tree[table])
        chosen = explicit.pop(family.selector, None)
        if not isinstance(chosen, str) or chosen not in family.kinds:
            written = (sources.get(f"{table}.{key}") for key in tree[table])
            source = sources.get(f"{table}.{family.selector}") or next(filter(None, written), "configuration")
            reason = f"must be one of {', '.join(family.kinds)}" + ("" if chosen is None else f", not {chosen!r}")
            raise ConfigurationError(source=source, key=f"{table}.{family.selector}", reason=reason)
        section = family.member(table, chosen)
        for key in explicit:
            if key not in section.key_names():
                name = f"{table}.{key}"
                reason = f"a table with {family.selector} = {chosen!r} has no such setting"
                raise ConfigurationError(source=sources.get(name, "configuration"), key=name, reason=reason)
        found[table.rpartition(".")[2]] = (section, _convert(section, explicit, sources))
    return found


# ------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a name stands in the file."""

    file: str
    lines: Mapping[str, int]

    def of(self, name: str) -> str:
        inner = [line for known, line in self.lines.items() if known.startswith(name + ".")]
        if name not in self.lines and inner:
            return f"{self.file}:{min(inner)}"
        while name:
            if name in self.lines:
                return f"{self.file}:{self.lines[name]}"
            name = name.rpartition(".")[0]
        return self.file


def _read(path: pathlib.Path) -> tuple[str, dict[str, object]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(source=str(path), key="file", reason=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(source=str(path), key="file", reason="is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(source=str(path), key="file", reason=f"is not TOML: {error}") from error


def _collect(
    schema: Schema, document: Mapping[str, object], table: str, tree: Tree, sources: dict[str, str], places: _Places
) -> None:
    for key, value in document.items():
        name = f"{table}.{key}" if table else key
        if isinstance(value, dict):
            if not schema.is_table(name):
                _refuse_unknown(schema, name, places.of(name))
            _collect(schema, value, name, tree, sources, places)
            continue
        _check_name(schema, name, places.of(name))
        tree.setdefault(table, {})[key] = cast(Value, value)
        sources[name] = places.of(name)


def _check_name(schema: Schema, name: str, source: str) -> None:
    table, _, key = name.rpartition(".")
    if key not in schema.keys_of(table):
        _refuse_unknown(schema, name, source)


def _refuse_unknown(schema: Schema, name: str, source: str) -> typing.NoReturn:
    system = schema.planned_system(name)
    if system is not None:
        raise ConfigurationError(source=source, key=name, reason=f"cannot be set: {system} is not in this build")
    nearest = schema.nearest(name)
    hint = f"; did you mean {nearest}?" if nearest else ""
    raise ConfigurationError(source=source, key=name, reason=f"there is no such setting{hint}")


def _environment_settings(schema: Schema, environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    found = []
    for variable in sorted(environment):
        rest = variable.removeprefix(ENVIRONMENT_PREFIX)
        if rest == variable or "__" not in rest:
            continue
        name = rest.lower().replace("__", ".")
        source = f"environment {variable}"
        _check_name(schema, name, source)
        found.append((name, source, environment[variable]))
    return found


# ---------------------------------------------------------------------------------------------------- converting


def _members(hint: object) -> tuple[object, ...]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return typing.get_args(hint)
    return (hint,)


def _from_text(hint: object, text: str) -> Value:
    """An environment variable's text as the kind of value that its field wants; the conversion judges the result."""
    members = _members(hint)
    for member in members:
        if member in (str, pathlib.Path) or (isinstance(member, type) and issubclass(member, enum.Enum)):
            return text
        if typing.get_origin(member) is tuple:
            return [item.strip() for item in text.split(",") if item.strip()]
    try:
        parsed = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return parsed if isinstance(parsed, str | int | float | bool) else text


def _convert(section: Section, explicit: Mapping[str, Value], sources: Mapping[str, str]) -> object:
    for key, value in explicit.items():
        name = f"{section.name}.{key}"
        try:
            msgspec.convert(value, section.hint(key), dec_hook=_decode)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                source=sources.get(name, "configuration"), key=name, reason=_reason(error)
            ) from None
        if isinstance(value, float) and not math.isfinite(value):  # TOML has them, and no bound holds against nan
            raise ConfigurationError(source=sources.get(name, "configuration"), key=name, reason="must be finite")
    try:
        return msgspec.convert(dict(explicit), section.kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigurationError(source="configuration", key=section.name, reason=_reason(error)) from None
    except ConfigurationError as error:
        name = f"{section.name}.{error.key}"
        raise ConfigurationError(source=sources.get(name, "default"), key=name, reason=error.reason) from None


def _reason(error: msgspec.ValidationError) -> str:
    text = str(error).replace("`", "")
    return text[:1].lower() + text[1:]


def _decode(kind: type, value: object) -> object:
    if issubclass(kind, pathlib.PurePath) and isinstance(value, str):
        return pathlib.Path(value)
    raise msgspec.ValidationError(f"expected {kind.__name__}, got {type(value).__name__}")


def _plain(value: object) -> str:
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(_plain(item) for item in value)
    return "" if value is None else str(value)
