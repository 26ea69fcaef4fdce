"""Bodies that arrive at the same time are hashed side by side in one thread: MD5, and the tables of their blobs.

MD5 is a chain that no processor shortens: 1.2 ms a MiB for one body, and as much for each of sixteen that are hashed
one by one; the tables cost nothing beside it. The kernel takes two bodies in 1.7 ms and sixteen in 7.5. So a piece is
only announced when its body's thread begins to write it. Whoever has written and needs its digest first hashes
everything that has been announced by then; what is announced meanwhile goes next, together, as commits do. No thread
waits for company, and a piece without company is hashed by a second thread while it is written.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from rs3d.engine.digests import DigestSet
from rs3d.engine.threads import Threads
from rs3d.kernels import bodyhash

LANES: Final = 2 * bodyhash.LANES
"""Most pieces of one round. Twice the kernel's: a piece that ends early leaves its lane to another."""


class HashTicket:
    """A piece to be hashed. Its bytes are not touched, nor its stream, until `wait` has returned."""

    __slots__ = ("_gang", "ended", "failure", "stream", "view")

    def __init__(self, gang: HashGang, stream: bodyhash.BodyHash, view: memoryview) -> None:
        self._gang = gang
        self.stream = stream
        self.view = view
        self.ended = False
        self.failure: Exception | None = None

    def wait(self) -> None:
        """Until the piece has been added to its stream. Blocks on the processor.

        Raises:
            Whatever failed; the stream's state is then unknown.
        """
        self._gang.hash_until(self)
        if self.failure is not None:
            raise self.failure


class HashGang:
    """Adds pieces to the streams of all bodies of an engine."""

    def __init__(self, threads: Threads, least_bytes: int) -> None:
        """Args:
        least_bytes: shorter pieces are not worth the trouble.
        """
        self._threads = threads
        self._least_bytes = least_bytes
        self._announced: deque[HashTicket] = deque()
        self._hashing = threading.Lock()
        self.rounds = 0
        self.pieces = 0

    def start(self, digests: DigestSet, view: memoryview) -> HashTicket | None:
        """Announce `view` for the stream of `digests`; None when there is none, or the caller does it better itself
        (`DigestSet.update_stream`). One piece of a body at a time. On the loop, before the piece's job is started.

        Whoever gets a ticket waits for it, whatever happens.
        """
        stream = digests.stream
        if stream is None or len(view) < self._least_bytes:
            return None
        ticket = HashTicket(self, stream, view)
        is_alone = not self._announced and not self._threads.outstanding
        self._announced.append(ticket)
        if is_alone:
            self._threads.start_unawaited(lambda: self.hash_until(ticket))
        return ticket

    def join(self, stream: bodyhash.BodyHash, view: memoryview) -> HashTicket:
        """Announce `view` for `stream` from a thread, which waits for it when it has written."""
        ticket = HashTicket(self, stream, view)
        self._announced.append(ticket)
        return ticket

    def hash_until(self, ticket: HashTicket) -> None:
        """Hash what has been announced, until that includes `ticket`. Blocks on the processor."""
        while not ticket.ended:
            with self._hashing:
                if not ticket.ended:
                    self._hash_round()

    def _hash_round(self) -> None:
        announced = self._announced
        tickets = [announced.popleft() for _ in range(min(LANES, len(announced)))]
        failure: Exception | None = None
        try:
            bodyhash.update_many([(ticket.stream, ticket.view) for ticket in tickets])
        except (ValueError, RuntimeError, MemoryError) as error:
            failure = error
        self.rounds += 1
        self.pieces += len(tickets)
        for ticket in tickets:
            ticket.failure = failure
            ticket.ended = True
