"""The two tables of a sidecar (FORMAT.md section "Blob"), made while its bytes pass by in pieces of any length."""

from __future__ import annotations

from rs3d.format.sidecar import BLOCK_BYTES, LEAF_BYTES
from rs3d.kernels.bodyhash import BodyHash


class BlobTables:
    """SHA-256 of each leaf and CRC32C of each block. The GIL is released for pieces of 8 KiB and more."""

    __slots__ = ("_is_given", "_stream")

    def __init__(self, given: BodyHash | None = None) -> None:
        """Args:
        given: made by the caller, who adds every byte to it before `rows` is called; None: `update` adds them.

        Raises:
            ValueError: it makes no tables.
        """
        if given is not None and not given.has_tables:
            raise ValueError("what was given makes no tables")
        self._is_given = given is not None
        self._stream = given or BodyHash(md5=False, leaf_bytes=LEAF_BYTES, block_bytes=BLOCK_BYTES)

    def update(self, stored: memoryview) -> None:
        """The next bytes of the blob."""
        if not self._is_given:
            self._stream.update(stored)

    def rows(self, stored_bytes: int) -> tuple[bytes, bytes]:
        """The leaves and the blocks of all `stored_bytes`, the last of each shorter; of no bytes, one leaf.

        Raises:
            ValueError: the tables are of another number of bytes.
        """
        if self._stream.length_bytes != stored_bytes:
            raise ValueError(f"the tables are of {self._stream.length_bytes} bytes, the blob has {stored_bytes}")
        return self._stream.leaves(), self._stream.blocks()
