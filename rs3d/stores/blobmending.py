"""Mending a damaged blob: never in place, and only what can be proven to be the bytes that were first written.

The restored file is written in staging/, checked against the sidecar down to the Merkle root, synced, and then renamed
over the damaged one. So the blob keeps its id: no reference moves, no operation is needed, readers with the old file
open read on, and a crash at any point leaves the old file or the new one, each whole. What is left in staging/ is
removed when the steward starts. FORMAT.md section "Mending".
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from enum import Enum
from typing import Final

from rs3d.errors import BlobDamaged, DamageError, FormatUnknown, RecordDamaged
from rs3d.format.sidecar import BLOCK_BYTES, LEAF_BYTES, Sidecar, decode_either
from rs3d.kernels.directio import Access, DirectFile
from rs3d.rio.mending import last_stripe, mend_stored
from rs3d.rio.parity import corrects
from rs3d.stores.blobexamination import (
    BlobExamination,
    Buffers,
    check_sidecar,
    check_span,
    open_blob_file,
    read_sidecar_file,
)
from rs3d.stores.blobfaults import blob_fault
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.files import PAGE_BYTES, SYSTEM_FILES, Files, read_readable, read_whole, write_whole
from rs3d.stores.layout import STAGING, BlobFile, is_staged_name, quarantine_name
from rs3d.types.blobs import BlobInfo
from rs3d.types.identifiers import BlobId

COPY_BYTES: Final = LEAF_BYTES


class Outcome(Enum):
    """What became of a blob that was suspected."""

    SOUND = "sound"
    """Nothing is wrong with it (any more)."""
    MENDED = "mended"
    GONE = "gone"
    """It was deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What was done."""

    outcome: Outcome
    blocks: int = 0
    """Stored blocks that were restored."""
    sidecar: bool = False
    """Whether the sidecar was written anew from its second copy."""


class BlobMender:
    """Mends blobs of one store. One at a time for each blob; blocks."""

    def __init__(self, root: str, blobs: LocalBlobStore, *, files: Files = SYSTEM_FILES) -> None:
        """Open staging/ and remove what an interrupted mending left there.

        Raises:
            OSError
        """
        self._root = root
        self._blobs = blobs
        self._files = files
        self._staging = files.open_directory(os.path.join(root, STAGING))
        for name in files.names(self._staging):
            if is_staged_name(name):
                files.unlink(name, directory=self._staging)

    def close(self) -> None:
        if self._staging >= 0:
            self._files.close(self._staging)
            self._staging = -1

    def mend(self, blob: BlobId, stored_bytes: int, buffers: Buffers) -> Mended:
        """Look at all of a blob, and mend what is damaged.

        Raises:
            BlobDamaged: it cannot be mended; nothing was changed.
            StoreFull, SlowDown, StoreReadOnly: not now.
        """
        try:
            return self._mend(blob, stored_bytes, buffers)
        except FileNotFoundError as missing:
            raise BlobDamaged(blob=blob.text(), reason="one of its files is missing") from missing
        except OSError as error:
            raise blob_fault(error, blob, "mending it", needed_bytes=stored_bytes) from error

    def _mend(self, blob: BlobId, stored_bytes: int, buffers: Buffers) -> Mended:
        try:
            examination = BlobExamination(self._root, blob, stored_bytes, buffers)
        except BlobDamaged:
            pass
        else:
            try:
                examination.check_all()
                return Mended(Outcome.SOUND)
            except BlobDamaged as damage:
                if not corrects(examination.sidecar.info.recipe):
                    raise damage from None
            finally:
                examination.close()
        raw = read_sidecar_file(self._root, blob)
        sidecar, wanted = self._sidecar(blob, raw)
        check_sidecar(sidecar, blob, stored_bytes)
        blocks = self._mend_data(sidecar, buffers)
        if blocks < 0:
            return Mended(Outcome.GONE)
        if raw != wanted and not self._put_sidecar(blob, wanted):
            return Mended(Outcome.GONE)
        return Mended(Outcome.MENDED if blocks or raw != wanted else Outcome.SOUND, blocks, raw != wanted)

    def _sidecar(self, blob: BlobId, raw: bytes) -> tuple[Sidecar, bytes]:
        try:
            return decode_either(raw, what=f"sidecar of blob {blob.text()}")
        except (RecordDamaged, FormatUnknown) as damage:
            raise BlobDamaged(blob=blob.text(), reason=f"{damage.what}: {damage.reason}") from damage

    # ------------------------------------------------------------------------------------------------------ data

    def _mend_data(self, sidecar: Sidecar, buffers: Buffers) -> int:
        """Blocks restored; 0 when the data is sound, -1 when the blob is gone."""
        info = sidecar.info
        source = open_blob_file(self._root, info.blob, BlobFile.DATA)
        try:
            if _is_sound(sidecar, source, buffers):
                return 0
            if not corrects(info.recipe):
                raise BlobDamaged(blob=info.blob.text(), reason="its data is damaged, and it has no parity")
            name = quarantine_name(info.blob, BlobFile.DATA.value)
            target = self._files.create(name, directory=self._staging)
            try:
                blocks = self._restore(sidecar, source, target)
                if not _is_sound(sidecar, target, buffers):
                    reason = "what parity restores is not what its sidecar's Merkle root proves"
                    raise BlobDamaged(blob=info.blob.text(), reason=reason)
                self._files.sync_data(target)
                replaced = self._blobs.replace(info.blob, BlobFile.DATA, name, self._staging)
            finally:
                self._files.close(target)
                self._drop(name)
            return max(blocks, 1) if replaced else -1
        finally:
            os.close(source)

    def _restore(self, sidecar: Sidecar, source: int, target: int) -> int:
        """Copy what can be read, then restore what is bad in the copy. Returns blocks restored."""
        info = sidecar.info

        def read(offset: int, buffer: memoryview) -> bool:
            return read_whole(self._files, target, buffer, offset) == len(buffer)

        def write(offset: int, stored: bytes) -> None:
            write_whole(self._files, target, stored, offset)

        try:
            self._copy_readable(info, source, target)
            return mend_stored(info.recipe, info.stored_bytes, read, write)
        except (DamageError, FormatUnknown) as damage:
            raise BlobDamaged(blob=info.blob.text(), reason=str(damage)) from damage

    def _copy_readable(self, info: BlobInfo, source: int, target: int) -> None:
        """Zeros for what cannot be read: whole blocks, but in the last stripe, where several share one of 64 KiB."""
        tail = last_stripe(info.recipe, info.stored_bytes)
        buffer = memoryview(bytearray(COPY_BYTES))
        lost, offset = 0, 0
        while offset < info.stored_bytes:
            end = info.stored_bytes if offset >= tail.begin else tail.begin
            piece = buffer[: min(COPY_BYTES, end - offset)]
            unit_bytes, losable_bytes = BLOCK_BYTES, len(piece)
            if offset >= tail.begin:
                unit_bytes, losable_bytes = PAGE_BYTES, tail.losable_bytes - lost
            missing = read_readable(
                self._files, source, piece, offset, unit_bytes=unit_bytes, losable_bytes=losable_bytes
            )
            lost += missing if offset >= tail.begin else 0
            write_whole(self._files, target, piece, offset)
            offset += len(piece)

    # ------------------------------------------------------------------------------------------------------ sidecar

    def _put_sidecar(self, blob: BlobId, raw: bytes) -> bool:
        name = quarantine_name(blob, BlobFile.META.value)
        target = self._files.create(name, directory=self._staging)
        try:
            write_whole(self._files, target, raw, 0)
            self._files.sync_data(target)
            return self._blobs.replace(blob, BlobFile.META, name, self._staging)
        finally:
            self._files.close(target)
            self._drop(name)

    def _drop(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(name, directory=self._staging)


def _is_sound(sidecar: Sidecar, descriptor: int, buffers: Buffers) -> bool:
    if os.fstat(descriptor).st_size != sidecar.info.stored_bytes:
        return False
    with DirectFile(descriptor, Access.READ) as file:
        offset = 0
        try:
            while count := check_span(sidecar, file, offset, buffers):
                offset += count
        except (BlobDamaged, OSError):
            return False
    return True
