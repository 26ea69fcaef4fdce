"""Blobs in local directories: `blobs/<segment>/<number>.data` and its sidecar `.meta`. FORMAT.md section "Blob".

A blob is written once under an id that is never reused, then only read; nothing is renamed into place, because nothing
refers to a blob before its record is committed. All methods block and run in a thread; one store may be used by many.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from rs3d.clock import Clock, SystemClock
from rs3d.errors import BlobDamaged, FormatUnknown, RecordDamaged, Rs3dError, StoreDamaged
from rs3d.kernels import blobfiles, directio
from rs3d.kernels.bodyhash import BodyHash
from rs3d.stores.blobfaults import blob_fault
from rs3d.stores.blobheads import EntryCache, SidecarEntry, damage_reason, read_entry
from rs3d.stores.blobmemo import VerifiedSpans
from rs3d.stores.blobreader import VERIFIED_NOW_BYTES, LocalBlobReader
from rs3d.stores.blobtables import BlobTables
from rs3d.stores.blobwriter import LocalBlobWriter, Place
from rs3d.stores.files import SYSTEM_FILES, Files, open_in_memory
from rs3d.stores.interfaces import BlobPlace
from rs3d.stores.layout import (
    BLOBS,
    MAXIMUM_BLOBS_PER_SEGMENT,
    QUARANTINE,
    BlobFile,
    file_name,
    parse_file_name,
    parse_segment_name,
    segment_name,
)
from rs3d.stores.quarantine import Quarantine
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId

NEVER_PAST_CACHE: Final = 1 << 62
"""For `past_cache_bytes`: no piece is so long."""


class VerifyMode(Enum):
    """When the bytes of a blob are checked on their way to a reader."""

    MEMO = "memo"
    """In the page cache before they are sent, unless that was done within 60 s and the pages are still there."""
    ALWAYS = "always"
    """Each time, on the very bytes that are sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobStoreConfig:
    """Settings of local blobs (`[storage.blobs]`)."""

    verify: VerifyMode = VerifyMode.MEMO
    write_out_bytes: int = 8 * 1024 * 1024
    """Dirty pages of one blob beyond which the disk is set to work while the body still arrives."""
    reserve_from_bytes: int = 4 * 1024 * 1024
    """Bodies declared at least so long get their blocks reserved: fewer extents, and a full disk is met early."""
    past_cache_bytes: int = 128 * 1024
    """Pieces of a body at least so long go to the disk past the page cache (O_DIRECT): no copy, no pages taken from
    what is read, and the disk works at once. The first GET reads them from there."""
    maps: bool = True
    """Whether what is sent from the page cache is checked there through a mapping, or by reading it."""
    cached_sidecar_bytes: int = 8 * 1024 * 1024
    """Memory for decoded sidecars, some 1-5 KiB each, in each process."""
    memo_spans: int = 32_768
    """Verified spans of 1 MiB that are remembered in each process: at most 32 GiB of blobs, some 6 MiB of memory."""


