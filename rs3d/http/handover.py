"""Idle connections that change the worker: few that put objects share one, those that do else are spread.

What a worker does at a wake, and a packet to the committer, cost much the same whatever is in them. With few
connections a wake of each of two workers finds half of what comes, and small puts cost up to a third more than by one
worker. Large bodies are hashed side by side, four of them for 0.6 of what each costs alone, by threads of one worker.
Reads, which end in the worker, lose by that a core, and deletes, of which the committer has less to do, more
than they gain. What a connection is for shows only after it was accepted. So a worker looks at every connection's last
requests now and then, and one that puts it hands to the first worker, another to the worker with the fewest: the
descriptor itself, by a message to that worker's inbox, between two requests, when all that was received is answered.
What the client has sent meanwhile lies in the socket.

The ends of all inboxes are the supervisor's too, so connections on their way to a worker that dies wait for its
successor. Numbers of the board that are stale send a connection to the wrong place, which can send it on. Without trio:
the supervisor makes the inboxes.
"""

from __future__ import annotations

import array
import socket
from collections.abc import Mapping
from typing import Final

from rs3d.http.balance import ConnectionBoard

HABIT: Final = 32
"""Small puts, or reads and deletes that are answered without the connection's task, after which a connection is looked
at. To be handed over costs both workers some 300 µs, as if each of these took 10 µs more."""

OTHERWISE: Final = HABIT // 8
"""Requests of the other kind meanwhile, at most: a client that does both stays where it is."""

FEW: Final = 32
"""Connections of all workers together, up to which those that put share one: more fill the packets of two as well."""

LARGE_BODY_BYTES: Final = 4 * 1024 * 1024
"""Length of a body, one of which is habit enough: to receive and hash it takes 8 ms."""

SETTLING_NS: Final = 10_000_000
"""Between two that a worker sends to the emptiest: by then the board counts the first. All that are due in one turn
would leave the emptiest the fullest, and come back."""

_NOTICE: Final = b"c"
_RIGHTS_BYTES: Final = socket.CMSG_SPACE(array.array("i").itemsize)


def make_inbox() -> tuple[socket.socket, socket.socket]:
    """One worker's inbox, and the end that the others write to. The caller's, who hands out duplicates.

    Raises:
        OSError: no descriptor is left.
    """
    inbox, outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    inbox.setblocking(False)
    outbox.setblocking(False)
    return inbox, outbox


class HandedOver(Exception):
    """A connection is another process's: close the descriptor, and do nothing to the socket behind it."""


class Handover:
    """One worker among those that hand each other connections. Loop-safe; nothing here blocks."""

    __slots__ = ("_board", "_inbox", "_most", "_outboxes", "_settled_ns")

    def __init__(
        self,
        board: ConnectionBoard,
        inbox: socket.socket,
        outboxes: Mapping[int, socket.socket],
        most: int,
    ) -> None:
        """Args:
        board: this worker's place, where it publishes how many connections it has.
        inbox: of this worker; owned.
        outboxes: those of the others, by their slots on the board; owned.
        most: connections that each worker may have: so many of all workers together may be one's.
        """
        self._board = board
        self._inbox = inbox
        self._outboxes = outboxes
        self._most = min(FEW, most)
        self._settled_ns = 0

    def place_for(self, puts: int, others: int, now_ns: int) -> int | None:
        """The slot of a worker that is a better place than this one for a connection with so many small puts and
        other requests of late; None when this one is as good."""
        if others <= OTHERWISE:
            slot = self._board.first_of_few(self._most)
        elif puts <= OTHERWISE and now_ns >= self._settled_ns:
            slot = self._board.emptier()
            if slot is not None:
                self._settled_ns = now_ns + SETTLING_NS
        else:
            return None
        return slot if slot in self._outboxes else None

    def send(self, slot: int, connected: socket.socket) -> bool:
        """Give a worker a duplicate of this connection. False when it takes no more: the connection stays."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connected.fileno()]))]
        try:
            self._outboxes[slot].sendmsg([_NOTICE], rights, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def fileno(self) -> int:
        """The inbox: readable when connections have come."""
        return self._inbox.fileno()

    def receive(self) -> list[socket.socket]:
        """Connections that were handed to this worker, the caller's from now on.

        Raises:
            EOFError: none will come any more: the supervisor is gone.
        """
        found = list[socket.socket]()
        while True:
            try:
                notice, rights, _, _ = self._inbox.recvmsg(len(_NOTICE), _RIGHTS_BYTES, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return found
            if not notice and not found:
                raise EOFError("the inbox was closed")
            if not notice:
                return found
            for _, _, data in rights:
                descriptors = array.array("i")
                descriptors.frombytes(data)
                found += [socket.socket(fileno=descriptor) for descriptor in descriptors]
