"""Reads for which next to nothing has to be asked of the catalog, because its rows are those of the last time.

Whoever answers the same requests again and again keeps what it made of a row, and compares the stored row of today with
the one it was made of: rows hold the sequence and the places of all that they stand for, so equal bytes mean an equal
answer, in every process, without a message (as `known_versions` of the catalog does). This is the view for that: one
for many requests of a turn of the loop, never kept across an await.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from rs3d.engine.configuration import Verify
from rs3d.engine.runtime import Runtime
from rs3d.stores.interfaces import BlobReader, CatalogSnapshot, PayloadPlace
from rs3d.types.buckets import Bucket
from rs3d.types.objects import Extent, Inline, ObjectVersion


class WarmReads:
    """Views one after the other: `begin`, any number of reads, `end`. No other view may be open in this thread."""

    __slots__ = ("_opened", "_runtime", "view")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._opened: AbstractContextManager[CatalogSnapshot] | None = None
        self.view: CatalogSnapshot | None = None

    def begin(self) -> CatalogSnapshot:
        """A new view, for what is asked until `end`.

        Raises:
            SlowDown
        """
        self._opened = self._runtime.catalog.snapshot()
        view = self.view = self._opened.__enter__()
        self._runtime.note_sequence(view.sequence)
        return view

    def end(self) -> None:
        """Let the view go; harmless without one."""
        opened, self._opened, self.view = self._opened, None, None
        if opened is not None:
            opened.__exit__(None, None, None)

    def open_verified(self, extent: Extent) -> BlobReader | None:
        """A reader of a blob whose stored bytes are the client's and were verified a moment ago, all of `extent`; None
        where a thread has to look first. The open file outlives whatever becomes of the object."""
        runtime = self._runtime
        if runtime.config.verify is not Verify.MEMO or not runtime.config.sends_files:
            return None
        reader = runtime.blobs.open_verified(extent.blob, extent.offset, extent.length)
        if reader is not None and not reader.info.recipe.is_plain:
            reader.close()
            return None
        return reader


def plain_payload(view: CatalogSnapshot, bucket: Bucket, key: str) -> tuple[ObjectVersion, PayloadPlace | None] | None:
    """The latest object of a key, and where its payload lies if that is inlined as the client sent it (neither
    compressed nor sealed); None for a missing key and a delete marker.

    Raises:
        RecordDamaged
    """
    found = view.latest_with_payload(bucket.bucket_id, key)
    if found is None:
        return None
    version, payload = found
    placement = version.placement
    if not isinstance(placement, Inline) or not placement.recipe.is_plain or version.mutable.wrapped_key:
        payload = None
    return version, payload
