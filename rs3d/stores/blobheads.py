"""Sidecars as readers need them: read once, checked, kept decoded in a bounded cache (blobs never change)."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from rs3d.errors import FormatUnknown, RecordDamaged
from rs3d.format.sidecar import HEAD, SidecarHead, Table, decode_body, decode_head, decode_page
from rs3d.stores.files import Files, read_whole
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId

FIRST_READ_BYTES = 8 * 1024
"""One read takes head, body and first page of the block table in all common cases (56 + some 500 + 4,100 bytes)."""
_FIXED_COST_BYTES = 1024


@dataclass(frozen=True, slots=True)
class SidecarEntry:
    """A sidecar's head, body and first page of block rows, all checked."""

    head: SidecarHead
    info: BlobInfo
    origin: BlobOrigin
    first_rows: bytes
    """Rows of page 0: all there are for blobs of up to 64 MiB."""
    damage: str = ""
    """What is wrong with the first of two copies, when this was read from the second."""

    @property
    def is_whole(self) -> bool:
        """Whether `first_rows` is the whole block table."""
        return self.head.page_count(Table.BLOCKS) <= 1

    @property
    def cost_bytes(self) -> int:
        return _FIXED_COST_BYTES + len(self.first_rows)


def read_entry(files: Files, descriptor: int, blob: BlobId) -> SidecarEntry:
    """Read and check what stands at the front of an open sidecar, and that it is the sidecar of `blob`. Where the
    file holds two copies and the first is damaged, the second counts.

    Raises:
        RecordDamaged, FormatUnknown: as the decoders; also when the file's length or blob id is another.
        OSError: as read.

    Blocking: one read, two for a sidecar with large headers.
    """
    try:
        return _read_copy(files, descriptor, blob, 0)
    except RecordDamaged as damage:
        length = files.status(descriptor).st_size
        if length % 2 == 0 and length:
            with contextlib.suppress(RecordDamaged, FormatUnknown):
                return replace(_read_copy(files, descriptor, blob, length // 2), damage=damage.reason)
        raise


def _read_copy(files: Files, descriptor: int, blob: BlobId, base: int) -> SidecarEntry:
    what = f"sidecar of blob {blob.text()}"
    buffer = memoryview(bytearray(FIRST_READ_BYTES))
    view = buffer[: read_whole(files, descriptor, buffer, base)]
    head = decode_head(view, what=what)
    if head.blob != blob:
        raise RecordDamaged(what=what, reason=f"it names blob {head.blob.text()}")
    length = files.status(descriptor).st_size
    if length != head.sidecar_bytes or (base and base != head.copy_bytes):
        raise RecordDamaged(what=what, reason=f"{length} bytes; its head says {head.sidecar_bytes}")
    span = head.page_span(Table.BLOCKS, 0) if head.stored_bytes else None
    wanted_bytes = span.offset + span.length if span else HEAD.size + head.body_bytes
    if wanted_bytes > len(view):
        buffer = memoryview(bytearray(wanted_bytes))
        view = buffer[: read_whole(files, descriptor, buffer, base)]
    info, origin = decode_body(head, view[HEAD.size : HEAD.size + head.body_bytes], what=what)
    rows = decode_page(head, span, view[span.offset : span.offset + span.length], what=what) if span else b""
    return SidecarEntry(head, info, origin, rows)


def read_page(files: Files, descriptor: int, entry: SidecarEntry, page: int) -> bytes:
    """Rows of page `page` of the block table, of the second copy where the first is damaged. Raises and blocks as
    `read_entry`."""
    if page == 0:
        return entry.first_rows
    try:
        return _read_page(files, descriptor, entry, page, 0)
    except RecordDamaged:
        if entry.head.copies == 1:
            raise
        return _read_page(files, descriptor, entry, page, entry.head.copy_bytes)


def _read_page(files: Files, descriptor: int, entry: SidecarEntry, page: int, base: int) -> bytes:
    span = entry.head.page_span(Table.BLOCKS, page)
    buffer = memoryview(bytearray(span.length))
    view = buffer[: read_whole(files, descriptor, buffer, base + span.offset)]
    return decode_page(entry.head, span, view, what=f"sidecar of blob {entry.info.blob.text()}")


def damage_reason(error: RecordDamaged | FormatUnknown) -> str:
    """One clause for a BlobDamaged."""
    return f"{error.what}: {error.reason}"


class EntryCache:
    """The least recently used entries, bounded by bytes. For all threads of a process."""

    def __init__(self, maximum_bytes: int) -> None:
        self._maximum_bytes = maximum_bytes
        self._bytes = 0
        self._entries: OrderedDict[BlobId, SidecarEntry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, blob: BlobId) -> SidecarEntry | None:
        with self._lock:
            entry = self._entries.get(blob)
            if entry is not None:
                self._entries.move_to_end(blob)
            return entry

    def put(self, entry: SidecarEntry) -> None:
        with self._lock:
            old = self._entries.pop(entry.info.blob, None)
            self._bytes += entry.cost_bytes - (old.cost_bytes if old else 0)
            self._entries[entry.info.blob] = entry
            while self._bytes > self._maximum_bytes and self._entries:
                _, dropped = self._entries.popitem(last=False)
                self._bytes -= dropped.cost_bytes

    def drop(self, blob: BlobId) -> None:
        with self._lock:
            old = self._entries.pop(blob, None)
            if old is not None:
                self._bytes -= old.cost_bytes

    def __len__(self) -> int:
        return len(self._entries)
