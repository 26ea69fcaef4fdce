"""Pages of a LIST straight out of the catalog's file, without liblmdb: one call of a kernel instead of some objects of
Python a row.

The view that the caller holds keeps everybody from writing the pages that its tables consist of; the record of the
table, read in that view, says where they begin. liblmdb writes its file by `write`, never through its mapping
(MDB_WRITEMAP is not used), so what a commit has made is what `read` gives. On the loop a page that is not in memory is
an error, as a record of the log is (`LogReader.in_memory`); where the file system cannot tell, reads wait there too.
"""

from __future__ import annotations

import errno
import os
from threading import get_ident
from typing import TYPE_CHECKING, Final

from rs3d.errors import RecordDamaged
from rs3d.format.keys import CHUNK_BYTES, bucket_prefix
from rs3d.format.rows import ROW_NAMES, SEALED_CURRENT
from rs3d.kernels.catalogwalk import FULL, LONG, PageUnfollowable, RowDamaged, RowOutOfOrder, walk_objects
from rs3d.stores.catalogpages import FILE
from rs3d.stores.catalogtables import Table
from rs3d.stores.interfaces import TooLongForLoop, WalkedObjects
from rs3d.types.identifiers import BucketId
from rs3d.types.objects import PackedObjects

if TYPE_CHECKING:
    import lmdb

    from rs3d.kernels.catalogwalk import Walked
    from rs3d.stores.logreader import InMemory

_NOTHING: Final = PackedObjects(b"", 0, ROW_NAMES)


class CatalogPages:
    """The catalog's file, open for reading. May be used by several threads, each with a view of its own."""

    def __init__(self, environment: lmdb.Environment, in_memory: InMemory) -> None:
        """Raises OSError."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(os.path.join(environment.path(), FILE), flags)
        self._page_bytes: int = environment.stat()["psize"]
        self._in_memory = in_memory
        self._can_tell = True
        """Whether the file system knows RWF_NOWAIT, as far as was seen."""

    def walk_objects(
        self,
        transaction: lmdb.Transaction[bytes],
        table: Table,
        bucket: BucketId,
        prefix: bytes,
        start: bytes,
        delimiter: bytes,
        maximum: int,
    ) -> WalkedObjects:
        """See `interfaces.CatalogSnapshot`; `table` is `current`. Stops before a key that is too long for one row.

        Raises:
            RecordDamaged: a page cannot be followed, or a row on the way is damaged or out of order.
            TooLongForLoop: see above.
        """
        if max(len(prefix), len(start)) > CHUNK_BYTES:
            return WalkedObjects(_NOTHING, [], False, b"", False, start)
        record = transaction.get(table.name.encode("ascii"))
        if record is None:
            raise _unfollowable(f"it has no table {table.name}")
        wait = self._in_memory.thread != get_ident() or not self._can_tell
        try:
            walked = self._walk(record, table, bucket, prefix, start, delimiter, maximum, wait)
        except BlockingIOError:
            raise TooLongForLoop("a page of the catalog is not in memory") from None
        except RowDamaged as error:
            raise table.damaged(error.key) from error
        except RowOutOfOrder as error:
            raise table.out_of_order(error.key) from error
        except (PageUnfollowable, OSError) as error:
            raise _unfollowable(str(error)) from error
        packed, count, prefixes, last, last_is_prefix, end, met = walked
        objects = PackedObjects(packed, count, ROW_NAMES)
        # What a branch row leads to sorts behind its text, which is all of the row's but the mark at its end.
        go_on = met[:-1] + b"\0" if end == LONG else None
        return WalkedObjects(objects, prefixes, end == FULL, last, last_is_prefix, go_on)

    def _walk(
        self,
        record: bytes,
        table: Table,
        bucket: BucketId,
        prefix: bytes,
        start: bytes,
        delimiter: bytes,
        maximum: int,
        wait: bool,
    ) -> Walked:
        try:
            return walk_objects(
                self._descriptor,
                record,
                bucket_prefix(bucket),
                prefix,
                start,
                delimiter,
                page_bytes=self._page_bytes,
                seed=table.seed,
                value_bytes=SEALED_CURRENT.size,
                maximum=maximum,
                may_wait=wait,
            )
        except OSError as error:
            if wait or error.errno != errno.EOPNOTSUPP:
                raise
        self._can_tell = False
        return self._walk(record, table, bucket, prefix, start, delimiter, maximum, True)

    def close(self) -> None:
        """Close the file, which nobody reads any more."""
        os.close(self._descriptor)


def _unfollowable(reason: str) -> RecordDamaged:
    return RecordDamaged(what="the catalog", reason=f"{reason}; run rs3d check --rebuild")
