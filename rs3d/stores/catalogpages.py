"""The pages of the catalog's file checked without liblmdb: it trusts them, so a bit that flipped in one may end the
process that follows it, hide rows, or give pages that are in use to somebody else.

Rows are not looked at: their CRCs tell of them. FORMAT.md section "Catalog".
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rs3d.errors import StoreDamaged
from rs3d.format.lmdbpages import (
    INTEGER_KEYS,
    MetaPage,
    PageError,
    Tree,
    decode_metas,
    free_pages,
    named_trees,
    pages_of,
    require_length,
)

FILE: Final = "data.mdb"
_FIRST_PAGE: Final = 2
"""Behind the two that name commits."""
_TOLD_EVERY_PAGES: Final = 4096
_READ_AGAIN: Final = 5
_WRITTEN_WITHIN_S: Final = 0.001
"""A commit's 120 bytes are copied into the page cache at once; who reads them meanwhile may see both halves."""

PagesDone = Callable[[int, int], None]
"""Hears how many pages of how many have been looked at; may raise to end it."""


def require_readable(catalog_path: str) -> None:
    """Make sure that liblmdb can open the catalog of a store, if there is one: the pages that name commits, the table
    of tables, the lists of free pages. A few dozen pages at most; all others are met later. Blocks.

    The caller keeps everybody else from committing.

    Raises:
        StoreDamaged: they cannot be followed.
    """
    with _mapped(catalog_path) as view:
        problem = _damage_on_the_way(view)
    _require_none(catalog_path, problem)


def require_whole(catalog_path: str) -> None:
    """Check every page of a catalog that nobody has open. Blocks as long as reading its file takes.

    Raises:
        StoreDamaged: one of them is damaged; the first that was found is named.
    """
    with _mapped(catalog_path) as view:
        problem = _damage_on_the_way(view)
        if len(view) and not problem:
            problem = damage_of(view, decode_metas(view)[0])
    _require_none(catalog_path, problem)


def damage_in_view(catalog_path: str, commit: int, progress: PagesDone) -> str | None:
    """Check the pages of a view that the caller holds open, beside whoever commits. Blocks as long as reading them
    takes.

    Args:
        commit: of the view (`lmdb.Transaction.id`).

    Returns:
        The first damage; empty when there is none; None when newer commits have taken the place of the page that names
        this one: try again with a new view.
    """
    with _mapped(catalog_path) as view:
        try:
            meta = next((found for found in _settled_metas(view) if found.commit == commit), None)
            if meta is None:
                return None
            problem = damage_of(view, meta, progress)
            return problem if not problem or meta in _settled_metas(view) else None
        except PageError as error:
            return f"byte {error.offset}: {error}"


def _settled_metas(view: memoryview) -> list[MetaPage]:
    """Both pages that name a commit, beside whoever commits: one that is being written is read again.

    Raises:
        PageError: one of them is none, every time.
    """
    for _ in range(_READ_AGAIN):
        try:
            return decode_metas(view)
        except PageError:
            time.sleep(_WRITTEN_WITHIN_S)
    return decode_metas(view)


def _damage_on_the_way(view: memoryview) -> str:
    """What is wrong with the pages that are read before any row is, '' when nothing is."""
    if not len(view):
        return ""
    try:
        newest = decode_metas(view)[0]
        require_length(view, newest)
        for _, tree in _trees(view, newest):
            if tree in (newest.free, newest.tables):
                for _ in pages_of(view, newest, tree, names_tables=tree is newest.tables):
                    pass
    except PageError as error:
        return f"byte {error.offset}: {error}"
    return ""


def _require_none(catalog_path: str, problem: str) -> None:
    if problem:
        reason = f"the catalog's pages cannot be followed: {problem}"
        raise StoreDamaged(root=os.path.dirname(catalog_path), reason=reason, command="rs3d check --rebuild")


def damage_of(view: memoryview, meta: MetaPage, progress: PagesDone = lambda done, total: None) -> str:
    """What is wrong with the pages of a commit, '' when nothing is: each has to be sound, and in one place only."""
    done = 0
    name = "page that names the commit"
    try:
        require_length(view, meta)
        used = bytearray(meta.last_page + 1)
        for of, tree in _trees(view, meta):
            name = of
            for run in pages_of(view, meta, tree, names_tables=tree is meta.tables):
                for number in range(run.first, run.first + run.pages):
                    if number < _FIRST_PAGE or used[number]:
                        raise PageError(number * meta.page_bytes, f"page {number} is in use in another place as well")
                    used[number] = 1
                done += run.pages
                if done % _TOLD_EVERY_PAGES < run.pages:
                    progress(done, meta.last_page + 1)
        name = "free pages"
        for number in free_pages(view, meta):
            if not _FIRST_PAGE <= number <= meta.last_page or used[number]:
                raise PageError(number * meta.page_bytes, f"page {number} is in use, or there is none")
            used[number] = 1
    except PageError as error:
        return f"{name}, byte {error.offset}: {error}"
    return ""


def _trees(view: memoryview, meta: MetaPage) -> Iterator[tuple[str, Tree]]:
    """All trees of a commit. Raises PageError."""
    if (meta.free.flags, meta.tables.flags) != (INTEGER_KEYS, 0):
        raise PageError(meta.offset, "its tables are of a kind that is not used here")
    yield "free pages", meta.free
    yield "table of tables", meta.tables
    for name, tree in named_trees(view, meta):
        if tree.flags:
            raise PageError(meta.offset, f"table {name!r} is of a kind that is not used here")
        yield f"table {name.decode('ascii', 'backslashreplace')}", tree


@contextmanager
def _mapped(catalog_path: str) -> Iterator[memoryview]:
    """The catalog's file, empty when there is none yet. Not by liblmdb, whose locks are on another file."""
    try:
        descriptor = os.open(os.path.join(catalog_path, FILE), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield memoryview(b"")
        return
    try:
        if os.fstat(descriptor).st_size == 0:
            yield memoryview(b"")
            return
        yield memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))  # unmapped with the last slice of it
    finally:
        os.close(descriptor)
