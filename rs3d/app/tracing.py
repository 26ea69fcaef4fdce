"""Live requests for `rs3d trace`: records come in as they finish, and go to everyone who listens, as far as they
keep up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

WAITING_RECORDS: Final = 1000
"""Records kept for a listener that reads slowly; more are dropped, never waited for."""


class TraceHub:
    """Listeners, and the switch that turns recording on while there are any."""

    def __init__(self, switch: Callable[[bool], None]) -> None:
        self._switch = switch
        self._listeners: list[trio.MemorySendChannel[object]] = []

    def publish(self, record: object) -> None:
        """Give a record to every listener that has room. Loop-safe."""
        for listener in self._listeners:
            try:
                listener.send_nowait(record)
            except (trio.WouldBlock, trio.BrokenResourceError):
                continue

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[object]]:
        """A stream of records; recording is on while somebody listens."""
        send, receive = trio.open_memory_channel[object](WAITING_RECORDS)
        self._listeners.append(send)
        if len(self._listeners) == 1:
            self._switch(True)
        try:
            yield receive
        finally:
            self._listeners.remove(send)
            send.close()
            if not self._listeners:
                self._switch(False)
