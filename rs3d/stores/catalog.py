"""The read side of the catalog in one process: `interfaces.Catalog` on LMDB and the log.

Views are cheap: LMDB read transactions are renewed by the environment, not made anew. The committer alone opens the
environment for writing; in the process that has it open as a thread of the library, readers share the same
environment (one environment a process).
"""

from __future__ import annotations

import threading

import lmdb

from rs3d.errors import SlowDown
from rs3d.format.rows import TAIL, Place
from rs3d.kernels.crc import is_sound
from rs3d.stores.catalogsnapshot import Snapshot
from rs3d.stores.catalogtables import Tables, unfollowable
from rs3d.stores.catalogwalk import CatalogPages
from rs3d.stores.catalogwriter import EMPTY_TAIL, TAIL_KEY
from rs3d.stores.logreader import LogReader
from rs3d.types.buckets import Bucket
from rs3d.types.objects import ObjectVersion

KNOWN_BUCKETS_LIMIT = 4096
KNOWN_VERSIONS_LIMIT = 4096
"""Some 1.5 KiB each, 4 KiB with the most user metadata that S3 allows."""


class LocalCatalog:
    """Snapshots of the catalog. May be used by several threads, each with one view at a time."""

    def __init__(self, tables: Tables, log: LogReader) -> None:
        self.tables = tables
        self.log = log
        self.known_buckets: dict[str, tuple[bytes, Bucket]] = {}
        """Decoded bucket records by name, valid only for exactly these stored bytes: so never stale."""
        self.known_versions: dict[bytes, tuple[bytes, ObjectVersion, Place]] = {}
        """The newest versions of keys by the keys of their rows, valid only for exactly these stored rows: a row holds
        the sequence and the places of all that a version is made of, so what is remembered is never stale."""
        self.in_memory = log.in_memory
        self.pages = CatalogPages(tables.environment, log.in_memory)
        self._idle: list[Snapshot] = []
        self._busy: dict[int, Snapshot] = {}
        self._closed = False
        self._begin = tables.environment.begin
        self._buckets, self._current, self._state = tables.buckets.handle, tables.current.handle, tables.state

    def snapshot(self) -> Snapshot:
        """Open a view, for `with`. It never crosses an await and lives at most 50 ms.

        Raises:
            RuntimeError: this thread has one open, or the catalog is closed.
            SlowDown: by `with`: all of the catalog's reader slots are in use.
        """
        if threading.get_ident() in self._busy or self._closed:
            raise RuntimeError("the catalog is closed" if self._closed else "a snapshot is open in this thread already")
        try:
            return self._idle.pop()
        except IndexError:
            return Snapshot(self, self.tables, self.log)

    def rows_are(self, bucket_name: bytes, bucket_row: bytes, row_key: bytes, row: bytes) -> bool:
        """See `interfaces.Catalog`: two lookups and no view of Python's, which would cost as much as they."""
        if self._closed:
            raise RuntimeError("the catalog is closed")
        try:
            view = self._begin()
        except lmdb.ReadersFullError as error:
            raise SlowDown(what="the catalog's reader slots") from error
        try:
            # By place: the binding takes twice as long to sort out a name.
            stored: bytes | None = view.get(row_key, None, self._current)
            return stored == row and view.get(bucket_name, None, self._buckets) == bucket_row
        except lmdb.Error as error:
            raise unfollowable(error) from error
        finally:
            view.abort()

    def row_of_bucket(self, name: bytes) -> tuple[bytes | None, int, int]:
        """See `interfaces.Catalog`."""
        if self._closed:
            raise RuntimeError("the catalog is closed")
        try:
            view = self._begin()
        except lmdb.ReadersFullError as error:
            raise SlowDown(what="the catalog's reader slots") from error
        try:
            stored: bytes | None = view.get(name, None, self._buckets)
            tail: bytes | None = view.get(TAIL_KEY, None, self._state.handle)
        except lmdb.Error as error:
            raise unfollowable(error) from error
        finally:
            view.abort()
        if tail is None:
            return stored, EMPTY_TAIL.identity_generation, EMPTY_TAIL.sequence
        if not is_sound(tail, TAIL_KEY, self._state.seed):
            raise self._state.damaged(TAIL_KEY)
        _, _, _, sequence, identity_generation, _, _ = TAIL.unpack_from(tail)
        return stored, identity_generation, sequence

    def begun(self, view: Snapshot) -> None:
        """Called by the view when its `with` has begun."""
        self._busy[threading.get_ident()] = view

    def give_back(self, view: Snapshot) -> None:
        """Called by the view when its `with` ends."""
        self._busy.pop(threading.get_ident(), None)
        self._idle.append(view)

    def remember_bucket(self, name: str, sealed: bytes, bucket: Bucket) -> None:
        """Keep a decoded bucket for as long as its stored bytes stay the same."""
        if len(self.known_buckets) >= KNOWN_BUCKETS_LIMIT:
            self.known_buckets.clear()
        self.known_buckets[name] = (sealed, bucket)

    def remember_version(self, row_key: bytes, sealed: bytes, version: ObjectVersion, place: Place) -> None:
        """Keep the version that a row leads to, and the place of its record, while the stored row stays the same."""
        if len(self.known_versions) >= KNOWN_VERSIONS_LIMIT:
            self.known_versions.clear()
        self.known_versions[row_key] = (sealed, version, place)

    def check_readers(self) -> int:
        """Free the reader slots of processes that died. Returns their number."""
        return int(self.tables.environment.reader_check())

    def close(self) -> None:
        """No more views; close the log's descriptors. The environment is its opener's."""
        self._closed = True
        self.pages.close()
        self.log.close()
