"""One connection: heads in, responses out, one after the other, until one side has had enough.

No nursery, no cancel scope and no task for a single request: everything happens in the connection's own task, and the
only clock is the transport's deadline (`deadlines.py`). Order of events in an exchange:

    wait for bytes → head → framing → admission → handler (which pulls the body) → response → rest of the body → again
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from rs3d.clock import Clock
from rs3d.errors import RequestError
from rs3d.http.body import WireBody
from rs3d.http.buffers import ReceiveBuffer, ReceiveBufferPool
from rs3d.http.deadlines import Watchdog
from rs3d.http.filesending import FileSenders
from rs3d.http.framing import Framing, Persistence, read_framing
from rs3d.http.handover import LARGE_BODY_BYTES, HandedOver
from rs3d.http.heads import read_head
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import After, Handler, Head, Render, Request, Response, SendOutcome
from rs3d.http.observer import Exchange, Observer
from rs3d.http.parking import Parking
from rs3d.http.refusals import HttpRefusal, RefusalKind
from rs3d.http.sending import BodyCut, Sent, deliver
from rs3d.http.transport import Transport, TransportInterrupted
from rs3d.http.wire import HeadWriter
from rs3d.telemetry.logs import fields

logger = logging.getLogger(__name__)


class Phase(enum.Enum):
    """What a connection is doing, as far as draining is concerned."""

    IDLE = "idle"
    """Before the first request or between two, no byte of the next one received."""
    BUSY = "busy"


class Admission(enum.Enum):
    """Whether a connection's requests are handled."""

    OPEN = "open"
    TAKEN_OVER = "taken over"
    """From another process, between two requests (`handover.py`)."""
    REFUSED = "refused"
    """There were too many connections when it came: its first request is answered 503, then it is closed."""


# Looking up a member of an enum class runs Python code in 3.11; a module constant does not.
_IDLE: Final = Phase.IDLE
_BUSY: Final = Phase.BUSY
_REFUSED: Final = Admission.REFUSED
_CLOSE: Final = After.CLOSE
_KEEP_ALIVE: Final = After.KEEP_ALIVE
_CLOSING: Final = Persistence.CLOSE
_CUT: Final = SendOutcome.CUT
_COMPLETE: Final = SendOutcome.COMPLETE


@dataclass(slots=True)
class Load:
    """How busy a process is with connections and requests, over all its servers."""

    connections: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class Service:
    """What all connections of one server share."""

    handler: Handler
    render: Render
    limits: HttpLimits
    clock: Clock
    observer: Observer
    pool: ReceiveBufferPool
    writer: HeadWriter
    next_request_id: Callable[[], str]
    watchdog: Watchdog
    load: Load
    parking: Parking
    senders: FileSenders
    draining: bool = False


