"""The store's blobs in memory, watched: counts open readers, fails writes on demand, lists everything it holds."""

from __future__ import annotations

import os
from collections.abc import Callable

from rs3d.kernels.bodyhash import BodyHash
from rs3d.stores.interfaces import Append, BlobWriter
from rs3d.stores.memoryblobs import MemoryBlobReader, MemoryBlobStore
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.recipe import Recipe


class WatchedBlobWriter:
    """Another writer, with a call before each write."""

    def __init__(self, writer: BlobWriter, before_write: Callable[[], None]) -> None:
        self.blob = writer.blob
        self._writer = writer
        self._before_write = before_write

    def write(self, stored: memoryview) -> None:
        self._before_write()
        self._writer.write(stored)

    def append_by(self, append: Append) -> bool:
        return self._writer.append_by(append)

    def finish(self, *, client_bytes: int, recipe: Recipe, md5: bytes, origin: BlobOrigin) -> BlobInfo:
        return self._writer.finish(client_bytes=client_bytes, recipe=recipe, md5=md5, origin=origin)

    def discard(self) -> None:
        self._writer.discard()


class WatchedBlobStore:
    """A `MemoryBlobStore` under observation."""

    def __init__(self) -> None:
        self._store = MemoryBlobStore()
        self.readers: list[MemoryBlobReader] = []
        self.segments: list[SegmentId] = []
        self.most_open = 0
        self.fail_write_number = 0
        """Raise OSError at the n-th write from now on; 0 = never."""

    def make_segment(self, segment: SegmentId) -> None:
        self.segments.append(segment)
        self._store.make_segment(segment)

    def create(
        self, blob: BlobId, *, size_hint_bytes: int | None = None, tables: BodyHash | None = None
    ) -> WatchedBlobWriter:
        writer = self._store.create(blob, size_hint_bytes=size_hint_bytes, tables=tables)
        return WatchedBlobWriter(writer, self._count_write)

    def _count_write(self) -> None:
        if self.fail_write_number:
            self.fail_write_number -= 1
            if not self.fail_write_number:
                raise OSError(5, "this write fails")

    def place(self, blob: BlobId, length: int) -> None:
        """None has one."""

    def open(self, blob: BlobId) -> MemoryBlobReader:
        reader = self._store.open(blob)
        self.readers.append(reader)
        self.most_open = max(self.most_open, self.open_count)
        return reader

    def open_verified(self, blob: BlobId, offset: int, length: int) -> MemoryBlobReader | None:
        return self._store.open_verified(blob, offset, length)

    def open_and_read_now(self, blob: BlobId, offset: int, buffer: memoryview) -> MemoryBlobReader | None:
        return self._store.open_and_read_now(blob, offset, buffer)

    def open_now(self, blob: BlobId) -> MemoryBlobReader | None:
        return self._store.open_now(blob)

    def remembered(self, blob: BlobId) -> BlobInfo | None:
        return self._store.remembered(blob)

    def delete(self, blobs: list[BlobId]) -> None:
        self._store.delete(blobs)

    def list_segment(self, segment: SegmentId) -> list[BlobId]:
        return self._store.list_segment(segment)

    def quarantine(self, blob: BlobId, reason: str) -> None:
        self._store.quarantine(blob, reason)

    def close(self) -> None:
        self._store.close()

    @property
    def open_count(self) -> int:
        return sum(1 for reader in self.readers if reader.fileno() >= 0)

    @property
    def held(self) -> list[BlobId]:
        """Every blob of which anything exists."""
        return [blob for segment in self.segments for blob in self.list_segment(segment)]

    def damage(self, blob: BlobId, offset: int) -> None:
        """Turn one byte over."""
        descriptor = self._store.data_descriptor(blob)
        byte = os.pread(descriptor, 1, offset)[0]
        os.pwrite(descriptor, bytes((byte ^ 0xFF,)), offset)
