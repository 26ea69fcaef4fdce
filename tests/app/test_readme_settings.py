"""README's table of settings is complete: each key of the configuration has its row, numbers are the defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rs3d.app.sections import SCHEMA

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
KEYS = [(section.name, section.kind, key) for section in SCHEMA.sections for key in section.key_names()]


def row_of(section: str, key: str) -> list[str] | None:
    """The cells of the first row that names the setting: `[section] key`, or several keys behind one section."""
    for line in README.splitlines():
        if line.startswith(f"| `[{section}]"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if re.search(rf"(?<!\w){re.escape(key)}(?!\w)", cells[0]):
                return cells
    return None


@pytest.mark.parametrize(("section", "kind", "key"), KEYS, ids=lambda value: value if isinstance(value, str) else "")
def test_readme_has_a_row_for_every_setting(section: str, kind: type, key: str) -> None:
    cells = row_of(section, key)
    assert cells is not None, f"README names no [{section}] {key}"
    if re.fullmatch(r"[0-9.]+", cells[1]):
        assert cells[1] == f"{getattr(kind(), key):g}" or cells[1] == str(getattr(kind(), key))
