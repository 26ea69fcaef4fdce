"""Slots of dead readers in the catalog: one killed with -9 would otherwise pin every page freed since (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio


@dataclass(slots=True)
class ReaderCheck:
    """A service. `check` frees the slots and returns their number; `freed` is told of it."""

    check: Callable[[], int]
    freed: Callable[[int], None]
    interval_s: float
    name: str = "reader check"

    async def step(self) -> float:
        found = self.check()
        if found:
            self.freed(found)
        await trio.lowlevel.checkpoint()
        return self.interval_s
