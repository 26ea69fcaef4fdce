"""How results look: JSON for programs, rich tables on a terminal, plain columns in a pipe."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from rs3d.admin.protocol import JsonValue, Progress


def on_terminal() -> bool:
    """Whether a person is looking."""
    return sys.stdout.isatty()


def print_json(value: JsonValue) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_result(value: JsonValue) -> None:
    """Show a verb's result: a list of objects as a table, an object as name and value, nothing as `done`."""
    if value is None:
        print("done")
    elif isinstance(value, list):
        rows = [row for row in value if isinstance(row, dict)]
        if not rows:
            print("none")
            return
        columns = list(rows[0])
        print_table(columns, [[cell_text(name, row.get(name)) for name in columns] for row in rows])
    elif isinstance(value, dict):
        print_pairs(value)
    else:
        print(value)


def print_pairs(values: Mapping[str, JsonValue]) -> None:
    """One line a name; lists of objects follow as tables."""
    tables = {name: v for name, v in values.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
    plain = {name: v for name, v in values.items() if name not in tables}
    width = max((len(title(name)) for name in plain), default=0)
    for name, value in plain.items():
        print(f"{title(name):<{width}}  {cell_text(name, value)}")
    for name, table in tables.items():
        print(f"\n{title(name)}:")
        print_result(table)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table: drawn by rich on a terminal, aligned columns in a pipe."""
    titles = [title(column) for column in columns]
    if on_terminal():
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for text in titles:
            table.add_column(text, overflow="fold")
        for row in rows:
            table.add_row(*row)
        Console(highlight=False, markup=False).print(table)
        return
    widths = [max(len(line[i]) for line in [titles, *rows]) for i in range(len(titles))]
    for line in [titles, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


_SPELLED_OUT: Final = ("_unix_s", "_ns", "_bytes_per_s")
"""Endings of names whose unit `cell_text` writes beside the value. `_bytes` stays: what has no other word is a count of
bytes, and `upload` beside `uploads` would tell nobody."""


def title(name: str) -> str:
    """A name for people: `created_ns` has a date as its value here, and is called created."""
    for ending in _SPELLED_OUT:
        name = name.removesuffix(ending)
    return name.replace("_", " ")


def cell_text(name: str, value: JsonValue) -> str:
    """One value; names tell the unit (`…_bytes`, `…_ns`, `…_unix_s`)."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("_ns"):
        return stamp(value / 1e9) if value else "-"
    if isinstance(value, int) and name.endswith("_bytes_per_s"):
        return f"{size_text(value)}/s" if value else "-"
    if isinstance(value, int | float) and name.endswith("_unix_s"):
        return stamp(value) if value else "-"
    if isinstance(value, int) and (name == "bytes" or name.endswith("_bytes")):
        return size_text(value)
    if isinstance(value, list):
        return ", ".join(cell_text("", item) for item in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key}={cell_text(key, item)}" for key, item in value.items()) or "-"
    return str(value)


def stamp(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(unix_s))


def size_text(count_bytes: int) -> str:
    """Bytes in the largest binary unit that leaves at least one."""
    amount = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} PiB"


class ProgressLine:
    """A progress bar on a terminal, nothing in a pipe. A context manager."""

    def __init__(self) -> None:
        self._shown = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    def update(self, progress: Progress) -> None:
        if not sys.stderr.isatty():
            return
        self._shown = True
        if progress.total:
            done = min(1.0, progress.done / progress.total)
            bar = ("#" * round(30 * done)).ljust(30, ".")
            text = f"{progress.what} [{bar}] {progress.done}/{progress.total}"
        else:
            text = f"{progress.what} {progress.done}"
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()
