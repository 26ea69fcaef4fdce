"""The pages of the catalog's file as liblmdb 0.9 lays them out on a 64-bit machine, read without it.

liblmdb trusts its pages: a damaged one may end the process that follows it. Here every offset is checked before it is
used, and what cannot be followed is an error that names the page. Only for looking (`rs3d dump`): nothing here locks,
so a file that is being committed to may be seen torn.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

LMDB_MAGIC: Final = 0xBEEFC0DE
LMDB_VERSION: Final = 1
PAGE_HEAD: Final = struct.Struct("<QHHHH")
"""number, padding, flags, end of the pointers, begin of the nodes."""

_META: Final = struct.Struct("<IIQQ")
_TREE: Final = struct.Struct("<IHHQQQQQ")
_LAST: Final = struct.Struct("<QQ")
_NODE: Final = struct.Struct("<HHHH")
META_BYTES: Final = PAGE_HEAD.size + _META.size + 2 * _TREE.size + _LAST.size
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_BIG_VALUE: Final = 1
_PAGE_NUMBER_BYTES: Final = 8
_EMPTY: Final = (1 << 64) - 1
_DEPTH_LIMIT: Final = 32


class PageError(Exception):
    """A page cannot be followed. `offset` is where in the file it would be."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


class Tree(NamedTuple):
    """A table's record: its shape and root."""

    page_bytes: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    rows: int
    root: int


class Row(NamedTuple):
    """A row as it is stored. Its key lies at `offset`, `size` bytes with what follows it: the value, or the number of
    the first of the pages that a large one has for itself."""

    offset: int
    size: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class MetaPage:
    """One of the two pages that name a commit."""

    offset: int
    page_bytes: int
    map_bytes: int
    last_page: int
    commit: int
    free: Tree
    tables: Tree


def decode_meta(view: memoryview, offset: int) -> MetaPage:
    """The page that names a commit, at `offset`.

    Raises:
        PageError: there is none.
    """
    if len(view) < offset + META_BYTES:
        raise PageError(offset, f"the file of liblmdb ends within its page of {META_BYTES} bytes that names a commit")
    _, _, flags, _, _ = PAGE_HEAD.unpack_from(view, offset)
    at = offset + PAGE_HEAD.size
    magic, version, _, map_bytes = _META.unpack_from(view, at)
    if magic != LMDB_MAGIC or version != LMDB_VERSION or not flags & _META_PAGE:
        raise PageError(offset, f"no page of liblmdb names a commit here: magic {magic:08x}, version {version}")
    at += _META.size
    free, tables = Tree(*_TREE.unpack_from(view, at)), Tree(*_TREE.unpack_from(view, at + _TREE.size))
    last_page, commit = _LAST.unpack_from(view, at + 2 * _TREE.size)
    if not 512 <= free.page_bytes <= 65536 or free.page_bytes & (free.page_bytes - 1):
        raise PageError(offset, f"pages of {free.page_bytes} bytes are none of liblmdb")
    return MetaPage(offset, free.page_bytes, map_bytes, last_page, commit, free, tables)


def named_trees(view: memoryview, meta: MetaPage) -> Iterator[tuple[bytes, Tree]]:
    """The tables that a commit has, by name, in order.

    Raises:
        PageError
    """
    for row in rows_of(view, meta, meta.tables):
        if len(row.value) != _TREE.size:
            raise PageError(row.offset, f"the record of table {row.key!r} has {len(row.value)} bytes")
        yield row.key, Tree(*_TREE.unpack(row.value))


def rows_of(view: memoryview, meta: MetaPage, tree: Tree) -> Iterator[Row]:
    """All rows of a table, in order.

    Raises:
        PageError: behind the rows that could be reached.
    """
    if tree.root == _EMPTY:
        return
    yield from _walk(view, meta, tree.root, 1)


def _walk(view: memoryview, meta: MetaPage, number: int, depth: int) -> Iterator[Row]:
    offset = number * meta.page_bytes
    if depth > _DEPTH_LIMIT:
        raise PageError(offset, f"pages lead to pages {_DEPTH_LIMIT} times, or in a circle")
    page, flags = _page(view, meta, number)
    nodes = _nodes(page, offset)
    if flags & _BRANCH:
        for low, high, node_flags, _ in nodes:
            yield from _walk(view, meta, low | high << 16 | node_flags << 32, depth + 1)
        return
    if not flags & _LEAF:
        raise PageError(offset, f"page {number} has flags {flags:#x}: neither branch nor leaf")
    for low, high, node_flags, at in nodes:
        key_at, size = at + _NODE.size, low | high << 16
        value_at = key_at + _NODE.unpack_from(page, at)[3]
        is_big = bool(node_flags & _BIG_VALUE)
        end = value_at + (_PAGE_NUMBER_BYTES if is_big else size)
        if end > len(page):
            raise PageError(offset + at, f"a row of {end - key_at} bytes does not end within page {number}")
        value = bytes(page[value_at:end])
        if is_big:
            value = _big_value(view, meta, int.from_bytes(value, "little"), size)
        yield Row(offset + key_at, end - key_at, bytes(page[key_at:value_at]), value)


def _page(view: memoryview, meta: MetaPage, number: int) -> tuple[memoryview, int]:
    offset = number * meta.page_bytes
    if number > meta.last_page or offset + meta.page_bytes > len(view):
        raise PageError(min(offset, len(view)), f"page {number} is not in the file")
    stored, _, flags, _, _ = PAGE_HEAD.unpack_from(view, offset)
    if stored != number:
        raise PageError(offset, f"page {number} says that it is page {stored}")
    return view[offset : offset + meta.page_bytes], flags


def _nodes(page: memoryview, offset: int) -> list[tuple[int, int, int, int]]:
    """Low and high half, flags and place of each node of a page, in the order of its pointers."""
    lower = PAGE_HEAD.unpack_from(page)[3]
    if not PAGE_HEAD.size <= lower <= len(page) or lower % 2:
        raise PageError(offset, f"its pointers end at {lower}")
    found = []
    for (at,) in struct.iter_unpack("<H", page[PAGE_HEAD.size : lower]):
        if not lower <= at <= len(page) - _NODE.size:
            raise PageError(offset, f"a node is said to begin at {at}")
        low, high, flags, _ = _NODE.unpack_from(page, at)
        found.append((low, high, flags, at))
    return found


def _big_value(view: memoryview, meta: MetaPage, number: int, size: int) -> bytes:
    _, flags = _page(view, meta, number)
    begin = number * meta.page_bytes + PAGE_HEAD.size
    if not flags & _OVERFLOW or begin + size > len(view):
        raise PageError(begin - PAGE_HEAD.size, f"page {number} does not hold a value of {size} bytes")
    return bytes(view[begin : begin + size])
