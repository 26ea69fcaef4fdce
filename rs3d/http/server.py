"""Accepting connections: from inherited listeners that several worker processes share, within limits, until drained."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import trio

from rs3d.clock import Clock, SystemClock
from rs3d.http.balance import PATIENCE_S, ConnectionBoard
from rs3d.http.buffers import ReceiveBufferPool
from rs3d.http.connection import Admission, Connection, Load, Service
from rs3d.http.deadlines import Watchdog
from rs3d.http.filesending import FileSenders
from rs3d.http.handover import Handover
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import Handler, Render
from rs3d.http.observer import Observer, SilentObserver
from rs3d.http.parking import Companion, Parking
from rs3d.http.refusals import render_plain
from rs3d.http.shortcut import FindShortcut
from rs3d.http.tls import TlsTransport, require_modern_tls
from rs3d.http.transport import SocketTransport, Transport
from rs3d.http.wire import HeadWriter
from rs3d.telemetry.logs import fields

logger = logging.getLogger(__name__)

ACCEPT_BACKOFF_S: Final = 0.1
"""Pause after accept failed for lack of descriptors or memory: clients wait in the queue, a busy loop helps nobody."""

REFUSING_CONNECTIONS: Final = 64
"""Connections above the limit that are kept for a moment to be told 503; still more are reset at once."""

_PEER_GAVE_UP: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH})
"""accept(2): errors of the one connection that was being accepted, to be treated like EAGAIN."""

Tls = Callable[[], ssl.SSLContext | None]

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | str | bytes


class _Serving:
    """One running `serve` call, as its control sees it."""

    __slots__ = ("accepting", "board", "connections", "emptied", "running", "service")

    def __init__(self, service: Service, board: ConnectionBoard | None) -> None:
        self.service = service
        self.board = board
        self.connections: set[Connection] = set()
        self.accepting = trio.CancelScope()
        self.running = trio.CancelScope()
        self.emptied = trio.Event()

    def add(self, connection: Connection) -> None:
        self.connections.add(connection)
        self.service.watchdog.members.add(connection)
        self.service.load.connections += 1
        self._publish()

    def remove(self, connection: Connection) -> None:
        self.service.load.connections -= 1
        self._publish()
        self.connections.discard(connection)
        self.service.watchdog.members.discard(connection)
        if self.service.draining and not self.connections:
            self.emptied.set()

    def _publish(self) -> None:
        if self.board is not None and not self.service.draining:
            self.board.publish(self.service.load.connections)

    def begin_drain(self) -> None:
        self.service.draining = True
        self.accepting.cancel()
        for connection in list(self.connections):
            if connection.is_idle:
                # TLS passes through the scheduler now and then before it waits: the deadline catches it there.
                connection.deadline.pass_now()
                connection.interrupt()
        if not self.connections:
            self.emptied.set()


class ServerControl:
    """One handle for all `serve` calls of a process: counts their connections, and drains them together."""

    def __init__(self, board: ConnectionBoard | None = None) -> None:
        """Args:
        board: where processes that share listeners tell each other how many connections they have; None when no
            other process shares them.
        """
        self._board = board
        if board is not None:
            board.publish(0)
        self._servings: set[_Serving] = set()
        self._load = Load()
        self._draining = False

    @property
    def connection_count(self) -> int:
        """Open connections, those being refused included."""
        return self._load.connections

    @property
    def requests_in_flight(self) -> int:
        """Requests whose handlers are working or whose responses are being sent."""
        return self._load.in_flight

    @property
    def draining(self) -> bool:
        """Whether `drain` was called. A `serve` that begins after it returns at once."""
        return self._draining

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, close idle connections, let exchanges in flight finish with `Connection: close`.

        Returns when every connection has ended; those that have not after `timeout_s` are cancelled and reset. The
        `serve` calls then return. The listeners stay open: they belong to the caller, and other workers use them.
        """
        self._draining = True
        if self._board is not None:
            self._board.leave()
        servings = list(self._servings)
        for serving in servings:
            serving.begin_drain()
        with trio.move_on_after(timeout_s):
            for serving in servings:
                await serving.emptied.wait()
        for serving in servings:
            serving.running.cancel()

    def _enter(self, serving: _Serving) -> None:
        self._servings.add(serving)
        if self._draining:
            serving.begin_drain()

    def _leave(self, serving: _Serving) -> None:
        self._servings.discard(serving)


