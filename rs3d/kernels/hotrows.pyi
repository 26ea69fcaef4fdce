"""The rows that nearly every batch of small writes changes and nothing else reads meanwhile: counters of its buckets,
outcomes of its senders, the row of the log's active segment and the tail. To the byte what
`CatalogTransaction.flush` writes.

Some 3 µs for seven puts, most of them liblmdb's; holds the GIL, but where the transaction gives it back. Source:
FORMAT.md section "Catalog rows". Oracle: `CatalogTransaction.flush`, in `tests/stores/test_catalog_known.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

@final
class HotRows:
    """
    Args:
        tables: `counters`, `operations`, `log_segments` and `state`: handle of each, and what the CRC32C of its values
            begins with.
        tail_key: of the tail's row in `state`.
        segment_row, tail: make such rows of the tuple of their fields.
    """

    def __init__(
        self,
        tables: Sequence[tuple[Any, int]],
        tail_key: bytes,
        segment_row: Callable[[tuple[object, ...]], object],
        tail: Callable[[tuple[object, ...]], object],
    ) -> None: ...
    def write(self, transaction: Any, known: Any, run: Any, segment: int, end: int, crc: int) -> bool:
        """Write what a run adds up to, and keep it in `known`; from `run.dead` the active segment is taken.

        Args:
            transaction: lmdb's.
            known: see `catalogwriter.Known`.
            run: see `smallrun.Run`.
            segment, end, crc: the log's active segment, where its last record ends, and that record's CRC.

        Returns:
            False where `known` does not have all that this takes; nothing was done.

        Raises:
            What the transaction raises; OverflowError for a number that fits no row: rows may have been written, and
            `known` is to be cleared.
        """

def selftest() -> int:
    """The rows of one small batch. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
