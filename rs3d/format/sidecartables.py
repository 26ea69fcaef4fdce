"""Building a sidecar's two tables while a blob's bytes pass by, in pieces of any length. Pure; see `sidecar.py`."""

from __future__ import annotations

import hashlib

from rs3d.format.sidecar import BLOCK_BYTES, CRC_BYTES, DIGEST_BYTES, LEAF_BYTES
from rs3d.kernels import merkle
from rs3d.kernels.crc import crc32c, crc32c_blocks


class BlockTable:
    """CRC32C of each 64 KiB. The GIL is released for pieces of 8 KiB and more."""

    __slots__ = ("_crc", "_pending_bytes", "_rows")

    def __init__(self) -> None:
        self._rows = bytearray()
        self._crc = 0
        self._pending_bytes = 0

    def update(self, data: memoryview) -> None:
        """Take the next bytes; `data` is not kept."""
        if self._pending_bytes:
            piece = data[: BLOCK_BYTES - self._pending_bytes]
            data = data[len(piece) :]
            self._crc = crc32c(piece, self._crc)
            self._pending_bytes += len(piece)
            if self._pending_bytes < BLOCK_BYTES:
                return
            self._close_block()
        whole_bytes = len(data) - len(data) % BLOCK_BYTES
        if whole_bytes:
            self._rows += crc32c_blocks(data[:whole_bytes], BLOCK_BYTES)
        if whole_bytes < len(data):
            self._crc = crc32c(data[whole_bytes:])
            self._pending_bytes = len(data) - whole_bytes

    def rows(self) -> bytes:
        """The table of all bytes so far, the last block shorter. Nothing may be added afterwards."""
        if self._pending_bytes:
            self._close_block()
        return bytes(self._rows)

    def _close_block(self) -> None:
        self._rows += self._crc.to_bytes(CRC_BYTES, "little")
        self._crc = 0
        self._pending_bytes = 0


class LeafTable:
    """SHA-256 of each 1 MiB. The GIL is released for pieces of 2 KiB and more."""

    __slots__ = ("_closed", "_hash", "_pending_bytes", "_rows")

    def __init__(self) -> None:
        self._rows = bytearray()
        self._hash = hashlib.sha256()
        self._pending_bytes = 0
        self._closed = False

    def update(self, data: memoryview, known: bytes | None = None) -> None:
        """Take the next bytes; `data` is not kept.

        Args:
            known: SHA-256 of `data`, which then is exactly one leaf: a whole one, or the last.

        Raises:
            ValueError: `known` is given for something else than a leaf, or bytes follow a short last leaf.
        """
        if self._closed and len(data):
            raise ValueError("bytes follow the blob's last, short leaf")
        if known is not None:
            if self._pending_bytes or not 0 < len(data) <= LEAF_BYTES or len(known) != DIGEST_BYTES:
                raise ValueError(f"{len(data)} bytes at {self._pending_bytes} in a leaf are not a leaf")
            self._rows += known
            self._closed = len(data) < LEAF_BYTES
            return
        whole_bytes = len(data) - len(data) % LEAF_BYTES
        if whole_bytes > LEAF_BYTES and not self._pending_bytes:
            self._rows += merkle.leaves(data[:whole_bytes], LEAF_BYTES)  # several leaves are hashed side by side
            data = data[whole_bytes:]
        while len(data):
            piece = data[: LEAF_BYTES - self._pending_bytes]
            data = data[len(piece) :]
            self._hash.update(piece)
            self._pending_bytes += len(piece)
            if self._pending_bytes == LEAF_BYTES:
                self._close_leaf()

    def rows(self) -> bytes:
        """The table of all bytes so far, the last leaf shorter; of no bytes, one leaf. Nothing may follow."""
        if self._pending_bytes or not self._rows:
            self._close_leaf()
        return bytes(self._rows)

    def _close_leaf(self) -> None:
        self._rows += self._hash.digest()
        self._hash = hashlib.sha256()
        self._pending_bytes = 0
