"""Reading one blob: every byte is checked against the sidecar's block table before anybody may use it.

Two ways. `verify` checks a range in the page cache, which is then sent from there (sendfile); `read_into` copies bytes
out first and checks the copy, so that what is handed out is what was checked, whatever memory or disk do meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final

from rs3d.errors import BlobDamaged, FormatUnknown, RecordDamaged, Rs3dError
from rs3d.format.sidecar import BLOCK_BYTES, CRC_BYTES, ROWS_PER_PAGE, Table
from rs3d.kernels import mapped
from rs3d.kernels.crc import crc32c_check_blocks
from rs3d.kernels.directio import read_nowait
from rs3d.stores.blobfaults import blob_fault
from rs3d.stores.blobheads import SidecarEntry, damage_reason, read_page
from rs3d.stores.blobmemo import VerifiedSpans
from rs3d.stores.files import PAGE_BYTES, Files, read_readable, read_whole
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId

_PAGE_SPAN_BYTES: Final = ROWS_PER_PAGE[Table.BLOCKS] * BLOCK_BYTES
_READ_BYTES: Final = 1024 * 1024
"""Read and checked at a time, so that the CRC meets the bytes in the cache; divides the span of a page."""
VERIFIED_NOW_BYTES: Final = _READ_BYTES
"""So much at most is verified on the loop: 0.2 ms, where the way to a thread and back takes 1.1."""
_MAPPED_BYTES: Final = 2 * _READ_BYTES
"""Blobs up to this size, a MiB of a client's and what its layers add, are mapped when they are read again and again;
longer ones are read once, piece by piece."""
_MAPPED_FROM: Final = 2
"""The asking for bytes in memory at which the file is mapped: whoever is read twice by one reader is read again."""


class _Scratch(threading.local):
    """A buffer for each thread that reads single blocks."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(BLOCK_BYTES))


_scratch = _Scratch()


