"""A page of a LIST out of the pages of the catalog's file, in one call: down the tree to the first key, along its
leaves, down again behind each common prefix.

Pages are hostile until they were checked: every offset, length and number is compared with what it has to lie in, the
CRC of every row on the way is checked (also of the one before the first and of the one behind the last: a row that a
flipped bit hides makes the list an error), and keys have to rise. Pages are read from the page cache, 0.3 µs each, some
0.1 µs a row. Source: FORMAT.md sections "Catalog keys" and "Catalog rows". Oracle: `rs3d.stores.catalogtrie.walk`.
"""

from typing import Final

END: Final = 0
"""There are no more."""
FULL: Final = 2
"""There is at least one more."""
LONG: Final = 3
"""The next row leads to keys that are too long for one row (FORMAT.md section "Catalog keys")."""

class PageUnfollowable(Exception):
    """A page that is not what liblmdb writes."""

    page: int
    def __init__(self, page: int, reason: str) -> None: ...

class RowDamaged(Exception):
    """The CRC or the length of a row is wrong."""

    key: bytes
    def __init__(self, key: bytes) -> None: ...

class RowOutOfOrder(Exception):
    """A row stands before one that it has to follow."""

    key: bytes
    def __init__(self, key: bytes) -> None: ...

Walked = tuple[bytes, int, list[bytes], bytes, bool, int, bytes]
"""Packed rows (of each: length of its text as two little-endian bytes, its text, its value without the CRC), their
number; common prefixes; the last text or common prefix and whether it is one; END, FULL or LONG; with LONG, the text of
the row that was met."""

def walk_objects(
    fd: int,
    record: bytes,
    space: bytes,
    prefix: bytes,
    start: bytes,
    delimiter: bytes,
    *,
    page_bytes: int,
    seed: int,
    value_bytes: int,
    maximum: int,
    may_wait: bool,
) -> Walked:
    """Rows whose key is `space` and a text that begins with `prefix`, from the first text ≥ `start` on.

    Args:
        fd: of the catalog's file. The caller holds a view of the catalog, and its pages are not written meanwhile.
        record: the table's record in that view, 48 bytes.
        space: 8 bytes. With `prefix` or `start` behind it, at most 511.
        delimiter: empty, or what makes all texts that share what lies before and within its first occurrence behind
            `prefix` one common prefix. UTF-8.
        page_bytes: of the file, a power of 2 from 512 to 65,536.
        seed: the CRC32C that the CRCs of the table's rows begin with.
        value_bytes: of each row, with its CRC.
        maximum: of rows and common prefixes together, 1 to 2^20.
        may_wait: for the disk; then the GIL is dropped. Else it is held.

    Raises:
        ValueError: an argument is impossible.
        BlockingIOError: not `may_wait`, and a page is not in memory.
        OSError: a page could not be read; EOPNOTSUPP where the file system cannot tell whether it will wait.
        PageUnfollowable, RowDamaged, RowOutOfOrder
    """

def selftest() -> int:
    """A table of one row, found and passed over. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
