"""Rows of the catalog's table `current` as a LIST shows them: what `rs3d.format.rows.listed_object` makes of a row
whose CRC holds, for a whole walk.

Loop-safe: some 0.5 µs a row; holds the GIL. Source: FORMAT.md section "Catalog rows". Oracle: `rs3d.format.rows`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Row = TypeVar("Row", bound=tuple[object, ...])

class ListedRows(Iterator[tuple[bytes, Row]], Generic[Row]):
    """(text, row) for each (LMDB key, text, stored value) of a walk, in its order."""

    def __init__(
        self,
        rows: Iterable[tuple[bytes, bytes, bytes]],
        seed: int,
        kind: type[Row],
        classes: tuple[str, ...],
        algorithms: tuple[str, ...],
        types: tuple[str, ...],
        damaged: Callable[[bytes], Exception],
    ) -> None:
        """
        Args:
            rows: the walk; read as the rows are asked for.
            seed: the CRC32C that the table's CRCs begin with.
            kind: a tuple class of eight fields: key, size in bytes, time in ns, ETag, storage class, owner, checksum
                algorithm, checksum type. It is filled without calling its constructor.
            classes, algorithms, types: the names behind the numbers in a row.
            damaged: makes the error for a row, by its LMDB key, whose length or CRC is wrong.

        Raises:
            TypeError: `kind` is no tuple class.
        """

    def __iter__(self) -> ListedRows[Row]: ...
    def __next__(self) -> tuple[bytes, Row]:
        """
        Raises:
            TypeError: a row is not three bytes objects.
            IndexError: a row holds a number without a name.
            UnicodeDecodeError: a text is not UTF-8.
        """

def listed_rows(
    packed: bytes,
    kind: type[Row],
    classes: tuple[str, ...],
    algorithms: tuple[str, ...],
    types: tuple[str, ...],
) -> list[Row]:
    """A row of each of the packed ones (`rs3d.kernels.catalogwalk` says how they lie), whose CRCs have been checked.
    Some 0.25 µs each. Arguments as of `ListedRows`.

    Raises:
        TypeError: `kind` is no tuple class.
        ValueError: they do not end where a row ends.
        IndexError: a row holds a number without a name.
        UnicodeDecodeError: a text is not UTF-8.
    """

def owners_of(packed: bytes) -> set[str]:
    """The owners of packed rows, in hexadecimal digits.

    Raises:
        ValueError: they do not end where a row ends.
    """

def selftest() -> int:
    """A row and its CRC, a packed row. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
