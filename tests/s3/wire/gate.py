"""A committer that holds certain operations back until a test lets them go: a disk as slow as one likes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from rs3d.types.operations import Operation, Outcome
from tests.s3.wire.server import WireServer


class Gate:
    """Stands before the committer's client of a server in this process."""

    def __init__(self, server: WireServer, kind: type) -> None:
        self._server = server
        self._kind = kind
        self._opened = server.call(trio.Event)
        self._arrived = server.call(trio.Event)

    def wait_for_arrival(self) -> None:
        """Until an operation stands before it."""
        self._server.run(self._arrived.wait)

    def open(self) -> None:
        """Let those that wait, and all that come, pass."""
        self._server.call(self._opened.set)

    async def pass_through(self, operation: Operation) -> None:
        if isinstance(operation, self._kind):
            self._arrived.set()
            with trio.CancelScope(shield=True):  # as the committer's client is, once a packet was sent
                await self._opened.wait()


@contextmanager
def gate(server: WireServer, kind: type) -> Iterator[Gate]:
    """Hold back all operations of a kind."""
    held = Gate(server, kind)
    runtime = server.running.engine._runtime
    client = runtime.committer
    commit = client.commit

    async def gated(operation: Operation) -> Outcome:
        await held.pass_through(operation)
        return await commit(operation)

    server.call(lambda: setattr(client, "commit", gated))
    try:
        yield held
    finally:
        held.open()
        server.call(lambda: delattr(client, "commit"))
