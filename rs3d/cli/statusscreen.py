"""`rs3d status` for people: one screen."""

from __future__ import annotations

from rs3d.admin.protocol import JsonValue
from rs3d.cli.output import cell_text, print_table, title

_SERVICES = "services"
"""There are many, and all is well with them as a rule: those that failed have a row each, the others a word."""


def print_status(status: dict[str, JsonValue]) -> None:
    """Show the result of the verb `status`."""
    groups: list[tuple[str, dict[str, JsonValue]]] = []
    for name, value in status.items():
        if isinstance(value, dict):
            groups.append((name, value))
    print(f"health    {status.get('health')}: {status.get('detail')}")
    for name, values in groups:
        pairs = "  ".join(f"{title(key)} {cell_text(key, value)}" for key, value in values.items())
        print(f"{name:<9} {pairs}")
    for name, value in status.items():
        rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        if name == _SERVICES and rows:
            names = ", ".join(cell_text("service", row.get("service")) for row in rows)
            rows = [row for row in rows if row.get("failures")]
            print(f"\n{name:<9} {names}{'' if rows else ': none has failed'}")
        if rows:
            print()
            columns = list(rows[0])
            print_table(columns, [[cell_text(column, row.get(column)) for column in columns] for row in rows])
        elif isinstance(value, list) and name != _SERVICES:
            print(f"{name:<9} {cell_text(name, value)}")