async def serve(
    listeners: Sequence[trio.socket.SocketType],
    handler: Handler,
    *,
    limits: HttpLimits | None = None,
    tls: Tls | None = None,
    render: Render = render_plain,
    control: ServerControl | None = None,
    observer: Observer | None = None,
    clock: Clock | None = None,
    find_shortcut: FindShortcut | None = None,
    companions: Sequence[Companion] = (),
    handover: Handover | None = None,
) -> None:
    """Serve HTTP/1.1 on listening sockets until the control has drained this server, or the caller cancels.

    Args:
        listeners: bound, listening TCP sockets of either family; they stay the caller's and may be shared with other
            processes. Serve plain and TLS listeners by two calls with one control.
        handler: called for each request in the connection's task.
        limits: every bound.
        tls: called for each new connection; the context it returns is used for that one, None serves plain HTTP. Must
            not raise: a certificate that cannot be read is noticed at reload, where the old context is kept.
        render: turns errors and refusals into responses.
        control: for counting and draining.
        observer: told of connections and exchanges.
        clock: for the Date field and durations. Timeouts use trio's clock.
        find_shortcut: the application's shortcut, asked for in each turn; plain connections only.
        companions: whose descriptors are waited for together with idle connections, for as long as this serves.
        handover: to exchange idle connections with other processes that serve the same; plain connections only.

    Error handling:
        An exception of the handler becomes a response by `render`; one of this package is logged and ends only its
        connection. Errors of accept that concern the machine are logged and retried after ACCEPT_BACKOFF_S.

    Cancellation: resets the connections at once; use `ServerControl.drain` to end well.
    """
    limits = limits or HttpLimits()
    clock = clock or SystemClock()
    control = control or ServerControl()
    service = new_service(
        handler,
        limits,
        clock,
        render=render,
        observer=observer,
        load=control._load,
        find_shortcut=find_shortcut,
        companions=companions,
        handover=handover,
    )
    serving = _Serving(service, control._board)
    control._enter(serving)
    try:
        with serving.running:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service.watchdog.run)
                nursery.start_soon(service.parking.run)
                with serving.accepting:
                    async with trio.open_nursery() as acceptors:
                        for listener in listeners:
                            acceptors.start_soon(_accept, listener, tls, serving, nursery)
                        if handover is not None:
                            acceptors.start_soon(_take_over, handover, serving, nursery)
                await serving.emptied.wait()
                nursery.cancel_scope.cancel()
    finally:
        service.senders.close()
        control._leave(serving)


def new_service(
    handler: Handler,
    limits: HttpLimits,
    clock: Clock,
    *,
    render: Render = render_plain,
    observer: Observer | None = None,
    load: Load | None = None,
    find_shortcut: FindShortcut | None = None,
    companions: Sequence[Companion] = (),
    handover: Handover | None = None,
) -> Service:
    """What the connections of one server share; its watchdog and its parking are still to be run. Within trio."""
    observer = observer or SilentObserver()
    load = load or Load()
    pool = ReceiveBufferPool()
    watchdog = Watchdog()
    parking = Parking(
        pool=pool,
        clock=clock,
        observer=observer,
        watchdog=watchdog,
        find_shortcut=find_shortcut,
        may_take=lambda: (
            not (
                service.draining
                or observer.wants_requests
                or load.in_flight + parking.answering >= limits.requests_in_flight
            )
        ),
        is_draining=lambda: service.draining,
        companions=companions,
        handover=handover,
    )
    service = Service(
        handler=handler,
        render=render,
        limits=limits,
        clock=clock,
        observer=observer,
        pool=pool,
        writer=HeadWriter(clock),
        next_request_id=request_ids(),
        watchdog=watchdog,
        load=load,
        parking=parking,
        senders=FileSenders(),
    )
    return service


