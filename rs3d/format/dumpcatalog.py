"""The catalog's file in FORMAT.md's terms: the two pages that name commits, the tables, and the rows of one."""

from __future__ import annotations

from typing import Final

from rs3d.format.dumppieces import FileDump, JsonValue, Piece, Problem
from rs3d.format.lmdbpages import (
    LMDB_MAGIC,
    META_BYTES,
    MetaPage,
    PageError,
    Row,
    Tree,
    decode_meta,
    named_trees,
    rows_of,
)
from rs3d.kernels.crc import crc32c

LMDB_FRONT: Final = LMDB_MAGIC.to_bytes(4, "little")
LMDB_FRONT_OFFSET: Final = 16
"""Where the first page says that the file is liblmdb's."""
CRC_BYTES: Final = 4
"""Behind each value."""


def dump_catalog(view: memoryview, dump: FileDump, rows_table: str) -> FileDump:
    """Take the catalog's file apart.

    Args:
        rows_table: whose rows are shown and checked; empty: none.
    """
    metas = _dump_metas(view, dump)
    if not metas:
        return dump
    newest = max(metas, key=lambda meta: meta.commit)
    trees: dict[str, Tree] = {}
    try:
        for name, tree in named_trees(view, newest):
            trees[name.decode("ascii", "backslashreplace")] = tree
    except PageError as error:
        dump.problems.append(Problem(error.offset, f"table of tables: {error}"))
    for text, tree in trees.items():
        place = tree.root * newest.page_bytes if tree.rows else 0
        dump.pieces.append(Piece(place, newest.page_bytes if tree.rows else 0, f"table {text}", _shape(tree)))
    if len(trees) != newest.tables.rows:
        reason = f"{len(trees)} tables can be reached of {newest.tables.rows}"
        dump.problems.append(Problem(newest.tables.root * newest.page_bytes, reason))
    if rows_table in trees:
        _dump_rows(view, newest, rows_table, trees[rows_table], dump)
    elif rows_table:
        dump.problems.append(Problem(0, f"there is no table {rows_table}"))
    return dump


def _dump_metas(view: memoryview, dump: FileDump) -> list[MetaPage]:
    """The pages that name the newest commit and the one before; damaged ones become problems."""
    found: list[MetaPage] = []
    offset = 0
    for _ in range(2):
        try:
            meta = decode_meta(view, offset)
        except PageError as error:
            dump.problems.append(Problem(error.offset, str(error)))
            offset = 4096
            continue
        fields: dict[str, JsonValue] = {
            "commit": meta.commit,
            "page bytes": meta.page_bytes,
            "map bytes": meta.map_bytes,
            "last page": meta.last_page,
            "tables": meta.tables.rows,
            "free lists": meta.free.rows,
        }
        dump.pieces.append(Piece(offset, META_BYTES, "page that names a commit", fields))
        found.append(meta)
        offset = meta.page_bytes
    return found


def _shape(tree: Tree) -> dict[str, JsonValue]:
    return {
        "rows": tree.rows,
        "depth": tree.depth,
        "branch pages": tree.branch_pages,
        "leaf pages": tree.leaf_pages,
        "overflow pages": tree.overflow_pages,
    }


def _dump_rows(view: memoryview, meta: MetaPage, name: str, tree: Tree, dump: FileDump) -> None:
    reached = 0
    try:
        for row in rows_of(view, meta, tree):
            reached += 1
            if _unsealed(name, row) is None:
                dump.problems.append(Problem(row.offset, f"row {row.key.hex()}: the CRC of its value does not hold"))
            fields: dict[str, JsonValue] = {"key": row.key.hex(), "value": row.value[:-CRC_BYTES].hex()}
            dump.pieces.append(Piece(row.offset, row.size, "row", fields))
    except PageError as error:
        dump.problems.append(Problem(error.offset, f"table {name}: {error}"))
    if reached != tree.rows:
        place = tree.root * meta.page_bytes if tree.rows else 0
        dump.problems.append(Problem(place, f"table {name}: {reached} rows can be reached of {tree.rows}"))


def _unsealed(table: str, row: Row) -> bytes | None:
    """The value without its CRC32C, which covers the table's name and the key too; None when that does not hold."""
    value, crc = row.value[:-CRC_BYTES], row.value[-CRC_BYTES:]
    if crc32c(value, crc32c(row.key, crc32c(table.encode()))).to_bytes(CRC_BYTES, "big") != crc:
        return None
    return value


def find_value(view: memoryview, table: str, key: bytes) -> bytes | None:
    """The value of one row of the catalog's file, as the newest commit has it; None when there is no such row.

    Raises:
        PageError: it cannot be told.
    """
    metas = [decode_meta(view, 0)]
    metas.append(decode_meta(view, metas[0].page_bytes))
    newest = max(metas, key=lambda meta: meta.commit)
    tree = dict(named_trees(view, newest)).get(table.encode())
    found = [] if tree is None else [row for row in rows_of(view, newest, tree) if row.key == key]
    if not found:
        return None
    value = _unsealed(table, found[0])
    if value is None:
        raise PageError(found[0].offset, "the CRC of its value does not hold")
    return value
