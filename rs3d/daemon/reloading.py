"""What of a changed configuration a running daemon takes over."""

from __future__ import annotations

from rs3d.app.sections import RELOADABLE
from rs3d.config.loading import Configuration, Tree, from_tree


def is_reloadable(name: str) -> bool:
    """Whether the setting `section.key` takes effect without a restart."""
    return name in RELOADABLE or name.rpartition(".")[0] in RELOADABLE


def merge_reloadable(running: Configuration, wanted: Configuration) -> tuple[Configuration, list[str]]:
    """The running configuration with what may change taken from the wanted one, and the names of changes that need a
    restart."""
    waiting = []
    tree: Tree = {table: dict(values) for table, values in running.tree.items()}
    for section in wanted.schema.sections:
        for key in section.key_names():
            name = f"{section.name}.{key}"
            old, new = getattr(running.values[section.kind], key), getattr(wanted.values[section.kind], key)
            if old == new:
                continue
            if not is_reloadable(name):
                waiting.append(name)
                continue
            explicit = wanted.tree.get(section.name, {})
            if key in explicit:
                tree.setdefault(section.name, {})[key] = explicit[key]
            else:
                tree.get(section.name, {}).pop(key, None)
    for family in wanted.schema.families:
        tables = {*running.members[family.name], *wanted.members[family.name]}
        for table in sorted(f"{family.name}.{member}" for member in tables):
            if running.tree.get(table) != wanted.tree.get(table):
                waiting.append(table)
    return from_tree(running.schema, tree, wanted.sources), waiting
