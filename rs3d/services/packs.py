"""Packs that are mostly dead are written anew, one at a time, so that freed chunks give back their bytes.

A pack is left alone until its live bytes have not changed from one look to the next: the chunks of a body that is being
put come batch by batch, and until the last one its pack looks emptier than it is. The rewriting itself is the engine's
(engine/packrewriting.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

import trio

from rs3d.errors import DamageError
from rs3d.types.chunks import PackUse
from rs3d.types.identifiers import BlobId

PAGE_ROWS: Final = 1000
"""Packs looked at in one view."""

BUSY_PAUSE_S: Final = 0.1
"""Between two packs that are due."""


class PacksView(Protocol):
    """What this service reads of a catalog view."""

    def packs(self, after: BlobId | None = None) -> Iterator[PackUse]: ...


class PacksCatalog(Protocol):
    def snapshot(self) -> AbstractContextManager[PacksView]: ...


class Rewritten(Protocol):
    @property
    def chunks(self) -> int: ...

    @property
    def freed_bytes(self) -> int: ...


@dataclass(slots=True)
class PackService:
    """A service. `rewrite` is the engine's, given a pack and the share of live bytes below which it pays; `freed` is
    told the bytes by which packs became shorter."""

    catalog: PacksCatalog
    rewrite: Callable[[BlobId, float], Awaitable[Rewritten]]
    freed: Callable[[int], None]
    interval_s: float
    live_share: float = 0.5
    minimum_dead_bytes: int = 4 << 20
    """Fewer dead bytes in a pack are not worth a rewriting."""
    name: str = "packs"
    rewritten: int = 0
    """Packs written anew since the start."""
    _seen: dict[BlobId, int] = field(default_factory=dict)
    """Live bytes of the packs that may be worth it, at the last look."""
    _useless: dict[BlobId, int] = field(default_factory=dict)
    """Live bytes at which a pack turned out not to be: its parity and index are no dead chunks."""
    _due: list[BlobId] = field(default_factory=list)

    async def step(self) -> float:
        if not self._due:
            self._due = await self._look()
        if not self._due:
            return self.interval_s
        pack = self._due.pop()
        live_bytes = self._seen.get(pack, 0)
        try:
            done = await self.rewrite(pack, self.live_share)
        except DamageError:
            self._useless[pack] = live_bytes  # said once; reads and the check go on saying it
            raise
        if done.chunks:
            self.rewritten += 1
            self.freed(done.freed_bytes)
        else:
            self._useless[pack] = live_bytes
        return BUSY_PAUSE_S if self._due else self.interval_s

    async def _look(self) -> list[BlobId]:
        """The packs whose live bytes are few, and as many as at the look before."""
        worth: dict[BlobId, int] = {}
        after: BlobId | None = None
        while True:
            with self.catalog.snapshot() as view:
                page = list(islice(view.packs(after), PAGE_ROWS))
            for use in page:
                dead = use.total_stored_bytes - use.live_stored_bytes
                if dead >= self.minimum_dead_bytes and use.live_stored_bytes < self.live_share * use.total_stored_bytes:
                    worth[use.pack] = use.live_stored_bytes
            if len(page) < PAGE_ROWS:
                break
            after = page[-1].pack
            await trio.lowlevel.checkpoint()
        settled = [pack for pack, live in worth.items() if self._seen.get(pack) == live]
        self._useless = {pack: live for pack, live in self._useless.items() if worth.get(pack) == live}
        self._seen = worth
        return [pack for pack in settled if pack not in self._useless]
