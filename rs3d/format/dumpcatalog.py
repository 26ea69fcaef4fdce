"""The catalog's file in FORMAT.md's terms: the two pages that name commits, the tables, and the rows of one."""

from __future__ import annotations

from typing import Final

from rs3d.format.dumppieces import FileDump, JsonValue, Piece, Problem
from rs3d.format.lmdbpages import LMDB_MAGIC, META_BYTES, MetaPage, PageError, Tree, decode_meta, named_trees, rows_of
from rs3d.kernels.crc import crc32c

LMDB_FRONT: Final = LMDB_MAGIC.to_bytes(4, "little")
LMDB_FRONT_OFFSET: Final = 16
"""Where the first page says that the file is liblmdb's."""


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
    seed, reached, place = crc32c(name.encode()), 0, tree.root * meta.page_bytes if tree.rows else 0
    try:
        for key, sealed in rows_of(view, meta, tree):
            reached += 1
            value, crc = sealed[:-4], int.from_bytes(sealed[-4:], "big")
            if len(sealed) < 4 or crc32c(value, crc32c(key, seed)) != crc:
                dump.problems.append(Problem(place, f"row {key.hex()}: the CRC of its value does not hold"))
            dump.pieces.append(Piece(place, len(key) + len(sealed), "row", {"key": key.hex(), "value": value.hex()}))
    except PageError as error:
        dump.problems.append(Problem(error.offset, f"table {name}: {error}"))
    if reached != tree.rows:
        dump.problems.append(Problem(place, f"table {name}: {reached} rows can be reached of {tree.rows}"))
