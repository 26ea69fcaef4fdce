"""What the removal of a small object reads and writes: the version's row in the catalog, the record in the log and the
outcome. To the byte what `rs3d.format.record`, `rs3d.format.rows` and `rs3d.stores.outcomes` make of the same removal.

Less than 1 µs each; holds the GIL. Source: FORMAT.md sections "Log record", "Catalog rows", "Outcomes"; the message is
laid out in `rs3d.stores.smallremoval`. Oracle: those modules, in `tests/kernels/test_smallremoval.py`.
"""

def row_keys(message: bytes) -> tuple[bytes, bytes] | None:
    """What the rows of the message's key begin with in `versions`, and its row's key in `current`. None where the key
    is not ASCII, holds a zero byte, is longer than 462 bytes or empty, or the message is cut."""

def plain_version(
    seed: int, row_key: bytes, key: bytes, sealed: bytes
) -> tuple[int, bytes, int, int, int, bytes] | None:
    """A version of which nothing but its row, its record and one reference to a blob has to go with it, and which
    nothing keeps.

    Args:
        seed: what the CRC32C of the values of `versions` begins with.
        row_key: what the rows of its key begin with.
        key, sealed: a row of `versions` as it is stored.

    Returns:
        Sequence, token, size of the object, number of the log segment with its record, bytes of the record there, id of
        the blob (12 bytes; empty where the object lies in its record). None where the row is another's or damaged, or
        the version is a marker, not the null version, locked or held (now or once), was patched, or is a set of parts.
    """

def append(
    log: bytearray,
    message: bytes,
    counter: int,
    answered_below: int,
    sequence: int,
    version: int,
    token: bytes,
    seed: int,
    previous_crc: int,
) -> tuple[int, int, bytes]:
    """Append the record to `log`, padding included, of the removal of a null version in a bucket that was never
    versioned.

    Args:
        message: without the head of its packet.
        version, token: of the version, as `plain_version` gives them.
        seed, previous_crc: as for `append_record`.

    Returns:
        CRC, bytes of the record, the outcome.

    Raises:
        ValueError: the message is cut, its key is longer than 462 bytes, `token` is none. `log` is as it was.
        BufferError: `log` is exported.
    """

def selftest() -> int:
    """Keys, a row, a record and its outcome. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
