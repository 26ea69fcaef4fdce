"""Walking a table of user keys in byte order, long keys included. FORMAT.md section "Catalog keys"; STORE.md 24.

A walk yields (space prefix, text and suffix, sealed value) triples through one LMDB cursor a level; branch rows are
entered and never shown. The CRCs of the rows that it yields are for whoever gets them; those of the rows by which it
decides that others are not there (where it begins, what it passes over, where it ends) are checked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rs3d.format.keys import CHUNK_BYTES, branch_row_key, bucket_prefix, node_prefix
from rs3d.stores.catalogtables import Table
from rs3d.types.identifiers import BucketId

if TYPE_CHECKING:
    import lmdb

BRANCH_VALUE_BYTES = 8
"""u32 count of the rows in the node, and the CRC: no other value in these tables has that length."""


WalkedRow = tuple[bytes, bytes, bytes]
"""A row met by a walk: its LMDB key, the key's text with the chunks above it put in front, its stored value."""


def walk(
    transaction: lmdb.Transaction[bytes],
    table: Table,
    bucket: BucketId,
    prefix: bytes,
    start: bytes,
    after_row: bytes | None = None,
) -> Iterator[WalkedRow]:
    """Rows of `bucket` whose text begins with `prefix`, from the first text ≥ `start` on, in byte order.

    Args:
        prefix, start: in the table's own text (escaped for suffixed tables).
        after_row: begin behind this row key instead, when it lies in the space where the walk begins.

    Raises:
        RecordDamaged: a page leads to a row that lies before these, or a row beside them is damaged: it may be one of
            them.
    """
    if start < prefix:
        start = prefix
    return _walk_space(transaction, table, bucket, bucket_prefix(bucket), b"", prefix, start, after_row)


def _walk_space(
    transaction: lmdb.Transaction[bytes],
    table: Table,
    bucket: BucketId,
    space: bytes,
    above: bytes,
    prefix: bytes,
    start: bytes,
    after_row: bytes | None,
) -> Iterator[WalkedRow]:
    cursor = transaction.cursor(db=table.handle)
    width = len(space)
    rest = start[len(above) :] if start > above else b""
    long_start = len(rest) > CHUNK_BYTES
    seek = branch_row_key(space, rest[:CHUNK_BYTES]) if long_start else space + rest
    if not table.begin_at(cursor, seek):
        return
    first = True
    wanted = space + prefix[len(above) :]
    every_row = after_row is None
    for row_key, sealed in cursor.iternext(keys=True, values=True):
        if every_row and row_key.startswith(wanted) and len(sealed) != BRANCH_VALUE_BYTES:
            # Nearly all rows of nearly all walks.
            first = False
            yield row_key, above + row_key[width:] if above else row_key[width:], sealed
            continue
        if row_key[:width] != space:
            if row_key < space:
                raise table.out_of_order(row_key)
            table.unseal(row_key, sealed)
            return
        if len(sealed) == BRANCH_VALUE_BYTES:
            table.unseal(row_key, sealed)
            text = above + row_key[width:-1]
            if not (text.startswith(prefix) or prefix.startswith(text)):
                if text > prefix:
                    return
                continue
            below = start if first and start.startswith(text) else text
            node = node_prefix(bucket, text)
            node_after = after_row if after_row is not None and after_row.startswith(node) else None
            yield from _walk_space(transaction, table, bucket, node, text, prefix, below, node_after)
            first = False
            continue
        first = False
        text = above + row_key[width:]
        if not text.startswith(prefix):
            table.unseal(row_key, sealed)
            if text > prefix:
                return
            continue
        if after_row is not None and row_key <= after_row and after_row.startswith(space):
            table.unseal(row_key, sealed)
            continue
        yield row_key, text, sealed
