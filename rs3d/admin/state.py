"""`rs3d status`, `rs3d compact`, `rs3d trace`: what the steward knows of the daemon as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import msgspec

from rs3d.admin.server import Reporter, Verb, verb


class Nothing(msgspec.Struct, frozen=True):
    pass


class CompactRun(msgspec.Struct, frozen=True):
    first: int = 0
    last: int = 0


class Compaction(msgspec.Struct, frozen=True):
    """What a compaction did; `sequence` 0 = no run was worth it."""

    sequence: int
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class StateVerbs:
    """The verbs about the daemon; everything is injected by the steward."""

    status: Callable[[], object]
    compact: Callable[[int, int], Awaitable[Compaction]]
    """Rewrites a run of log segments, the one that pays most or from the first to the last given."""
    accept_clock: Callable[[], None]
    """Tells the committer that the wall clock is right."""
    traced: Callable[[], AbstractAsyncContextManager[AsyncIterator[object]]]
    """Opens a stream of finished requests; tracing is on while one is open."""

    def verbs(self) -> list[Verb]:
        return [
            verb("status", Nothing, self.run_status),
            verb("compact", CompactRun, self.run_compact, "rs3d status"),
            verb("clock accept", Nothing, self.run_accept_clock, "rs3d status"),
            verb("trace", Nothing, self.run_trace),
        ]

    async def run_status(self, arguments: Nothing, reporter: Reporter) -> object:
        return self.status()

    async def run_accept_clock(self, arguments: Nothing, reporter: Reporter) -> None:
        self.accept_clock()

    async def run_compact(self, arguments: CompactRun, reporter: Reporter) -> Compaction:
        await reporter.progress("compacting", 0)
        return await self.compact(arguments.first, arguments.last)

    async def run_trace(self, arguments: Nothing, reporter: Reporter) -> None:
        async with self.traced() as records:
            async for record in records:
                await reporter.row(record)
