"""Answers of HEAD that are given again, for as long as the stored rows of bucket and key are those they were made of.

A row holds the sequence and the places of all that it stands for, so equal bytes mean an equal answer, whoever wrote
meanwhile and in whatever process (as in `warmreads`). What is left of a HEAD is two lookups of the catalog and their
comparison: half of what it costs to make the answer anew of rows that are known.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rs3d.engine.results import ObjectHead
from rs3d.format.keys import CHUNK_BYTES, bucket_prefix
from rs3d.stores.interfaces import Catalog, CatalogSnapshot
from rs3d.types.objects import BlobSet

KNOWN_HEADS_LIMIT: Final = 4096
"""Some 0.5 KiB each beside the version, which the catalog remembers too."""


class _Known(NamedTuple):
    """An answer, and the rows it was made of."""

    head: ObjectHead
    bucket_name: bytes
    bucket_row: bytes
    row_key: bytes
    row: bytes


class KnownHeads:
    """Of one engine. For any thread."""

    __slots__ = ("_known", "_rows_are")

    def __init__(self, catalog: Catalog) -> None:
        self._rows_are = catalog.rows_are
        self._known: dict[tuple[str, str], _Known] = {}

    def find(self, bucket: str, key: str) -> ObjectHead | None:
        """What a HEAD of the latest version says that asks for no more, in a view that is opened now; None where it
        has to be looked up. The answer belongs to all who asked: nobody changes it.

        Raises:
            SlowDown, RecordDamaged: as a view.
        """
        known = self._known.get((bucket, key))
        if known is None or not self._rows_are(known[1], known[2], known[3], known[4]):
            return None
        return known[0]

    def offer(self, view: CatalogSnapshot, key: str, head: ObjectHead) -> None:
        """Keep what was just found in `view` for such a HEAD: not of versions that are sealed (the customer's key would
        have to be held against them), and not of sets, whose table may move without their row's knowing."""
        version = head.version
        if version.mutable.wrapped_key or type(version.placement) is BlobSet:
            return
        text = key.encode("utf-8")
        if len(text) > CHUNK_BYTES:
            return
        row_key = bucket_prefix(head.bucket.bucket_id) + text
        name = head.bucket.name.encode("utf-8")
        bucket_row, row = view.stored_bucket(name), view.stored_latest(row_key)
        if bucket_row is None or row is None:
            return
        if len(self._known) >= KNOWN_HEADS_LIMIT:
            self._known.clear()
        self._known[head.bucket.name, key] = _Known(head, name, bucket_row, row_key, row)
