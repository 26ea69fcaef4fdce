"""`rs3d dedup stats`: what deduplication saves."""

from __future__ import annotations

import msgspec

from rs3d.admin.server import Reporter, Verb, verb
from rs3d.engine import StorageEngine
from rs3d.engine.dedupreport import DedupReport


class Nothing(msgspec.Struct, frozen=True):
    pass


class DedupVerbs:
    """The verbs about deduplication."""

    def __init__(self, engine: StorageEngine) -> None:
        self._engine = engine

    def verbs(self) -> list[Verb]:
        return [verb("dedup stats", Nothing, self.stats)]

    async def stats(self, arguments: Nothing, reporter: Reporter) -> DedupReport:
        return await self._engine.dedup_report()
