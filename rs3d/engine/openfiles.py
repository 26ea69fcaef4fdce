"""Data files of small blobs that are sent again and again, kept open for a moment; of those with layers, the decoders
and then the decoded bodies (`decodedbodies`).

Opening, looking at and closing a file costs as much as the rest of a request that sends it: most of all because a MiB
that goes by empties the processor's caches of the code for it. A file that was unlinked meanwhile keeps its space while
it is held, and a decoder holds a key, so what was not used for a second is let go, and every file after nine (decoded
bodies, which are memory alone, after a minute). Whether
bytes that are sent from the page cache are verified, and still in memory, is asked each time; what is decoded is
checked each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from rs3d.engine.decodedbodies import DecodedBodies
from rs3d.engine.heldfiles import HELD_S, Age, HeldFile
from rs3d.engine.layers import LayeredBlob
from rs3d.engine.residentblobs import open_resident
from rs3d.rio.keys import EncryptionKey
from rs3d.stores.interfaces import BlobReader, BlobStore
from rs3d.types.identifiers import BlobId
from rs3d.types.objects import Extent, ObjectVersion

HELD_FILES: Final = 256
"""Descriptors that are kept, beside those on their way to clients."""


class _HeldLayers(NamedTuple):
    """An open blob with layers, and whose bytes these are, under whose key."""

    blob: LayeredBlob
    version: ObjectVersion
    age: Age


class OpenFiles:
    """The files that one engine keeps open. For the loop; nothing here waits."""

    def __init__(self, blobs: BlobStore, decoded_bytes: int = 0) -> None:
        """Args:
        decoded_bytes: most of decoded bodies that are kept.
        """
        self._blobs = blobs
        self._held: dict[BlobId, HeldFile[BlobReader]] = {}
        self._resident: dict[BlobId, _HeldLayers] = {}
        self.decoded = DecodedBodies(decoded_bytes)

    def __len__(self) -> int:
        """Files and decoders; not bodies that are decoded."""
        return len(self._held) + len(self._resident)

    def offer_decoded(self, extent: Extent, content: memoryview) -> None:
        """`DecodedBodies.offer`; when the body is kept, its decoder goes."""
        if self.decoded.offer(extent, content) and extent.blob in self._resident:
            self._let_resident_go(extent.blob)

    def take_verified(self, blob: BlobId, offset: int, length: int) -> HeldFile[BlobReader] | None:
        """The file of a blob whose stored bytes are the client's, if this range of it is in memory, and was verified
        lately or can be now; None where a thread has to look first."""
        held = self._held.get(blob)
        if held is not None:
            if held.file.is_verified(offset, length):
                return held.take()
            del self._held[blob]
            held.let_go()
        reader = self._blobs.open_verified(blob, offset, length)
        if reader is None:
            return None
        if not reader.info.recipe.is_plain:
            reader.close()
            return None
        self._make_room()
        held = self._held[blob] = HeldFile(reader)
        return held.take()

    def read_now(self, extent: Extent, buffer: memoryview) -> bool:
        """Fill `buffer` with checked bytes of a blob whose stored bytes are the client's, without waiting; False where
        a thread has to read them, or to say what is wrong with them. For the loop.

        Args:
            buffer: as long as `extent`.
        """
        held = self._held.get(extent.blob)
        if held is None:
            reader = self._blobs.open_and_read_now(extent.blob, extent.offset, buffer)
            if reader is None:
                return False
            self._make_room()
            self._held[extent.blob] = HeldFile(reader)
            return True
        held.age.is_used = True
        if held.file.read_now(extent.offset, buffer):
            return True
        del self._held[extent.blob]
        held.let_go()
        return False

    def decode(
        self, extent: Extent, buffer: memoryview, version: ObjectVersion, key_of: Callable[[], EncryptionKey | None]
    ) -> bool:
        """Fill `buffer` with the client's bytes of a blob with layers, without waiting (`residentblobs`); False where
        that cannot be done. For the loop.

        Args:
            buffer: as long as `extent`.
            version: whose blob it is; a decoder is used for that very record of it alone.
            key_of: its data key, asked for when the blob is opened.
        """
        held = self._resident.get(extent.blob)
        if held is not None and held.version is not version:
            self._let_resident_go(extent.blob)
            held = None
        if held is None:
            opened = open_resident(self._blobs, extent.blob, extent.length, key_of)
            if opened is None:
                return False
            self._make_room()
            held = self._resident[extent.blob] = _HeldLayers(opened, version, Age())
        held.age.is_used = True
        if held.blob.read_now(extent.offset, buffer):
            return True
        self._let_resident_go(extent.blob)
        return False

    def _let_resident_go(self, blob: BlobId) -> None:
        self._resident.pop(blob).blob.close()

    def _make_room(self) -> None:
        if len(self) >= HELD_FILES:
            self._let_files_go()

    def let_go_all(self) -> None:
        """Close what nobody uses, now or when its users are done."""
        self._let_files_go()
        self.decoded.let_go_all()

    def _let_files_go(self) -> None:
        held, self._held = self._held, {}
        for file in held.values():
            file.let_go()
        resident, self._resident = self._resident, {}
        for layered in resident.values():
            layered.blob.close()

    def let_go_old(self) -> None:
        """Close what was not used since the last time, or is held for long. Every HELD_S."""
        for blob in [blob for blob, file in self._held.items() if file.age.is_over()]:
            self._held.pop(blob).let_go()
        for blob in [blob for blob, layered in self._resident.items() if layered.age.is_over()]:
            self._let_resident_go(blob)
        self.decoded.let_go_old()

    async def run(self, beside: Callable[[], None] | None = None) -> None:
        """Let go what is old every HELD_S, and call `beside`, which should need no waking of its own, until
        cancelled."""
        while True:
            await trio.sleep(HELD_S)
            self.let_go_old()
            if beside is not None:
                beside()
