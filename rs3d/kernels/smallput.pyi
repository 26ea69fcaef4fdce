"""What a put writes whose record is small, in one pass over the message that asks for it: its record in the log, its
rows in `versions` and `current`, its outcome. The object lies in the record, or is a blob. To the byte what
`rs3d.format.record`, `rs3d.format.rows` and `rs3d.stores.outcomes` make of the same put.

Some 2 µs for 4 KiB; holds the GIL. Source: FORMAT.md sections "Log record", "Catalog rows", "Outcomes"; the message is
laid out in `rs3d.stores.smallput` and `rs3d.stores.blobput`. Oracle: the modules named first, in
`tests/kernels/test_smallput.py`.
"""

from typing import Literal, final

from _typeshed import ReadableBuffer
from lmdb import Cursor

def row_key(message: bytes) -> bytes | None:
    """What the rows of the message's key begin with in `versions`; None where key or content type are not ASCII, hold
    a zero byte or are longer than `SmallPuts.append` takes, or the message is cut."""

def first_row(cursor: Cursor[bytes], row_key: bytes, seed: int) -> tuple[bytes, bytes] | Literal[False] | None:
    """The first row of a key whose rows begin with `row_key`, and its value as it is stored; None where it has none and
    the rows on both sides of its place are sound and on their sides; False where they are not: `CatalogTransaction.
    first_row` says what is damaged.

    Args:
        seed: what the CRC32C of the table's values begins with.

    Raises:
        What the cursor raises.
    """

@final
class SmallPuts:
    """
    Args:
        versions_seed, current_seed: what the CRC32C of these tables' values begins with.
        mutable: msgpack of the mutable part that a new object has.

    Raises:
        ValueError: `mutable` is longer than 256 bytes.
    """

    def __init__(self, versions_seed: int, current_seed: int, mutable: bytes) -> None: ...
    def append(
        self,
        log: bytearray,
        message: ReadableBuffer,
        counter: int,
        answered_below: int,
        sequence: int,
        now_ns: int,
        null: bool,
        reports: bool,
        seed: int,
        previous_crc: int,
        segment: int,
        offset: int,
        is_blob: bool,
    ) -> tuple[int, int, int, int, bytes, bytes, bytes, bytes, bytes]:
        """Append the record to `log`, padding included, as the first version of its key.

        Args:
            message: without the head of its packet; not kept.
            seed, previous_crc: as for `append_record`.
            segment, offset: where the record will lie.
            is_blob: whether the message names a blob in the place of the payload.

        Returns:
            CRC, bytes of head and body, of the record's payload, of the object, then keys and sealed values of the rows
            in `versions` and `current`, then the outcome.

        Raises:
            ValueError: the message is cut, its key is empty, too long or needs an escape, its payload (or the blob
                in its place) is not the one whose CRC32C it names. `log` is as it was.
            BufferError: `log` is exported.
        """

def selftest() -> int:
    """Records, their rows, an outcome, rows that are met, and a payload that changed. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
