"""quarantine/: damaged or unexplained blobs with a note each; nothing in it is ever removed by rs3d. STORE.md rule 7.

A blob comes here with both its files, as far as there are any. Its sidecar tells bucket, key, upload, part and time of
its first put, so that a person can decide what it was; `open` reads it, checked as any other blob. Methods block.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rs3d.clock import Clock
from rs3d.errors import BlobDamaged, FormatUnknown, RecordDamaged
from rs3d.format.quarantinenote import NOTE_LIMIT_BYTES, QuarantineNote, decode_note, encode_note
from rs3d.stores.blobfaults import blob_fault
from rs3d.stores.blobheads import damage_reason, read_entry
from rs3d.stores.blobreader import LocalBlobReader
from rs3d.stores.files import Files, read_whole, write_whole
from rs3d.stores.layout import NOTE, BlobFile, file_name, quarantine_name
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId

_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{8})\.(?:data|meta|note)\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedBlob:
    """One blob in quarantine, as far as it can be told."""

    blob: BlobId
    kinds: frozenset[BlobFile]
    """The files that are there."""
    note: QuarantineNote | None
    info: BlobInfo | None
    """None when the sidecar is missing or damaged."""
    origin: BlobOrigin | None


class Quarantine:
    """The open directory quarantine/ of a store."""

    def __init__(self, directory: int, files: Files, clock: Clock) -> None:
        """The descriptor becomes this object's."""
        self._directory = directory
        self._files = files
        self._clock = clock

    def close(self) -> None:
        """Close the directory; may be repeated."""
        if self._directory >= 0:
            self._files.close(self._directory)
            self._directory = -1

    def take(self, blob: BlobId, segment: int, kinds: list[BlobFile], reason: str) -> None:
        """Move these files of a blob here from the open directory `segment`: first the note, then the files, then both
        directories are synced. What an interrupted call left is finished by the next.

        Raises:
            OSError: as the calls.
        """
        names = [quarantine_name(blob, kind.value) for kind in kinds]
        self._write_note(
            blob,
            QuarantineNote(blob=blob.text(), reason=reason, moved_ns=self._clock.wall_ns(), files=tuple(sorted(names))),
        )
        for kind, name in zip(kinds, names, strict=True):
            source = file_name(blob, kind)
            self._files.rename(source, name, source_directory=segment, target_directory=self._directory)
            with contextlib.suppress(FileNotFoundError):  # what `keep` linked here is one file: rename leaves it
                self._files.unlink(source, directory=segment)
        self._files.sync(self._directory)
        self._files.sync(segment)

    def keep(self, blob: BlobId, segment: int, kinds: list[BlobFile], reason: str) -> None:
        """Give these files a second name here, the first name stays: a damaged blob that is still referred to. First
        the note, then the names, then this directory is synced. May be repeated.

        Raises:
            OSError: as the calls.
        """
        names = [quarantine_name(blob, kind.value) for kind in kinds]
        self._write_note(
            blob,
            QuarantineNote(blob=blob.text(), reason=reason, moved_ns=self._clock.wall_ns(), files=tuple(sorted(names))),
        )
        for kind, name in zip(kinds, names, strict=True):
            with contextlib.suppress(FileExistsError):
                self._files.link(
                    file_name(blob, kind), name, source_directory=segment, target_directory=self._directory
                )
        self._files.sync(self._directory)

    def blobs(self) -> Iterator[QuarantinedBlob]:
        """Everything that is here, by id; other names are passed over."""
        names = frozenset(self._files.names(self._directory))
        found = {match.groups() for name in names if (match := _NAME.match(name))}
        for segment, number in sorted(found):
            yield self._look(BlobId(SegmentId(int(segment, 16)), int(number, 16)), names)

    def open(self, blob: BlobId) -> LocalBlobReader:
        """Read a blob here as any other: every block is checked.

        Raises:
            BlobDamaged: a file is missing, or the sidecar fails its checks.
        """
        data = meta = -1
        try:
            data = self._files.open(quarantine_name(blob, BlobFile.DATA.value), directory=self._directory)
            meta = self._files.open(quarantine_name(blob, BlobFile.META.value), directory=self._directory)
            entry = read_entry(self._files, meta, blob)
        except (OSError, RecordDamaged, FormatUnknown) as error:
            for descriptor in (data, meta):
                if descriptor >= 0:
                    self._files.close(descriptor)
            if isinstance(error, OSError):
                raise blob_fault(error, blob, "opening it in quarantine") from error
            raise BlobDamaged(blob=blob.text(), reason=damage_reason(error)) from error
        return LocalBlobReader(self._files, entry, data, meta, None)

    def _look(self, blob: BlobId, names: frozenset[str]) -> QuarantinedBlob:
        kinds = frozenset(kind for kind in BlobFile if quarantine_name(blob, kind.value) in names)
        note: QuarantineNote | None = None
        info: BlobInfo | None = None
        origin: BlobOrigin | None = None
        # What is missing or damaged is shown as such: a damaged sidecar is a reason to be here.
        with contextlib.suppress(OSError, RecordDamaged):
            note = decode_note(self._read(quarantine_name(blob, NOTE), NOTE_LIMIT_BYTES + 1), what="note")
        with contextlib.suppress(OSError, RecordDamaged, FormatUnknown):
            meta = self._files.open(quarantine_name(blob, BlobFile.META.value), directory=self._directory)
            try:
                entry = read_entry(self._files, meta, blob)
                info, origin = entry.info, entry.origin
            finally:
                self._files.close(meta)
        return QuarantinedBlob(blob=blob, kinds=kinds, note=note, info=info, origin=origin)

    def _read(self, name: str, limit_bytes: int) -> bytes:
        descriptor = self._files.open(name, directory=self._directory)
        try:
            buffer = memoryview(bytearray(limit_bytes))
            return bytes(buffer[: read_whole(self._files, descriptor, buffer, 0)])
        finally:
            self._files.close(descriptor)

    def _write_note(self, blob: BlobId, note: QuarantineNote) -> None:
        try:
            descriptor = self._files.create(quarantine_name(blob, NOTE), directory=self._directory)
        except FileExistsError:
            return  # an earlier call for this blob was interrupted; its reason stands
        try:
            write_whole(self._files, descriptor, encode_note(note), 0)
            self._files.sync_data(descriptor)
        finally:
            self._files.close(descriptor)
