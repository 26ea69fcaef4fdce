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
    """What a compaction did. `runs` of segments were rewritten (0 = none was worth it), the last of them at
    `sequence`."""

    sequence: int
    freed_bytes: int
    runs: int = 0


@dataclass(frozen=True, slots=True)
class StateVerbs:
    """The verbs about the daemon; everything is injected by the steward."""

    status: Callable[[], object]
    compact: Callable[[int, int], Awaitable[Compaction]]
    """Rewrites a run of log segments, the one that pays most or from the first to the last given; sequence 0 when no
    run is worth it."""
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
        """The run that was named, or one after the other until none is worth it."""
        done = Compaction(0, 0)
        while True:
            await reporter.progress("runs of log segments", done.runs)
            one = await self.compact(arguments.first, arguments.last)
            if one.sequence == 0:
                return done
            done = Compaction(one.sequence, done.freed_bytes + one.freed_bytes, done.runs + 1)
            if arguments.first:
                return done

    async def run_trace(self, arguments: Nothing, reporter: Reporter) -> None:
        async with self.traced() as records:
            async for record in records:
                await reporter.row(record)