class Connection:
    """Serves the requests of one transport with `run`."""

    __slots__ = (
        "_admission",
        "_had_large_body",
        "_parkable",
        "_service",
        "buffer",
        "deadline",
        "limits",
        "phase",
        "transport",
    )

    def __init__(self, transport: Transport, service: Service, admission: Admission = Admission.OPEN) -> None:
        self.transport = transport
        self.deadline = transport.deadline
        self.limits = service.limits
        self.buffer: ReceiveBuffer | None = None
        self.phase = Phase.BUSY
        self._service = service
        self._admission = admission
        self._parkable = transport.parkable
        self._had_large_body = False
        """Whether it has to be looked at if another worker is the better place for the next one."""

    def interrupt(self) -> None:
        """See `Transport.interrupt`."""
        parkable = self._parkable
        if parkable is None or not self._service.parking.interrupt(parkable.fileno()):
            self.transport.interrupt()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost when the connection ends now."""
        parkable = self._parkable
        return self.phase is _IDLE and (parkable is None or not self._service.parking.is_answering(parkable.fileno()))

    def lease_buffer(self) -> ReceiveBuffer:
        """See `BodyOwner`."""
        if self.buffer is None:
            self.buffer = self._service.pool.lease()
        return self.buffer

    def release_buffer(self) -> None:
        """See `BodyOwner`."""
        if self.buffer is not None:
            self._service.pool.release(self.buffer)
            self.buffer = None

    async def run(self) -> None:
        """Serve until the connection ends. The transport is closed when this returns or raises.

        An exception that is no refusal and no answer of the handler is a mistake of this package: it is logged and
        ends this connection only.
        """
        observer = self._service.observer
        if self._admission is Admission.TAKEN_OVER:
            observer.connection_taken_over(self.transport.peer)
        else:
            observer.connection_opened(self.transport.peer)
        try:
            await self._serve()
        except HandedOver:
            self.transport.close()
        except (trio.BrokenResourceError, TransportInterrupted, BodyCut):
            self.transport.abort()
        except Exception:
            logger.exception("a connection failed", extra=fields(peer=self.transport.peer))
            self.transport.abort()
        finally:
            # Nothing after a clean end. When cancelled: the client must not take a cut answer for a whole one.
            self.transport.abort()
            self.release_buffer()
            observer.connection_closed(self.transport.peer)

    async def _serve(self) -> None:
        limits = self.limits
        if self._service.draining:
            return
        self.deadline.fix(trio.current_time() + limits.head_timeout_s)
        self.phase = _IDLE
        await self.transport.open()
        self.phase = _BUSY
        idle_timeout_s = limits.idle_timeout_s if self._admission is Admission.TAKEN_OVER else limits.head_timeout_s
        while True:
            try:
                head = await self._receive_head(idle_timeout_s)
            except HttpRefusal as refusal:
                await self._refuse(refusal)
                await self._linger()
                return
            if head is None:
                await self._say_goodbye()
                return
            if await self._exchange(head) is _CLOSE:
                await self._linger()
                return
            idle_timeout_s = limits.idle_timeout_s

    # ------------------------------------------------------------------------------------------------------- heads

    async def _receive_head(self, idle_timeout_s: float) -> Head | None:
        """The next head; None when the client is done, was idle for too long, or the server drains."""
        service = self._service
        buffer = self.buffer
        if not buffer:
            self.release_buffer()
            if service.draining:
                return None
            if self._had_large_body:
                self._had_large_body = False
                if self._parkable is not None and service.parking.hand_over(self._parkable):
                    raise HandedOver
            buffer = self.buffer = await self._first_bytes(idle_timeout_s)
            if buffer is None:
                return None
        else:
            # A pipelined request: nothing has been waited for since the last one, so let other connections run.
            await trio.lowlevel.checkpoint()
        found = read_head(buffer.data, buffer.view, buffer.start, buffer.end, self.limits)
        if found is None:
            found = await self._receive_rest_of_head(buffer)
            if found is None:
                return None
        head, buffer.start = found
        self.deadline.lift()
        return head

    async def _first_bytes(self, idle_timeout_s: float) -> ReceiveBuffer | None:
        """The next bytes of an idle connection; None when the client is done, was idle for too long, or the server
        drains."""
        service = self._service
        parkable = self._parkable
        self.deadline.fix(service.watchdog.after(idle_timeout_s))
        self.phase = _IDLE
        try:
            if parkable is None:
                return await self.transport.receive_first(service.pool)
            return await service.parking.wait(
                parkable,
                self.deadline,
                self.transport.peer,
                takes_shortcuts=self._admission is not _REFUSED,
                limits=self.limits,
            )
        except TransportInterrupted:
            return None
        finally:
            self.phase = _BUSY

    async def _receive_rest_of_head(self, buffer: ReceiveBuffer) -> tuple[Head, int] | None:
        self.deadline.fix(trio.current_time() + self.limits.head_timeout_s)
        found = None
        while found is None:
            try:
                count = await self.transport.receive_into(buffer.room())
            except TransportInterrupted:
                detail = f"the request head was not complete after {self.limits.head_timeout_s:g} s"
                raise HttpRefusal(kind=RefusalKind.SLOW_HEAD, detail=detail) from None
            if count == 0:
                return None
            buffer.end += count
            found = read_head(buffer.data, buffer.view, buffer.start, buffer.end, self.limits)
        return found

    # --------------------------------------------------------------------------------------------------- exchanges

    async def _exchange(self, head: Head) -> After:
        """Handle one request and send its response."""
        try:
            framing = read_framing(head, self.limits.body_bytes)
        except HttpRefusal as refusal:
            await self._refuse(refusal, head)
            return _CLOSE
        body = WireBody(self, framing)
        try:
            return await self._exchange_with(head, framing, body)
        finally:
            body.forget_received()

    async def _exchange_with(self, head: Head, framing: Framing, body: WireBody) -> After:
        service = self._service
        transport = self.transport
        request_id = service.next_request_id()
        request = Request(
            head, body, transport.peer, transport.local, transport.scheme, request_id, service.clock.boot_ns()
        )
        service.observer.request_started(request)
        service.load.in_flight += 1
        try:
            try:
                if self._admission is _REFUSED or service.load.in_flight > self.limits.requests_in_flight:
                    raise self._busy()
                response = await service.handler(request)
            except Exception as error:
                response = service.render(error, request, request_id)
            if self.buffer is not None and not self.buffer and not body.lent:
                # A slow client of a long answer holds no receive buffer.
                self.release_buffer()
            after = _KEEP_ALIVE
            if (
                framing.persistence is _CLOSING
                or response.after is _CLOSE
                or service.draining
                or self._admission is _REFUSED
                or body.must_close()
            ):
                after = _CLOSE
            service.observer.response_head(request, response.status)
            after = await self._answer(request, response, body, after)
        finally:
            service.load.in_flight -= 1
        if after is _KEEP_ALIVE and not body.finished:
            after = await self._drain(body)
        self._had_large_body |= body.received_bytes >= LARGE_BODY_BYTES
        return after

    def _busy(self) -> HttpRefusal:
        if self._admission is _REFUSED:
            return HttpRefusal(kind=RefusalKind.TOO_MANY_CONNECTIONS, detail="the server has too many connections")
        return HttpRefusal(kind=RefusalKind.TOO_MANY_REQUESTS, detail="the server is busy; reduce your request rate")

    async def _answer(self, request: Request, response: Response, body: WireBody, after: After) -> After:
        """Send `response`; when that proves impossible before its head has left, send an error in its place.

        Returns:
            What became of `after`.
        """
        service = self._service
        sent = Sent()
        status = response.status
        outcome = _CUT
        try:
            try:
                after = await deliver(self.transport, service.writer, self.limits, request.head, response, after, sent)
            except (TransportInterrupted, trio.BrokenResourceError):
                raise
            except BodyCut as cut:
                logger.warning("a response was cut", extra=fields(reason=str(cut), peer=request.peer))
                raise
            except Exception as error:
                if sent.head_sent:
                    logger.exception("a response body failed", extra=fields(peer=request.peer))
                    raise BodyCut("the body failed while it was sent") from error
                replacement = service.render(error, request, request.request_id)
                status = replacement.status
                after = await deliver(
                    self.transport, service.writer, self.limits, request.head, replacement, After.CLOSE, sent
                )
            outcome = _COMPLETE
            return after
        finally:
            self._report(request, request.request_id, status, body.received_bytes, sent, request.received_ns, outcome)

    async def _refuse(self, refusal: HttpRefusal, head: Head | None = None) -> None:
        """Answer a head that no handler sees. The caller closes the connection."""
        service = self._service
        request_id = service.next_request_id()
        started_ns = service.clock.boot_ns()
        response = service.render(refusal, None, request_id)
        sent = Sent()
        outcome = SendOutcome.CUT
        try:
            shown = head or _UNREADABLE_HEAD
            await deliver(self.transport, service.writer, self.limits, shown, response, After.CLOSE, sent)
            outcome = SendOutcome.COMPLETE
        finally:
            self._report(None, request_id, response.status, 0, sent, started_ns, outcome)

    def _report(
        self,
        request: Request | None,
        request_id: str,
        status: int,
        bytes_in: int,
        sent: Sent,
        started_ns: int,
        outcome: SendOutcome,
    ) -> None:
        service = self._service
        duration_ns = service.clock.boot_ns() - started_ns
        service.observer.request_finished(
            Exchange(request, request_id, self.transport.peer, status, bytes_in, sent.body_bytes, duration_ns, outcome)
        )

    # --------------------------------------------------------------------------------------------------------- ends

    async def _drain(self, body: WireBody) -> After:
        """Throw the unread rest of a body away, if it is short, so that the connection can be used again."""
        self.deadline.pace(self.limits)
        scratch = self._service.pool.lease()
        left = self.limits.drain_bytes
        try:
            while not body.finished:
                left -= await body.receive_into(scratch.view)
                if left < 0:
                    return After.CLOSE
        except RequestError:
            return After.CLOSE
        finally:
            self._service.pool.release(scratch)
        return After.KEEP_ALIVE

    async def _say_goodbye(self) -> None:
        """Close between requests, when no answer can be lost. TLS peers are told, lest they suspect a cut."""
        self.deadline.fix(trio.current_time() + self.limits.linger_timeout_s)
        with contextlib.suppress(TransportInterrupted, trio.BrokenResourceError):
            await self.transport.finish_sending()
        self.transport.close()

    async def _linger(self) -> None:
        """Close so that the client can still read what was sent.

        A close with unread bytes in the receive queue, or bytes arriving after it, makes the kernel send a reset, which
        may overtake the answer. So: end our direction, throw away what comes, close when the client has closed or has
        had its time (RFC 9112, 9.6).
        """
        self.deadline.fix(trio.current_time() + self.limits.linger_timeout_s)
        buffer = self.lease_buffer()
        left = self.limits.linger_bytes
        try:
            await self.transport.finish_sending()
            while left > 0:
                count = await self.transport.discard(buffer.view)
                if count == 0:
                    break
                left -= count
        except (TransportInterrupted, trio.BrokenResourceError):
            pass
        self.transport.close()


_UNREADABLE_HEAD = Head(method="", target=b"", version=(1, 1), headers=())
"""Stands for a head that was refused: it is answered in HTTP/1.1, with a body."""
