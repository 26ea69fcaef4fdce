"""Decoded bodies of small blobs with layers, kept in memory while they are sent again and again.

Decoding a MiB costs as much as all else of its GET, and sending it from a buffer copies it; what is kept here goes out
by sendfile as a plain body does. A body is kept as it was decoded and checked, for a minute at most, then it is decoded
anew from what is on disk: rot, a lost key and a lost file are found as late as that, which is the window of `verify =
memo` too. Each is a file in memory that is written once, as pages that are on their way to a client may not change.

Kept is what was decoded twice within some seconds and fits; what nobody asked for lately makes room for it. Only bodies
that the store's own keys seal, or none: whoever has to show a key is asked for it each time.
"""

from __future__ import annotations

import os
from typing import Final

from rs3d.engine.heldfiles import HeldFile
from rs3d.types.identifiers import BlobId
from rs3d.types.objects import Extent

KEPT_BODIES: Final = 256
"""Descriptors of bodies that are kept."""


KEPT_ROUNDS: Final = 60
"""Calls of `let_go_old`, one a second, that a body is kept at most."""

IDLE_ROUNDS: Final = 10
"""Those without a use after which it goes; and how long it is remembered that a body was decoded once."""

MET_BLOBS: Final = 4_096
"""Of which it is remembered that they were decoded once; all are forgotten when there are more."""

BODY_BYTES: Final = 1024 * 1024
"""The longest body that is kept."""


class MemoryFile:
    """A file that is nowhere but in memory."""

    __slots__ = ("_descriptor", "size_bytes")

    def __init__(self, content: memoryview) -> None:
        """Copies `content`.

        Raises:
            OSError: no memory, or no descriptor.
        """
        self.size_bytes = len(content)
        self._descriptor = os.memfd_create("decoded", os.MFD_CLOEXEC)
        try:
            while content:
                content = content[os.write(self._descriptor, content) :]
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)


class _Body:
    __slots__ = ("extent", "held", "idle_rounds", "rounds")

    def __init__(self, extent: Extent, held: HeldFile[MemoryFile]) -> None:
        self.extent = extent
        self.held = held
        self.rounds = 0
        self.idle_rounds = 0

    def is_over(self) -> bool:
        """Another round has passed: whether it is to be let go."""
        age = self.held.age
        self.rounds += 1
        self.idle_rounds = 0 if age.is_used else self.idle_rounds + 1
        age.is_used = False
        return self.rounds >= KEPT_ROUNDS or self.idle_rounds >= IDLE_ROUNDS


class DecodedBodies:
    """The bodies that one engine keeps. For the loop; nothing here waits."""

    def __init__(self, maximum_bytes: int) -> None:
        """Args:
        maximum_bytes: of all bodies together; 0 = none is kept.
        """
        self._maximum_bytes = maximum_bytes
        self._kept: dict[BlobId, _Body] = {}
        self._met: set[BlobId] = set()
        """Blobs that were decoded once, lately."""
        self._rounds = 0
        self.kept_bytes = 0
        self.taken = 0
        """Bodies that were sent from here."""

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, extent: Extent) -> HeldFile[MemoryFile] | None:
        """The client's bytes of `extent`, if they are kept: the file begins with the first of them, and outlives the
        object. To be given back."""
        body = self._kept.get(extent.blob)
        if body is None or body.extent != extent:
            return None
        self.taken += 1
        return body.held.take()

    def offer(self, extent: Extent, content: memoryview) -> bool:
        """Keep a copy of what was decoded just now, if that happened before; whether it is kept now."""
        size_bytes = len(content)
        if size_bytes > min(BODY_BYTES, self._maximum_bytes):
            return False
        if extent.blob not in self._met:
            if len(self._met) >= MET_BLOBS:
                self._met.clear()
            self._met.add(extent.blob)
            return False
        if not self._has_room(size_bytes):
            self._let_idle_go()
            if not self._has_room(size_bytes):
                return False
        body = self._kept.get(extent.blob)
        if body is not None:  # of another part of that blob
            self._let_go(body)
        try:
            file = MemoryFile(content)
        except OSError:
            return False
        self._kept[extent.blob] = _Body(extent, HeldFile(file))
        self.kept_bytes += file.size_bytes
        return True

    def let_go_all(self) -> None:
        """Free what nobody uses, now or when its users are done."""
        self._met.clear()
        for body in list(self._kept.values()):
            self._let_go(body)

    def let_go_old(self) -> None:
        """Free what was not used lately, or is kept for long. Every second."""
        self._rounds += 1
        if self._rounds % IDLE_ROUNDS == 0:
            self._met.clear()
        for body in [body for body in self._kept.values() if body.is_over()]:
            self._let_go(body)

    def _has_room(self, size_bytes: int) -> bool:
        return len(self._kept) < KEPT_BODIES and self.kept_bytes + size_bytes <= self._maximum_bytes

    def _let_idle_go(self) -> None:
        for body in [body for body in self._kept.values() if body.idle_rounds]:
            self._let_go(body)

    def _let_go(self, body: _Body) -> None:
        del self._kept[body.extent.blob]
        self.kept_bytes -= body.held.file.size_bytes
        body.held.let_go()
