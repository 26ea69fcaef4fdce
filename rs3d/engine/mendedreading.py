"""Stored bytes for a decoder; the last stripe of a blob with parity is restored where its damage hides its neighbours.

A stripe's blocks are the sidecar's blocks of 64 KiB, but for the last stripe, whose blocks are shorter: several share
one CRC of the sidecar, so that one damaged byte makes a checked reading refuse more blocks than parity restores. There
the stripe is read unchecked, page by page where the disk cannot read all of it, restored by the checks of its own
blocks, and what comes out is checked by the sidecar: bytes that belong elsewhere never pass.
"""

from __future__ import annotations

from functools import partial

from rs3d.errors import BlobDamaged, DamageError
from rs3d.rio.mending import last_stripe, mend_last_stripe
from rs3d.rio.parity import corrects
from rs3d.stores.interfaces import BlobReader


class MendedReads:
    """Reads stored bytes of one blob. One thread at a time; the reader stays its owner's."""

    __slots__ = ("_begin", "_reader", "_tail", "_tried")

    def __init__(self, reader: BlobReader) -> None:
        self._reader = reader
        self._tried = not corrects(reader.info.recipe)
        self._begin = 0
        self._tail = bytearray()
        """The last stripe, restored, from `_begin` on; empty until it is needed. At most 32 blocks of 64 KiB."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with checked stored bytes from `offset`. Blocks.

        Raises:
            BlobDamaged: they cannot be had so; a stripe's other blocks may restore them.
        """
        if not self._has(offset):
            try:
                self._reader.read_into(offset, buffer)
                return
            except BlobDamaged:
                self._restore(offset)
                if not self._has(offset):
                    raise
        at = offset - self._begin
        buffer[:] = self._tail[at : at + len(buffer)]

    def _has(self, offset: int) -> bool:
        return bool(self._tail) and offset >= self._begin

    def _restore(self, offset: int) -> None:
        """Restore the last stripe, once, if `offset` lies in it and it can be restored."""
        if self._tried:
            return
        info = self._reader.info
        try:
            stripe = last_stripe(info.recipe, info.stored_bytes)
            self._begin = stripe.begin
            if offset < self._begin:
                return
            self._tried = True
            mend = partial(mend_last_stripe, info.recipe, info.stored_bytes)
            self._tail = self._reader.read_tail(self._begin, mend, stripe.losable_bytes)
        except (DamageError, ValueError):  # ValueError: blocks of another size, none of which are the sidecar's
            self._tried = True
