"""On which line of a TOML text a name is set: a small scan, for error messages and `rs3d config show`.

tomllib has judged the text already, so the scan need not be strict: what it does not understand has no line number.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[\[?([^\]]+)\]\]?")
_ASSIGNMENT = re.compile(r"\s*((?:[A-Za-z0-9_\-\"']+\s*\.\s*)*[A-Za-z0-9_\-\"']+)\s*=")
_TRIPLE = re.compile(r'"""|\'\'\'')


def _dotted(text: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in text.split("."))


def line_numbers(text: str) -> dict[str, int]:
    """Dotted name of every table header and assignment → its line, counted from 1. The first one wins."""
    found: dict[str, int] = {}
    table = ""
    inside_string = False
    for number, line in enumerate(text.splitlines(), 1):
        quotes = len(_TRIPLE.findall(line))
        if inside_string:
            inside_string = quotes % 2 == 0
            continue
        header = _HEADER.match(line)
        assignment = _ASSIGNMENT.match(line)
        if assignment is not None:
            name = _dotted(assignment.group(1))
            found.setdefault(f"{table}.{name}" if table else name, number)
        elif header is not None:
            table = _dotted(header.group(1))
            found.setdefault(table, number)
        inside_string = quotes % 2 == 1
    return found
