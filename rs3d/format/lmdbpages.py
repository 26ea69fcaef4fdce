"""The pages of the catalog's file as liblmdb 0.9 lays them out on a 64-bit machine, read without it.

liblmdb trusts its pages: a damaged one may end the process that follows it. Here every offset is checked before it is
used, and what cannot be followed is an error that names the page. For looking only (`rs3d dump`, checks): nothing here
locks, so a file that is being committed to may be seen torn, but for the pages of a view that is held meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

LMDB_MAGIC: Final = 0xBEEFC0DE
LMDB_VERSION: Final = 1
INTEGER_KEYS: Final = 8
"""The flag of a tree whose keys are numbers of this machine: the lists of free pages, and no other here."""
PAGE_HEAD: Final = struct.Struct("<QHHHH")
"""number, padding, flags, end of the pointers, begin of the nodes."""

_META: Final = struct.Struct("<IIQQ")
_TREE: Final = struct.Struct("<IHHQQQQQ")
_LAST: Final = struct.Struct("<QQ")
_NODE: Final = struct.Struct("<HHHH")
META_BYTES: Final = PAGE_HEAD.size + _META.size + 2 * _TREE.size + _LAST.size
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_BIG_VALUE: Final = 1
_TABLE_RECORD: Final = 2
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


class PageRun(NamedTuple):
    """Pages one behind the other: more than one only where a value is too large for a row."""

    first: int
    pages: int
    rows: int


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


def renumbered(meta: bytes, commit: int) -> bytes:
    """The first META_BYTES of a page that names a commit, with another number."""
    last_page, _ = _LAST.unpack_from(meta, META_BYTES - _LAST.size)
    return meta[: META_BYTES - _LAST.size] + _LAST.pack(last_page, commit)


def decode_metas(view: memoryview) -> list[MetaPage]:
    """Both pages that name a commit, the newest first.

    Raises:
        PageError: one of them is none.
    """
    first = decode_meta(view, 0)
    found = [first, decode_meta(view, first.page_bytes)]
    return sorted(found, key=lambda meta: -meta.commit)


def require_length(view: memoryview, meta: MetaPage) -> None:
    """Make sure that a commit's last page is in the file.

    Raises:
        PageError: it is not.
    """
    if (meta.last_page + 1) * meta.page_bytes > len(view):
        raise PageError(meta.offset, f"the file ends before page {meta.last_page}, its last one")


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


def pages_of(view: memoryview, meta: MetaPage, tree: Tree, *, names_tables: bool = False) -> Iterator[PageRun]:
    """Every page of a tree, each checked before it is followed: what liblmdb takes on trust. In no order.

    Values are not looked at. Keys have to be in order, and between those that the pages above name, so that a lookup
    ends where the row is, or would be.

    Args:
        names_tables: it is the table of tables, whose rows are records of tables.

    Raises:
        PageError: behind the pages that could be checked; at the end, too, when they are not those that are counted.
    """
    counted = {"branch pages": 0, "leaf pages": 0, "overflow pages": 0, "rows": 0}
    waiting: list[tuple[int, int, bytes, bytes | None]] = [] if tree.root == _EMPTY else [(tree.root, 1, b"", None)]
    numbers_are_keys = bool(tree.flags & INTEGER_KEYS)
    while waiting:
        number, depth, low, high = waiting.pop()
        offset = number * meta.page_bytes
        page, flags = _page(view, meta, number)
        if depth > tree.depth or flags != (_LEAF if depth == tree.depth else _BRANCH):
            raise PageError(offset, f"page {number} has flags {flags:#x} at depth {depth} of {tree.depth}")
        nodes = _nodes(page, offset)
        if not nodes:
            raise PageError(offset, f"page {number} is empty")
        keys = [_key(page, at, offset) for _, _, _, at in nodes]
        if depth == tree.depth:
            runs = list(_leaf_runs(view, meta, page, nodes, _TABLE_RECORD if names_tables else 0))
            counted["leaf pages"] += 1
            counted["overflow pages"] += sum(run.pages for run in runs)
            counted["rows"] += len(nodes)
            yield PageRun(number, 1, len(nodes))
            yield from runs
        else:
            counted["branch pages"] += 1
            keys[:1] = [low]  # what the first one says does not count
            bounds = [*keys[1:], high]
            children = [low_half | high_half << 16 | top << 32 for low_half, high_half, top, _ in nodes]
            waiting += zip(children, [depth + 1] * len(children), keys, bounds, strict=True)
            yield PageRun(number, 1, 0)
        if numbers_are_keys:
            continue
        if sorted(keys) != keys or not (low <= keys[0] and (high is None or keys[-1] < high)):
            raise PageError(offset, f"keys of page {number} are out of order, or not where the page above has them")
    told = {
        "branch pages": tree.branch_pages,
        "leaf pages": tree.leaf_pages,
        "overflow pages": tree.overflow_pages,
        "rows": tree.rows,
    }
    if counted != told:
        raise PageError(0, f"{counted} can be reached of {told}")


def _key(page: memoryview, at: int, offset: int) -> bytes:
    begin = at + _NODE.size
    end = begin + _NODE.unpack_from(page, at)[3]
    if end > len(page):
        raise PageError(offset, f"a key does not end within its page: it is said to end at {end}")
    return bytes(page[begin:end])


def _leaf_runs(
    view: memoryview, meta: MetaPage, page: memoryview, nodes: list[tuple[int, int, int, int]], wanted: int
) -> Iterator[PageRun]:
    """Pages of large values; the places of the others are checked."""
    for low, high, node_flags, at in nodes:
        begin, size = at + _NODE.size + _NODE.unpack_from(page, at)[3], low | high << 16
        big = node_flags == _BIG_VALUE and not wanted
        if not big and node_flags != wanted:
            raise PageError(0, f"a row of the page at {at} has flags {node_flags:#x}")
        if begin + (8 if big else size) > len(page):
            raise PageError(0, f"a value of {size} bytes does not end within its page")
        if big:
            number = int.from_bytes(page[begin : begin + 8], "little")
            first, flags = _page(view, meta, number)
            _, _, _, low_pages, high_pages = PAGE_HEAD.unpack_from(first)
            pages = low_pages | high_pages << 16
            needed = (PAGE_HEAD.size - 1 + size) // meta.page_bytes + 1
            if flags != _OVERFLOW or not needed <= pages <= meta.last_page + 1 - number:
                raise PageError(number * meta.page_bytes, f"page {number} does not hold a value of {size} bytes")
            yield PageRun(number, pages, 0)


def free_pages(view: memoryview, meta: MetaPage) -> Iterator[int]:
    """The pages that liblmdb may use anew.

    Raises:
        PageError: behind those that could be read.
    """
    for row in rows_of(view, meta, meta.free):
        count = int.from_bytes(row.value[:8], "little")
        if len(row.key) != 8 or len(row.value) % 8 or not 8 * (count + 1) <= len(row.value):
            raise PageError(row.offset, f"a list of {count} free pages has {len(row.value)} bytes")
        yield from struct.unpack_from(f"<{count}Q", row.value, 8)


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
    _, _, _, lower, upper = PAGE_HEAD.unpack_from(page)
    if not PAGE_HEAD.size <= lower <= upper <= len(page) or lower % 2:
        raise PageError(offset, f"its pointers end at {lower}, its nodes begin at {upper}")
    found = []
    for (at,) in struct.iter_unpack("<H", page[PAGE_HEAD.size : lower]):
        if not upper <= at <= len(page) - _NODE.size:
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
