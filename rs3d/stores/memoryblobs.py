"""Blobs in memory: a real body of `interfaces.BlobStore` for tests and throw-away stores, forgetting all at exit.

It keeps what a disk would keep, sidecars as bytes included, and checks blocks as the local store does; only durability
is missing. Data lies in memfds, because `BlobReader.fileno` promises a descriptor.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from rs3d.errors import BlobDamaged
from rs3d.format.merkletree import merkle_root
from rs3d.format.sidecar import BLOCK_BYTES, CRC_BYTES, decode_sidecar, encode_sidecar
from rs3d.kernels.bodyhash import BodyHash
from rs3d.kernels.crc import crc32c_check_blocks
from rs3d.stores.blobtables import BlobTables
from rs3d.stores.interfaces import Append
from rs3d.stores.layout import MAXIMUM_BLOBS_PER_SEGMENT
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.recipe import Recipe


@dataclass(slots=True)
class _Blob:
    data: int
    """memfd, owned."""
    sidecar: bytes = b""


class MemoryBlobStore:
    """`interfaces.BlobStore` without a disk. For all threads of a process."""

    def __init__(self) -> None:
        self._segments: dict[SegmentId, dict[int, _Blob]] = {}
        self.quarantined: dict[BlobId, str] = {}
        """Blobs that were moved away, with the reason."""
        self._lock = threading.Lock()

    def make_segment(self, segment: SegmentId) -> None:
        with self._lock:
            self._segments.setdefault(segment, {})

    def create(
        self, blob: BlobId, *, size_hint_bytes: int | None = None, tables: BodyHash | None = None
    ) -> MemoryBlobWriter:
        if not 0 <= blob.number < MAXIMUM_BLOBS_PER_SEGMENT:
            raise ValueError(f"blob {blob.text()}: a segment holds {MAXIMUM_BLOBS_PER_SEGMENT} blobs")
        its_tables = BlobTables(tables)
        with self._lock:
            members = self._segments.get(blob.segment)
            if members is None or blob.number in members:
                reason = "its segment was never made" if members is None else "it exists already"
                raise BlobDamaged(blob=blob.text(), reason=reason)
            made = members[blob.number] = _Blob(os.memfd_create(f"blob-{blob.number}", os.MFD_CLOEXEC))
        return MemoryBlobWriter(self, blob, made, its_tables)

    def place(self, blob: BlobId, length: int) -> None:
        """As the interface: none has a place on a disk."""

    def open(self, blob: BlobId) -> MemoryBlobReader:
        with self._lock:
            found = self._segments.get(blob.segment, {}).get(blob.number)
            if found is None or not found.sidecar:
                raise BlobDamaged(blob=blob.text(), reason="it is missing")
            return MemoryBlobReader(os.dup(found.data), found.sidecar)

    def open_verified(self, blob: BlobId, offset: int, length: int) -> MemoryBlobReader | None:
        """Nothing is remembered here: each range is checked each time."""
        return None

    def open_and_read_now(self, blob: BlobId, offset: int, buffer: memoryview) -> MemoryBlobReader | None:
        return None

    def open_now(self, blob: BlobId) -> MemoryBlobReader | None:
        return None

    def remembered(self, blob: BlobId) -> BlobInfo | None:
        return None

    def delete(self, blobs: list[BlobId]) -> None:
        with self._lock:
            for blob in blobs:
                found = self._segments.get(blob.segment, {}).pop(blob.number, None)
                if found is not None:
                    os.close(found.data)

    def list_segment(self, segment: SegmentId) -> list[BlobId]:
        with self._lock:
            return sorted(BlobId(segment, number) for number in self._segments.get(segment, {}))

    def quarantine(self, blob: BlobId, reason: str) -> None:
        if blob in self.list_segment(blob.segment):
            self.quarantined[blob] = reason
            self.delete([blob])

    def data_descriptor(self, blob: BlobId) -> int:
        """The stored bytes themselves, for tests that damage them; owned by the store."""
        return self._segments[blob.segment][blob.number].data

    def close(self) -> None:
        """Forget everything."""
        self.delete([blob for segment in list(self._segments) for blob in self.list_segment(segment)])


class MemoryBlobWriter:
    """`interfaces.BlobWriter`."""

    def __init__(self, store: MemoryBlobStore, blob: BlobId, made: _Blob, tables: BlobTables) -> None:
        self.blob = blob
        self._store = store
        self._made = made
        self._length = 0
        self._tables = tables

    def write(self, stored: memoryview) -> None:
        view = stored.cast("B")
        self._tables.update(view)
        while len(view):
            count = os.pwrite(self._made.data, view, self._length)
            view = view[count:]
            self._length += count

    def append_by(self, append: Append) -> bool:
        return False

    def finish(self, *, client_bytes: int, recipe: Recipe, md5: bytes, origin: BlobOrigin) -> BlobInfo:
        leaves, blocks = self._tables.rows(self._length)
        info = BlobInfo(
            blob=self.blob,
            stored_bytes=self._length,
            client_bytes=client_bytes,
            recipe=recipe,
            block_bytes=BLOCK_BYTES,
            merkle_root=merkle_root(leaves, self._length),
            md5=md5,
        )
        self._made.sidecar = encode_sidecar(info, origin, blocks, leaves)
        return info

    def discard(self) -> None:
        self._store.delete([self.blob])


class MemoryBlobReader:
    """`interfaces.BlobReader`."""

    def __init__(self, data: int, sidecar: bytes) -> None:
        decoded = decode_sidecar(sidecar, what="sidecar in memory")
        self.info: BlobInfo = decoded.info
        self._rows = decoded.block_crcs
        self._data = data

    def fileno(self) -> int:
        return self._data

    def verify(self, offset: int, length: int) -> None:
        self._checked(offset, length)

    def is_verified(self, offset: int, length: int) -> bool:
        return False

    def read_now(self, offset: int, buffer: memoryview) -> bool:
        return False

    def stored_now(self) -> memoryview | None:
        return None

    def read_into(self, offset: int, buffer: memoryview) -> None:
        view = buffer.cast("B")
        begin, checked = self._checked(offset, len(view))
        view[:] = checked[offset - begin : offset - begin + len(view)]

    def read_tail(self, offset: int, restore: Callable[[bytearray], None], losable_bytes: int) -> bytearray:
        stored_bytes = self.info.stored_bytes
        if offset % BLOCK_BYTES or not 0 <= offset <= stored_bytes:
            raise ValueError(f"{offset} is no bound of a block in {stored_bytes} bytes")
        tail = bytearray(os.pread(self._data, stored_bytes - offset, offset).ljust(stored_bytes - offset, b"\0"))
        restore(tail)
        first = offset // BLOCK_BYTES
        bad = crc32c_check_blocks(tail, BLOCK_BYTES, self._rows[first * CRC_BYTES :]) if tail else -1
        if bad >= 0:
            raise BlobDamaged(blob=self.info.blob.text(), reason=f"CRC32C of block {first + bad} differs")
        return tail

    def close(self) -> None:
        if self._data >= 0:
            os.close(self._data)
            self._data = -1

    def _checked(self, offset: int, length: int) -> tuple[int, bytes]:
        stored_bytes = self.info.stored_bytes
        if offset < 0 or length < 0 or offset + length > stored_bytes:
            raise ValueError(f"{length} bytes at {offset} lie outside a blob of {stored_bytes}")
        first, last = offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES)
        begin, end = first * BLOCK_BYTES, min(last * BLOCK_BYTES, stored_bytes)
        data = os.pread(self._data, max(end - begin, 0), begin)
        if len(data) < end - begin:
            raise BlobDamaged(blob=self.info.blob.text(), reason=f"its data ends at {begin + len(data)}")
        bad = crc32c_check_blocks(data, BLOCK_BYTES, self._rows[first * CRC_BYTES : last * CRC_BYTES])
        if bad >= 0:
            raise BlobDamaged(blob=self.info.blob.text(), reason=f"CRC32C of block {first + bad} differs")
        return begin, data