async def _accept(listener: trio.socket.SocketType, tls: Tls | None, serving: _Serving, nursery: trio.Nursery) -> None:
    """Accept from one listener, one connection a turn of the loop.

    All workers wait on the same listener and are woken together. Taking one at a time and going through the scheduler
    in between lets a busy worker come last by itself; the board lets one that has more connections come last.
    """
    with socket.socket(fileno=os.dup(listener.fileno())) as accepting:
        accepting.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(accepting.fileno())
            if serving.board is not None and serving.board.is_ahead(serving.service.load.connections):
                await trio.sleep(PATIENCE_S)
            try:
                connected, address = accepting.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno not in _PEER_GAVE_UP:
                    logger.warning("accept failed", extra=fields(error=str(error)))
                    await trio.sleep(ACCEPT_BACKOFF_S)
                continue
            _admit(connected, address, tls, serving, nursery)


async def _take_over(handover: Handover, serving: _Serving, nursery: trio.Nursery) -> None:
    """Go on with the connections that others hand over. They were within the limits when they were accepted."""
    while True:
        await trio.lowlevel.wait_readable(handover.fileno())
        try:
            arrived = handover.receive()
        except EOFError:
            return
        for connected in arrived:
            try:
                transport = _transport(connected, connected.getpeername(), serving)
            except OSError:  # the client has gone
                connected.close()
                continue
            _begin(Connection(transport, serving.service, Admission.TAKEN_OVER), serving, nursery)


def _transport(connected: socket.socket, address: SocketAddress, serving: _Serving) -> SocketTransport:
    local = format_address(connected.getsockname())
    return SocketTransport(connected, format_address(address), local, serving.service.senders)


def _admit(
    connected: socket.socket, address: SocketAddress, tls: Tls | None, serving: _Serving, nursery: trio.Nursery
) -> None:
    transport: Transport
    transport = plain = _transport(connected, address, serving)
    context = tls() if tls is not None else None
    if context is not None:
        transport = TlsTransport(plain, require_modern_tls(context))
    limit = serving.service.limits.connections
    excess = serving.service.load.connections - limit
    if excess >= 0:
        logger.warning("too many connections", extra=fields(limit=limit, peer=plain.peer))
    if excess >= REFUSING_CONNECTIONS:
        transport.abort()
        return
    admission = Admission.REFUSED if excess >= 0 else Admission.OPEN
    _begin(Connection(transport, serving.service, admission), serving, nursery)


def _begin(connection: Connection, serving: _Serving, nursery: trio.Nursery) -> None:
    serving.add(connection)
    nursery.start_soon(_run, connection, serving)


async def _run(connection: Connection, serving: _Serving) -> None:
    try:
        await connection.run()
    finally:
        serving.remove(connection)


def format_address(address: SocketAddress) -> str:
    """`ip:port`, IPv6 in brackets, an IPv4 address mapped into IPv6 as what it is; `unix` for a local socket."""
    if not isinstance(address, tuple):
        return "unix"
    host, port = address[0], address[1]
    if ":" not in host:
        return f"{host}:{port}"
    if host.lower().startswith("::ffff:") and "." in host:
        return f"{host[7:]}:{port}"
    return f"[{host}]:{port}"


def request_ids() -> Callable[[], str]:
    """A source of request ids: 16 hexadecimal digits, distinct within the source for 2**64 calls, and in practice among
    all workers. They look random, but are no secret."""
    # An odd step visits all 64-bit values; the golden ratio's spreads neighbours far apart (Weyl sequence).
    states = itertools.count(secrets.randbits(64), 0x9E3779B97F4A7C15)
    # Functions of C throughout: one is made for each request.
    return map("{:016X}".format, map((0xFFFFFFFFFFFFFFFF).__and__, states)).__next__
