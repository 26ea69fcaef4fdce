"""Where idle connections wait for their next request: all of a server's in one epoll, watched by one task.

Waiting in trio costs a connection some 20 µs a request: a system call to be watched, a turn of the scheduler, the way
down and up through its coroutines. Parked connections are watched without any of that. When bytes arrive for some of
them, the watching task receives, and where the application knows a shortcut (`shortcut.py`) it answers on the spot: the
connection stays parked and its task sleeps on. Every other request wakes the connection's task and hands it the bytes.

Only plain sockets are parked; a TLS connection waits in its own task as before. For one loop.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

import outcome
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, reschedule, wait_readable, wait_task_rescheduled

from rs3d.clock import Clock
from rs3d.http.buffers import ReceiveBuffer, ReceiveBufferPool
from rs3d.http.deadlines import Deadline, Watchdog
from rs3d.http.messages import Buffer
from rs3d.http.observer import Observer
from rs3d.http.shortcut import FindShortcut, Shortcut, Taken
from rs3d.http.transport import TransportInterrupted, rest_of

logger = logging.getLogger(__name__)

TURN_CONNECTIONS: Final = 64
"""Connections answered before other tasks get their turn: at some 20 µs each about a millisecond."""


class Unsent(NamedTuple):
    """A shortcut's answer that the socket did not take whole: the connection's task sends the rest."""

    rest: list[Buffer]
    taken: Taken
    started_ns: int


Arrival = ReceiveBuffer | Unsent | None
"""What wakes a parked connection: bytes, an answer half sent, or None at the end of the stream."""


class _Parked:
    __slots__ = ("deadline", "idle_timeout_s", "peer", "socket", "takes_shortcuts", "task")

    def __init__(
        self, task: Task, connected: socket.socket, deadline: Deadline, peer: str, takes: bool, idle_s: float
    ) -> None:
        self.task = task
        self.socket = connected
        self.deadline = deadline
        self.peer = peer
        self.takes_shortcuts = takes
        self.idle_timeout_s = idle_s


class Parking:
    """The idle connections of one server. `run` watches them for ever; a connection calls `wait`."""

    def __init__(
        self,
        *,
        pool: ReceiveBufferPool,
        clock: Clock,
        observer: Observer,
        watchdog: Watchdog,
        find_shortcut: FindShortcut | None,
        may_take: Callable[[], bool],
    ) -> None:
        """Args:
        find_shortcut: None when the application has none.
        may_take: whether shortcuts are taken in this turn (not while overloaded, nor while draining).
        """
        self._epoll = select.epoll()
        self._parked: dict[int, _Parked] = {}
        self._pool = pool
        self._clock = clock
        self._observer = observer
        self._watchdog = watchdog
        self._find_shortcut = find_shortcut
        self._may_take = may_take

    def __len__(self) -> int:
        return len(self._parked)

    async def wait(
        self, connected: socket.socket, deadline: Deadline, peer: str, *, takes_shortcuts: bool, idle_timeout_s: float
    ) -> Arrival:
        """Park until bytes arrive.

        Args:
            connected: a non-blocking socket; it stays the caller's.
            deadline: the connection's, fixed at when waiting has to end; moved on by each answer given here.
            takes_shortcuts: whether requests of this connection may be answered here.
            idle_timeout_s: how long it may wait from each such answer on.

        Returns:
            A leased buffer with what was received; Unsent; or None at the end of the stream.

        Raises:
            TransportInterrupted: by `interrupt`. trio.BrokenResourceError: the peer has gone.

        Cancellation: nothing was received.
        """
        fd = connected.fileno()
        parked = _Parked(
            trio.lowlevel.current_task(), connected, deadline, peer, takes_shortcuts, idle_timeout_s
        )
        self._parked[fd] = parked
        self._epoll.register(fd, select.EPOLLIN)

        def abort(_raise_cancel: RaiseCancelT) -> Abort:
            self._forget(fd)
            return Abort.SUCCEEDED

        arrived: Arrival = await wait_task_rescheduled(abort)
        return arrived

    def interrupt(self, fd: int) -> bool:
        """Make the wait of this descriptor raise TransportInterrupted; whether it is parked here."""
        parked = self._parked.get(fd)
        if parked is None:
            return False
        self._wake(fd, parked, outcome.Error(TransportInterrupted()))
        return True

    async def run(self) -> None:
        """Watch for ever."""
        try:
            while True:
                await wait_readable(self._epoll.fileno())
                self._turn(self._epoll.poll(0, TURN_CONNECTIONS))
        finally:
            self._epoll.close()

    # ------------------------------------------------------------------------------------------------------- a turn

    def _turn(self, events: list[tuple[int, int]]) -> None:
        shortcut = self._find_shortcut() if self._find_shortcut is not None and self._may_take() else None
        buffer = self._pool.lease()
        if shortcut is not None:
            shortcut.begin()
        try:
            for fd, _ in events:
                parked = self._parked.get(fd)
                if parked is not None:
                    buffer = self._arrived(fd, parked, buffer, shortcut if parked.takes_shortcuts else None)
        finally:
            if shortcut is not None:
                shortcut.end()
            self._pool.release(buffer)

    def _arrived(self, fd: int, parked: _Parked, buffer: ReceiveBuffer, shortcut: Shortcut | None) -> ReceiveBuffer:
        """Receive for one connection, and answer or wake it; returns the buffer for the next."""
        try:
            count = parked.socket.recv_into(buffer.data)
        except BlockingIOError:
            return buffer
        except OSError as error:
            self._wake(fd, parked, outcome.Error(trio.BrokenResourceError(str(error))))
            return buffer
        if count == 0:
            self._wake(fd, parked, outcome.Value(None))
            return buffer
        if shortcut is not None:
            started_ns = self._clock.boot_ns()
            taken = _answer(shortcut, buffer.data, count)
            # What is pipelined behind it goes the long way with it: answers keep their order.
            if taken is not None and taken.stop == count:
                self._send(fd, parked, taken, started_ns)
                return buffer
        buffer.end = count
        self._wake(fd, parked, outcome.Value(buffer))
        return self._pool.lease()

    def _send(self, fd: int, parked: _Parked, taken: Taken, started_ns: int) -> None:
        buffers = taken.buffers
        try:
            rest = rest_of(buffers, parked.socket.sendmsg(buffers))
        except BlockingIOError:
            rest = buffers
        except OSError as error:
            self._wake(fd, parked, outcome.Error(trio.BrokenResourceError(str(error))))
            return
        if rest:
            self._wake(fd, parked, outcome.Value(Unsent(rest, taken, started_ns)))
            return
        parked.deadline.fix(self._watchdog.after(parked.idle_timeout_s))
        self._observer.shortcut_taken(taken, self._clock.boot_ns() - started_ns)

    def _wake(self, fd: int, parked: _Parked, result: outcome.Outcome[Arrival]) -> None:
        self._forget(fd)
        reschedule(parked.task, result)

    def _forget(self, fd: int) -> None:
        del self._parked[fd]
        if not self._epoll.closed:  # it is when the whole server was cancelled
            self._epoll.unregister(fd)


def _answer(shortcut: Shortcut, data: bytearray, count: int) -> Taken | None:
    try:
        return shortcut.answer(data, 0, count)
    except Exception:
        # A mistake of the application's: the long way has its own answer, and this task serves all connections.
        logger.exception("a shortcut failed")
        return None
