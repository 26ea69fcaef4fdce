"""README's table of settings is complete: each key of the configuration has its row, and its default is the code's."""

from __future__ import annotations

import enum
import re
from pathlib import Path

import pytest

from rs3d.app.sections import SCHEMA

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
KEYS = [(section.name, section.kind, key) for section in SCHEMA.sections for key in section.key_names()]

IN_WORDS = {
    ("storage", "root"): "required",
    ("admin", "socket"): "root/admin.sock",
    ("daemon", "workers"): "one a processor",
}
"""Settings whose row says what happens by default instead of a value."""

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
WORDS: dict[str, object] = {"true": True, "false": False}


def row_of(section: str, key: str) -> tuple[str, str] | None:
    """The setting's default in README as (all of the cell, its own part): the first row that names it, `[section] key`,
    or several keys behind one section with as many defaults."""
    for line in README.splitlines():
        if line.startswith(f"| `[{section}]"):
            names, default = [cell.strip() for cell in line.strip("|").split("|")][:2]
            keys = [re.sub(r"\[.*\] ?", "", name) for name in re.findall(r"`([^`]+)`", names)]
            if key in keys:
                parts = default.split(", ")
                return default, parts[keys.index(key)] if len(parts) == len(keys) else default
    return None


def read_default(text: str, default: object) -> object:
    """What README means by `text`, in the form of `default`."""
    if isinstance(default, bool):
        return WORDS.get(text, {"on": True, "off": False}.get(text))
    if isinstance(default, int | float):
        number, _, unit = text.partition(" ")
        return float(number) * UNITS.get(unit, 0 if unit else 1)
    if text in ("–", "none"):
        return () if isinstance(default, tuple) else default if default in (None, "") else "something"
    return (text,) if isinstance(default, tuple) else text


@pytest.mark.parametrize(("section", "kind", "key"), KEYS, ids=lambda value: value if isinstance(value, str) else "")
def test_readme_has_a_row_for_every_setting(section: str, kind: type, key: str) -> None:
    found = row_of(section, key)
    assert found is not None, f"README names no [{section}] {key}"
    if (section, key) in IN_WORDS:
        assert found[0] == IN_WORDS[section, key]
        return
    default = getattr(kind(), key)
    if isinstance(default, enum.Enum):
        default = default.value
    assert read_default(found[1], default) == default
