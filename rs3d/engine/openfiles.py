"""Data files of small blobs that are sent again and again, kept open for a moment.

Opening, looking at and closing a file costs as much as the rest of a request that sends it: most of all because a MiB
that goes by empties the processor's caches of the code for it. A file that was unlinked meanwhile keeps its space while
it is held, so all are let go every second; whether its bytes are verified, and still in memory, is asked each time.
"""

from __future__ import annotations

from typing import Final

import trio

from rs3d.stores.interfaces import BlobReader, BlobStore
from rs3d.types.identifiers import BlobId

HELD_FILES: Final = 256
"""Descriptors that are kept, beside those on their way to clients."""

HELD_S: Final = 1.0


class HeldFile:
    """An open data file and how many use it. Closed when it was let go and the last user has given it back."""

    __slots__ = ("_is_let_go", "_users", "reader")

    def __init__(self, reader: BlobReader) -> None:
        self.reader = reader
        self._users = 0
        self._is_let_go = False

    def take(self) -> HeldFile:
        """Use it until `give_back`."""
        self._users += 1
        return self

    def give_back(self) -> None:
        """Once for each `take`."""
        self._users -= 1
        if self._is_let_go and not self._users:
            self.reader.close()

    def let_go(self) -> None:
        """Keep it for its users alone. Once."""
        self._is_let_go = True
        if not self._users:
            self.reader.close()


class OpenFiles:
    """The files that one engine keeps open. For the loop; nothing here waits."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._held: dict[BlobId, HeldFile] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take_verified(self, blob: BlobId, offset: int, length: int) -> HeldFile | None:
        """The file of a blob whose stored bytes are the client's, if this range of it was verified lately and is still
        in memory; None where a thread has to look first."""
        held = self._held.get(blob)
        if held is not None:
            if held.reader.is_verified(offset, length):
                return held.take()
            del self._held[blob]
            held.let_go()
            return None
        reader = self._blobs.open_verified(blob, offset, length)
        if reader is None:
            return None
        if not reader.info.recipe.is_plain:
            reader.close()
            return None
        if len(self._held) >= HELD_FILES:
            self.let_go_all()
        held = self._held[blob] = HeldFile(reader)
        return held.take()

    def let_go_all(self) -> None:
        """Close what nobody uses, now or when its users are done."""
        held, self._held = self._held, {}
        for file in held.values():
            file.let_go()

    async def run(self) -> None:
        """Let all go every second, until cancelled."""
        while True:
            await trio.sleep(HELD_S)
            self.let_go_all()
