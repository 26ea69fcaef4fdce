"""All of one blob checked against its sidecar, as the disk has it: sidecar, length, CRC of every block, SHA-256 of
every leaf, root. Reads go past the page cache where the file system allows it, so that the disk is checked and nobody's
pages are evicted."""

from __future__ import annotations

import os
from typing import Final

from rs3d.errors import BlobDamaged, RecordDamaged
from rs3d.format.merkletree import merkle_root
from rs3d.format.sidecar import BLOCK_BYTES, CRC_BYTES, DIGEST_BYTES, LEAF_BYTES, Sidecar, decode_sidecar
from rs3d.kernels import merkle
from rs3d.kernels.crc import crc32c_check_blocks
from rs3d.kernels.directio import Access, AlignedBuffer, DirectFile
from rs3d.stores.blobfaults import blob_fault
from rs3d.stores.layout import BLOBS, BlobFile, file_name, segment_name
from rs3d.types.identifiers import BlobId

PIECE_BYTES: Final = 8 * LEAF_BYTES
"""Read at once: eight leaves are hashed side by side."""
SIDECAR_LIMIT_BYTES: Final = 1 << 30


class Buffers:
    """What one thread reads into; taken when it is first needed, and kept."""

    __slots__ = ("_view",)

    def __init__(self) -> None:
        self._view: memoryview | None = None

    def view(self) -> memoryview:
        """PIECE_BYTES, aligned for direct reads."""
        if self._view is None:
            self._view = memoryview(AlignedBuffer(PIECE_BYTES, 4096))
        return self._view


def blob_path(root: str, blob: BlobId, kind: BlobFile) -> str:
    """Path of one of a blob's files."""
    return os.path.join(root, BLOBS, segment_name(blob.segment), file_name(blob, kind))


def open_blob_file(root: str, blob: BlobId, kind: BlobFile) -> int:
    """A descriptor for reading. Raises OSError."""
    return os.open(blob_path(root, blob, kind), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def read_sidecar_file(root: str, blob: BlobId) -> bytes:
    """All bytes of a blob's sidecar. Raises OSError."""
    with open(open_blob_file(root, blob, BlobFile.META), "rb") as file:
        return file.read(SIDECAR_LIMIT_BYTES)


def check_sidecar(sidecar: Sidecar, blob: BlobId, stored_bytes: int) -> None:
    """Whether a sidecar, whole in itself, is that of this blob.

    Raises:
        BlobDamaged
    """
    if sidecar.info.blob != blob:
        raise BlobDamaged(blob=blob.text(), reason=f"its sidecar names blob {sidecar.info.blob.text()}")
    if sidecar.info.stored_bytes != stored_bytes:
        reason = f"the sidecar says {sidecar.info.stored_bytes} bytes, the catalog {stored_bytes}"
        raise BlobDamaged(blob=blob.text(), reason=reason)
    if merkle_root(sidecar.leaves, stored_bytes) != sidecar.info.merkle_root:
        raise BlobDamaged(blob=blob.text(), reason="the Merkle root is not that of the leaves")


def check_span(sidecar: Sidecar, file: DirectFile, offset: int, buffers: Buffers) -> int:
    """Check the stored bytes from `offset`, a multiple of LEAF_BYTES, as many as the buffer holds.

    Returns:
        Bytes checked; 0 at the end.

    Raises:
        BlobDamaged, OSError
    """
    blob, stored_bytes = sidecar.info.blob.text(), sidecar.info.stored_bytes
    wanted = min(PIECE_BYTES, stored_bytes - offset)
    if wanted <= 0:
        return 0
    view = buffers.view()
    # The buffer is whole pages, so that the last, odd bytes of a file may be asked for directly too.
    count = min(file.read_into([view[: -(-wanted // 4096) * 4096]], offset), wanted)
    if count < wanted:
        reason = f"the data file ends at {offset + count}; {stored_bytes} bytes were written"
        raise BlobDamaged(blob=blob, reason=reason)
    data = view[:count]
    first = offset // BLOCK_BYTES
    rows = memoryview(sidecar.block_crcs)[first * CRC_BYTES : (first + -(-count // BLOCK_BYTES)) * CRC_BYTES]
    bad = crc32c_check_blocks(data, BLOCK_BYTES, rows)
    if bad >= 0:
        raise BlobDamaged(blob=blob, reason=f"CRC32C of block {first + bad} differs")
    leaf = offset // LEAF_BYTES
    leaves = memoryview(sidecar.leaves)[leaf * DIGEST_BYTES : (leaf + -(-count // LEAF_BYTES)) * DIGEST_BYTES]
    bad = merkle.check_leaves(data, leaves, LEAF_BYTES)
    if bad >= 0:
        raise BlobDamaged(blob=blob, reason=f"SHA-256 of leaf {leaf + bad} differs")
    return count


class BlobExamination:
    """One blob under examination: opened, its sidecar checked; its bytes follow piece by piece, from any leaf on."""

    def __init__(self, root: str, blob: BlobId, stored_bytes: int, buffers: Buffers) -> None:
        """
        Raises:
            FileNotFoundError: a file is missing: ask the catalog whether the blob is still wanted.
            BlobDamaged: the sidecar, or the data file's length, is wrong.

        Blocking.
        """
        self.blob = blob
        self._buffers = buffers
        self._data = -1
        self._file: DirectFile | None = None
        try:
            raw = read_sidecar_file(root, blob)
            self._data = open_blob_file(root, blob, BlobFile.DATA)
            self.sidecar = decode_sidecar(raw, what=f"sidecar of blob {blob.text()}")
            check_sidecar(self.sidecar, blob, stored_bytes)
            length = os.fstat(self._data).st_size
            if length != stored_bytes:
                reason = f"the data file has {length} bytes; {stored_bytes} were written"
                raise BlobDamaged(blob=blob.text(), reason=reason)
        except FileNotFoundError:
            self._close_data()
            raise
        except RecordDamaged as damage:
            self._close_data()
            raise BlobDamaged(blob=blob.text(), reason=f"{damage.what}: {damage.reason}") from damage
        except OSError as error:
            self._close_data()
            raise blob_fault(error, blob, "opening it") from error
        except BaseException:
            self._close_data()
            raise

    def check(self, offset: int) -> int:
        """Check the next piece; as `check_span`.

        Raises:
            BlobDamaged, SlowDown
        """
        try:
            if self._file is None:
                self._file = DirectFile(self._data, Access.READ)
            return check_span(self.sidecar, self._file, offset, self._buffers)
        except OSError as error:
            raise blob_fault(error, self.blob, f"reading at {offset}") from error

    def check_all(self) -> None:
        """Check every byte. Raises as `check`."""
        offset = 0
        while count := self.check(offset):
            offset += count

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._close_data()

    def _close_data(self) -> None:
        if self._data >= 0:
            os.close(self._data)
            self._data = -1