class LocalBlobStore:
    """`interfaces.BlobStore` in the directories of one store."""

    def __init__(
        self,
        root: str,
        config: BlobStoreConfig | None = None,
        *,
        files: Files = SYSTEM_FILES,
        clock: Clock | None = None,
    ) -> None:
        """Open the directories blobs/ and quarantine/ of the store at `root` (see `layout.make_directories`).

        Raises:
            StoreDamaged: one of them is missing or not a directory.
        """
        self.config = config or BlobStoreConfig()
        self._files = files
        self._clock = clock or SystemClock()
        self._root = root
        self._memo = VerifiedSpans(self._clock, maximum_spans=self.config.memo_spans)
        self._lately = VerifiedSpans(self._clock, maximum_spans=self.config.memo_spans)
        """Read lately: not a word about their being right, which is found out at each reading."""
        self._opened_lately = VerifiedSpans(self._clock, maximum_spans=self.config.memo_spans)
        """Opened lately (each blob as one span): their inodes are in memory."""
        self._entries = EntryCache(self.config.cached_sidecar_bytes)
        self._names = threading.Lock()
        """Held while names of blobs' files go or are replaced, so that mending never brings a deleted blob back."""
        self.on_damage: Callable[[BlobId, str], None] | None = None
        """Told of every blob found damaged, also where parity then restores what was asked for; from any thread."""
        self._blobs = self._open_top(BLOBS)
        try:
            self.quarantined = Quarantine(self._open_top(QUARANTINE), files, self._clock)
        except StoreDamaged:
            files.close(self._blobs)
            raise

    def close(self) -> None:
        """Close the directories. Readers and writers in use are not affected."""
        self.quarantined.close()
        if self._blobs >= 0:
            self._files.close(self._blobs)
            self._blobs = -1

    # -- writing

    def make_segment(self, segment: SegmentId) -> None:
        """As the interface; a directory that exists is synced again, so that the call may be repeated."""
        try:
            with contextlib.suppress(FileExistsError):
                self._files.make_directory(segment_name(segment), directory=self._blobs)
            self._files.sync(self._blobs)
        except OSError as error:
            raise blob_fault(error, BlobId(segment, 0), "making its segment's directory") from error

    def create(
        self, blob: BlobId, *, size_hint_bytes: int | None = None, tables: BodyHash | None = None
    ) -> LocalBlobWriter:
        """As the interface.

        Raises:
            StoreFull, SlowDown, StoreReadOnly, BlobDamaged: nothing is left behind.
            ValueError: the number is beyond what a segment holds, or `tables` makes none.
        """
        if not 0 <= blob.number < MAXIMUM_BLOBS_PER_SEGMENT:
            raise ValueError(f"blob {blob.text()}: a segment holds {MAXIMUM_BLOBS_PER_SEGMENT} blobs")
        made = BlobTables(tables)
        hint = size_hint_bytes or 0
        directory, begins = -1, None
        if self._files is SYSTEM_FILES and 0 < hint < self.config.reserve_from_bytes:
            begins = Place(self._blobs, segment_name(blob.segment))
        else:
            try:
                directory = self._open_segment(blob.segment)
            except OSError as error:
                raise blob_fault(error, blob, "opening its segment's directory") from error
        return LocalBlobWriter(
            self._files,
            blob,
            directory,
            reserve_bytes=hint if hint >= self.config.reserve_from_bytes else 0,
            write_out_bytes=self.config.write_out_bytes,
            past_cache_bytes=self.config.past_cache_bytes,
            tables=made,
            begins=begins,
        )

    def place(self, blob: BlobId, length: int) -> BlobPlace | None:
        if self._files is not SYSTEM_FILES or length >= self.config.reserve_from_bytes:
            return None
        is_direct = length >= self.config.past_cache_bytes and directio.variant() != "buffered"
        return self._blobs, segment_name(blob.segment), blobfiles.ALIGN_BYTES if is_direct else 0

    # -- reading

    def open(self, blob: BlobId) -> LocalBlobReader:
        reader = self._open(blob)
        self._opened_lately.add(blob, 0, 1, 1)
        return reader

    def _open(self, blob: BlobId, data: int = -1) -> LocalBlobReader:
        """With its data file, where that is open already."""
        entry = self._entries.get(blob)
        meta = -1
        try:
            if data < 0:
                data = self._open_file(blob, BlobFile.DATA)
            if entry is None or not entry.is_whole:
                meta = self._open_file(blob, BlobFile.META)
            if entry is None:
                entry = read_entry(self._files, meta, blob)
                if entry.damage:
                    self._tell(blob, entry.damage)
                self._entries.put(entry)
            length = self._files.status(data).st_size
            if length != entry.info.stored_bytes:
                reason = f"the data file has {length} bytes; {entry.info.stored_bytes} were written"
                raise BlobDamaged(blob=blob.text(), reason=reason)
        except (OSError, RecordDamaged, FormatUnknown, BlobDamaged) as error:
            self._close_both(data, meta)
            fault: Rs3dError
            if isinstance(error, OSError):
                fault = blob_fault(error, blob, "opening it")
            elif isinstance(error, BlobDamaged):
                fault = error
            else:
                fault = BlobDamaged(blob=blob.text(), reason=damage_reason(error))
            if isinstance(fault, BlobDamaged):
                self._tell(blob, fault.reason)
            raise fault from error
        if meta >= 0 and entry.is_whole:
            self._files.close(meta)
            meta = -1
        memo = self._memo if self.config.verify is VerifyMode.MEMO else None
        return LocalBlobReader(self._files, entry, data, meta, memo, self._tell, self._lately, maps=self.config.maps)

    def open_verified(self, blob: BlobId, offset: int, length: int) -> LocalBlobReader | None:
        """As the interface. Any failure is left to `open`, which says what it is."""
        entry = self._entries.get(blob)
        if entry is None or not entry.is_whole or self.config.verify is not VerifyMode.MEMO:
            return None
        if not self._memo.covers(blob, offset, offset + length):
            return self._open_and_verify_now(blob, offset, length) if entry.info.recipe.is_plain else None
        try:
            reader = self._open(blob)
        except BlobDamaged:
            return None
        if reader.is_verified(offset, length):
            return reader
        reader.close()
        return None

    def _open_and_verify_now(self, blob: BlobId, offset: int, length: int) -> LocalBlobReader | None:
        if length > VERIFIED_NOW_BYTES or self._files is not SYSTEM_FILES:
            return None
        try:
            reader = self._open(blob, open_in_memory(_path_of(blob, BlobFile.DATA), self._blobs))
        except (OSError, BlobDamaged):
            return None
        if reader.verify_now(offset, length):
            return reader
        reader.close()
        return None

    def open_and_read_now(self, blob: BlobId, offset: int, buffer: memoryview) -> LocalBlobReader | None:
        """As the interface. Any failure is left to `open`, which says what it is."""
        entry = self._entries.get(blob)
        if entry is None or not entry.is_whole or not self._lately.covers(blob, offset, offset + len(buffer)):
            return None
        try:
            reader = self._open(blob)
        except Rs3dError:
            return None
        if reader.read_now(offset, buffer):
            return reader
        reader.close()
        return None

    def open_now(self, blob: BlobId) -> LocalBlobReader | None:
        """As the interface. Any failure is left to `open`, which says what it is."""
        entry = self._entries.get(blob)
        if entry is None or not entry.is_whole or not self._opened_lately.covers(blob, 0, 1):
            return None
        try:
            return self._open(blob)
        except Rs3dError:
            return None

    def remembered(self, blob: BlobId) -> BlobInfo | None:
        entry = self._entries.get(blob)
        return None if entry is None else entry.info

    def origin(self, blob: BlobId) -> BlobOrigin:
        """Where the blob was first put, from its sidecar alone (its data may be gone).

        Raises:
            BlobDamaged: the sidecar is missing or fails its checks.
        """
        return self.sidecar_entry(blob).origin

    def sidecar_entry(self, blob: BlobId) -> SidecarEntry:
        """The checked front of a blob's sidecar, without opening its data. Raises as `origin`."""
        entry = self._entries.get(blob)
        if entry is not None:
            return entry
        meta = -1
        try:
            meta = self._open_file(blob, BlobFile.META)
            entry = read_entry(self._files, meta, blob)
        except OSError as error:
            raise blob_fault(error, blob, "reading its sidecar") from error
        except (RecordDamaged, FormatUnknown) as error:
            raise BlobDamaged(blob=blob.text(), reason=damage_reason(error)) from error
        finally:
            self._close_both(meta, -1)
        self._entries.put(entry)
        return entry

    # -- removing

    def delete(self, blobs: list[BlobId]) -> None:
        """As the interface: each `.data` before its `.meta`, one sync for each directory.

        Raises:
            StoreReadOnly, BlobDamaged: a file could not be unlinked, or a directory not synced: nothing may be taken as
                deleted, and the call may be repeated.
        """
        by_segment: dict[SegmentId, list[BlobId]] = {}
        for blob in blobs:
            by_segment.setdefault(blob.segment, []).append(blob)
        for segment, members in by_segment.items():
            self._delete_in_segment(segment, members)

    def list_segments(self) -> list[SegmentId]:
        """Every segment that has a directory, in ascending order."""
        return sorted(
            found for name in self._files.names(self._blobs) if (found := parse_segment_name(name)) is not None
        )

    def list_segment(self, segment: SegmentId) -> list[BlobId]:
        """As the interface, in ascending order; none for a segment without a directory."""
        return sorted({blob for blob, _ in self._files_of(segment)})

    def remove_segment(self, segment: SegmentId) -> bool:
        """Remove the directory of a closed segment and sync blobs/; False when something is in it."""
        try:
            self._files.remove_directory(segment_name(segment), directory=self._blobs)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        self._files.sync(self._blobs)
        return True

    def quarantine(self, blob: BlobId, reason: str) -> None:
        """As the interface: the note first, then the files, then both directories are synced; may be repeated."""
        try:
            self._set_aside(blob, "moving it to", self.quarantined.take, reason)
        finally:
            self._entries.drop(blob)

    # -- mending

    def replace(self, blob: BlobId, kind: BlobFile, staged: str, staging: int) -> bool:
        """Put a file of the open directory `staging`, whole and synced, in the place of one of a blob's files, by one
        rename, and sync both directories. The caller has proven that its bytes are those that were first written.

        Returns:
            False when the blob was deleted meanwhile; the file stays in `staging`.

        Raises:
            Rs3dError: as `blob_fault`. The old file or the new one has the name, whole.
        """
        with self._names:
            try:
                directory = self._open_segment(blob.segment)
            except FileNotFoundError:
                return False
            except OSError as error:
                raise blob_fault(error, blob, "opening its segment's directory") from error
            try:
                for each in BlobFile:
                    self._files.status_of(file_name(blob, each), directory=directory)
                target = file_name(blob, kind)
                self._files.rename(staged, target, source_directory=staging, target_directory=directory)
                self._files.sync(directory)
                self._files.sync(staging)
            except FileNotFoundError:
                return False
            except OSError as error:
                raise blob_fault(error, blob, "replacing a damaged file") from error
            finally:
                self._files.close(directory)
        self._entries.drop(blob)
        return True

    def keep_damaged(self, blob: BlobId, reason: str) -> None:
        """Give a damaged blob's files a second name in quarantine/, with a note, so that what is left of it outlives
        the object. The blob itself stays where it is: reading it is an error, not a lie. May be repeated.

        Raises:
            Rs3dError: as `blob_fault`.
        """
        with self._names:
            self._set_aside(blob, "keeping it in", self.quarantined.keep, reason)

    # -- parts of these

    def _set_aside(
        self, blob: BlobId, doing: str, set_aside: Callable[[BlobId, int, list[BlobFile], str], None], reason: str
    ) -> None:
        """Let the quarantine take the files of a blob, or names of them; nothing for a blob without files."""
        try:
            directory = self._open_segment(blob.segment)
        except FileNotFoundError:
            return
        except OSError as error:
            raise blob_fault(error, blob, "opening its segment's directory") from error
        try:
            kinds = [kind for found, kind in self._files_of(blob.segment) if found == blob]
            if kinds:
                set_aside(blob, directory, kinds, reason)
        except OSError as error:
            raise blob_fault(error, blob, f"{doing} quarantine") from error
        finally:
            self._files.close(directory)

    def _tell(self, blob: BlobId, reason: str) -> None:
        if self.on_damage is not None:
            self.on_damage(blob, reason)

    def _open_top(self, name: str) -> int:
        try:
            return self._files.open_directory(os.path.join(self._root, name))
        except OSError as error:
            reason = f"{name}/: {error.strerror}"
            raise StoreDamaged(root=self._root, reason=reason, command="rs3d check --repair") from error

    def _open_segment(self, segment: SegmentId) -> int:
        return self._files.open_directory(segment_name(segment), directory=self._blobs)

    def _open_file(self, blob: BlobId, kind: BlobFile) -> int:
        return self._files.open(_path_of(blob, kind), directory=self._blobs)

    def _close_both(self, first: int, second: int) -> None:
        for descriptor in (first, second):
            if descriptor >= 0:
                self._files.close(descriptor)

    def _files_of(self, segment: SegmentId) -> Iterable[tuple[BlobId, BlobFile]]:
        try:
            directory = self._open_segment(segment)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise blob_fault(error, BlobId(segment, 0), "listing its segment") from error
        try:
            names = self._files.names(directory)
        finally:
            self._files.close(directory)
        return [found for name in names if (found := parse_file_name(segment, name)) is not None]

    def _delete_in_segment(self, segment: SegmentId, blobs: list[BlobId]) -> None:
        with self._names:
            self._delete_named(segment, blobs)

    def _delete_named(self, segment: SegmentId, blobs: list[BlobId]) -> None:
        try:
            directory = self._open_segment(segment)
        except FileNotFoundError:
            return
        except OSError as error:
            raise blob_fault(error, blobs[0], "opening its segment's directory") from error
        try:
            for blob in blobs:
                self._entries.drop(blob)
                for kind in (BlobFile.DATA, BlobFile.META):
                    with contextlib.suppress(FileNotFoundError):
                        self._files.unlink(file_name(blob, kind), directory=directory)
            self._files.sync(directory)
        except OSError as error:
            raise blob_fault(error, blobs[0], "deleting blobs of its segment") from error
        finally:
            self._files.close(directory)


def _path_of(blob: BlobId, kind: BlobFile) -> str:
    return f"{segment_name(blob.segment)}/{file_name(blob, kind)}"