class LocalBlobReader:
    """`interfaces.BlobReader` on open descriptors, readable even when the blob is unlinked. One thread at a time."""

    __slots__ = (
        "_asked",
        "_data",
        "_entry",
        "_files",
        "_lately",
        "_mapped",
        "_mapping",
        "_maps",
        "_memo",
        "_meta",
        "_page",
        "_tell",
        "info",
        "origin",
    )

    def __init__(
        self,
        files: Files,
        entry: SidecarEntry,
        data: int,
        meta: int,
        memo: VerifiedSpans | None,
        tell: Callable[[BlobId, str], None] | None = None,
        lately: VerifiedSpans | None = None,
        *,
        maps: bool = True,
    ) -> None:
        """Both descriptors become the reader's; `meta` is -1 when the entry holds the whole block table.

        Args:
            memo: where verified spans are kept, or None to check each range each time (`verify = always`).
            tell: hears of damage before the error is raised.
            maps: check long ranges through a mapping; otherwise by reading them.
            lately: where spans are noted that were read; None = nowhere.
        """
        self.info: BlobInfo = entry.info
        self.origin: BlobOrigin = entry.origin
        self._files = files
        self._entry = entry
        self._data = data
        self._meta = meta
        self._memo = memo
        self._tell = tell
        self._maps = maps
        self._lately = lately
        self._page = (0, entry.first_rows)
        self._asked = 0
        """How often for bytes in memory, until it was mapped."""
        self._mapping: mapped.HeldMapping | None = None
        self._mapped: memoryview | None = None

    def fileno(self) -> int:
        return self._data

    def verify(self, offset: int, length: int) -> None:
        begin, end = self._blocks_around(offset, length)
        position = begin
        while position < end:
            piece_bytes = min(_PAGE_SPAN_BYTES - position % _PAGE_SPAN_BYTES, end - position)
            if self._maps:
                self._verify_mapped(position, piece_bytes)
            else:
                self._verify_by_reading(position, piece_bytes)
            position += piece_bytes
        if self._memo is not None:
            self._memo.add(self.info.blob, begin, end, self.info.stored_bytes)

    def is_verified(self, offset: int, length: int) -> bool:
        if self._memo is None or not self._memo.covers(self.info.blob, offset, offset + length):
            return False
        if not length:
            return True
        try:
            return mapped.resident_bytes(self._data, offset, length) == length
        except OSError:
            return False  # cannot be mapped now: `verify` will say why

    def verify_now(self, offset: int, length: int) -> bool:
        """`verify` of up to VERIFIED_NOW_BYTES that are in memory, without waiting; False where that cannot be done, or
        `verify` has something to say. For the loop."""
        begin, end = self._blocks_around(offset, length)
        if self._meta >= 0 or not self._maps or begin == end:
            return False
        try:
            if mapped.resident_bytes(self._data, begin, end - begin) < end - begin:
                return False
            self.verify(offset, length)
        except (OSError, Rs3dError):
            return False
        return True

    def read_now(self, offset: int, buffer: memoryview) -> bool:
        view = buffer.cast("B")
        if self._meta >= 0 or not len(view):
            return False
        self._blocks_around(offset, len(view))
        is_mapped = self.stored_now() is not None
        return self._fill(offset, view, self._copy_mapped if is_mapped else self._read_resident)

    def stored_now(self) -> memoryview | None:
        mapping = self._mapping
        if mapping is not None:
            return self._mapped if mapping.is_whole() else None
        self._asked += 1
        if self._asked == _MAPPED_FROM and self._maps and 0 < self.info.stored_bytes <= _MAPPED_BYTES:
            # From the next time on: making a mapping costs what reading the file does, and using it nothing.
            with contextlib.suppress(OSError):  # shorter than it should be, which reading finds; or too many are held
                self._mapping = mapped.HeldMapping(self._data, 0, self.info.stored_bytes)
                self._mapped = memoryview(self._mapping)
        return None

    def read_into(self, offset: int, buffer: memoryview) -> None:
        view = buffer.cast("B")
        self._blocks_around(offset, len(view))
        self._fill(offset, view, self._read_checked)
        if self._lately is not None:
            self._lately.add(self.info.blob, offset, offset + len(view), self.info.stored_bytes)

    def _fill(self, offset: int, view: memoryview, read: Callable[[int, memoryview], bool]) -> bool:
        """Fill `view` by a function that reads whole blocks of one page; False as soon as that says so."""
        while len(view):
            into_block = offset % BLOCK_BYTES
            to_end = self.info.stored_bytes - offset
            if into_block or len(view) < min(BLOCK_BYTES, to_end):
                count = min(BLOCK_BYTES - into_block, len(view))
                block_begin = offset - into_block
                block = _scratch.view[: min(BLOCK_BYTES, self.info.stored_bytes - block_begin)]
                if not read(block_begin, block):
                    return False
                view[:count] = block[into_block : into_block + count]
            else:
                count = min(len(view), _READ_BYTES - offset % _READ_BYTES)
                if count < to_end:
                    count -= count % BLOCK_BYTES
                if not read(offset, view[:count]):
                    return False
            view = view[count:]
            offset += count
        return True

    def read_tail(self, offset: int, restore: Callable[[bytearray], None], losable_bytes: int) -> bytearray:
        stored_bytes = self.info.stored_bytes
        if offset % BLOCK_BYTES or not 0 <= offset <= stored_bytes:
            raise ValueError(f"{offset} is no bound of a block in {stored_bytes} bytes")
        tail = bytearray(stored_bytes - offset)
        view = memoryview(tail)
        try:
            read_readable(self._files, self._data, view, offset, unit_bytes=PAGE_BYTES, losable_bytes=losable_bytes)
        except OSError as error:
            raise self._fault(error, f"reading {len(tail)} bytes at {offset}") from error
        finally:
            view.release()
        restore(tail)
        if len(tail) != stored_bytes - offset:
            raise ValueError(f"{len(tail)} bytes were made of {stored_bytes - offset}")
        view = memoryview(tail)
        for begin in range(offset, stored_bytes, _READ_BYTES):
            piece = view[begin - offset : begin - offset + _READ_BYTES]
            bad = crc32c_check_blocks(piece, BLOCK_BYTES, self._rows(begin, len(piece)))
            if bad >= 0:
                raise self._bad_block(begin // BLOCK_BYTES + bad)
        return tail

    def close(self) -> None:
        mapping, view = self._mapping, self._mapped
        self._mapping = self._mapped = None
        if view is not None:
            view.release()
        if mapping is not None:
            mapping.close()
        for descriptor in (self._data, self._meta):
            if descriptor >= 0:
                self._files.close(descriptor)
        self._data = self._meta = -1

    def _verify_mapped(self, offset: int, length: int) -> None:
        rows = self._rows(offset, length)
        try:
            bad = mapped.first_bad_block(self._data, offset, length, BLOCK_BYTES, rows)
        except mapped.MappingFault as fault:
            raise self._damaged(f"byte {fault.offset} of the data file is {fault.kind}") from fault
        except OSError as error:
            raise self._fault(error, f"mapping {length} bytes at {offset}") from error
        if bad >= 0:
            raise self._bad_block(offset // BLOCK_BYTES + bad)

    def _verify_by_reading(self, offset: int, length: int) -> None:
        for begin in range(offset, offset + length, BLOCK_BYTES):
            self._read_checked(begin, _scratch.view[: min(BLOCK_BYTES, offset + length - begin)])

    def _read_checked(self, offset: int, view: memoryview) -> bool:
        """Fill `view`, which begins and ends at block bounds (or the end) and lies in one page, and check it. True."""
        try:
            count = read_whole(self._files, self._data, view, offset)
        except OSError as error:
            raise self._fault(error, f"reading {len(view)} bytes at {offset}") from error
        if count < len(view):
            raise self._damaged(f"the data file ends at {offset + count}; {self.info.stored_bytes} bytes were written")
        bad = crc32c_check_blocks(view, BLOCK_BYTES, self._rows(offset, len(view)))
        if bad >= 0:
            raise self._bad_block(offset // BLOCK_BYTES + bad)
        return True

    def _read_resident(self, offset: int, view: memoryview) -> bool:
        """The same without waiting; False where the bytes are not in memory, or whatever `_read_checked` will find."""
        try:
            if read_nowait(self._data, view, offset) < len(view):
                return False
        except OSError:
            return False
        return crc32c_check_blocks(view, BLOCK_BYTES, self._rows(offset, len(view))) < 0

    def _copy_mapped(self, offset: int, view: memoryview) -> bool:
        """The same from the mapping: no system call, and the copy is checked as it is made."""
        if self._mapped is None:
            return False
        rows = self._rows(offset, len(view))
        try:
            return mapped.copy_checked(self._mapped, offset, view, BLOCK_BYTES, rows) < 0
        except mapped.MappingFault:
            return False

    def _rows(self, offset: int, length: int) -> memoryview:
        page = offset // _PAGE_SPAN_BYTES
        if self._page[0] != page:
            try:
                self._page = (page, read_page(self._files, self._meta, self._entry, page))
            except (RecordDamaged, FormatUnknown) as error:
                raise self._damaged(damage_reason(error)) from error
            except OSError as error:
                raise self._fault(error, "reading the sidecar") from error
        first = (offset - page * _PAGE_SPAN_BYTES) // BLOCK_BYTES
        count = -(-length // BLOCK_BYTES)
        return memoryview(self._page[1])[first * CRC_BYTES : (first + count) * CRC_BYTES]

    def _blocks_around(self, offset: int, length: int) -> tuple[int, int]:
        """The range widened to whole blocks.

        Raises:
            ValueError: it reaches outside the blob.
        """
        stored_bytes = self.info.stored_bytes
        if offset < 0 or length < 0 or offset + length > stored_bytes:
            raise ValueError(f"{length} bytes at {offset} lie outside a blob of {stored_bytes}")
        if length == 0:
            return offset, offset
        end = -(-(offset + length) // BLOCK_BYTES) * BLOCK_BYTES
        return offset - offset % BLOCK_BYTES, min(end, stored_bytes)

    def _bad_block(self, block: int) -> BlobDamaged:
        end = min((block + 1) * BLOCK_BYTES, self.info.stored_bytes)
        return self._damaged(f"CRC32C of block {block} (bytes {block * BLOCK_BYTES}-{end - 1}) differs")

    def _fault(self, error: OSError, doing: str) -> Rs3dError:
        fault = blob_fault(error, self.info.blob, doing)
        return self._damaged(fault.reason) if isinstance(fault, BlobDamaged) else fault

    def _damaged(self, reason: str) -> BlobDamaged:
        if self._tell is not None:
            self._tell(self.info.blob, reason)
        return BlobDamaged(blob=self.info.blob.text(), reason=reason)
