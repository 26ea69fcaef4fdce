"""The body of a request on its way from the socket into the handler's buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import trio

from rs3d.errors import IncompleteBody, Rs3dError
from rs3d.http.buffers import ReceiveBuffer
from rs3d.http.chunks import ChunkDecoder
from rs3d.http.framing import Expectation, Framing
from rs3d.http.limits import HttpLimits
from rs3d.http.receivedfile import ReceivedFile
from rs3d.http.refusals import HttpRefusal, RefusalKind
from rs3d.http.transport import Transport, TransportInterrupted
from rs3d.http.wire import CONTINUE

# Looking up a member of an enum class runs Python code in 3.11; a module constant does not.
_CONTINUE: Final = Expectation.CONTINUE


class BodyOwner(Protocol):
    """The connection, as far as a body sees it."""

    transport: Transport
    limits: HttpLimits
    buffer: ReceiveBuffer | None
    """What was received behind the head; None when it was given back."""

    def lease_buffer(self) -> ReceiveBuffer:
        """The buffer, leased again if it had been given back."""
        ...

    def release_buffer(self) -> None:
        """Give the buffer back. It must be empty, and no view of it in use."""
        ...


class WireBody:
    """Implements `RequestBody` for both framings.

    `received_bytes` counts what the handler got or what was discarded, without the framing.
    """

    __slots__ = ("_before", "_chunks", "_failure", "_owner", "_paced", "_remaining", "_waits", "lent", "received_bytes")

    def __init__(self, owner: BodyOwner, framing: Framing) -> None:
        self._owner = owner
        self._remaining = framing.body_bytes or 0
        self._chunks = ChunkDecoder(owner.limits.trailer_bytes) if framing.body_bytes is None else None
        self._failure: Rs3dError | None = None
        self._before: ReceivedFile | None = None
        if owner.buffer is not None and owner.buffer.before is not None:
            self._before, owner.buffer.before = owner.buffer.before, None
        self.lent = False
        """Whether `whole` gave out a view of the receive buffer."""
        self._paced = False
        # A client that sent body bytes already is not waiting, whatever it says (RFC 9110, 10.1.1).
        self._waits = framing.expectation is _CONTINUE and not owner.buffer
        self.received_bytes = 0

    @property
    def declared_bytes(self) -> int | None:
        return None if self._chunks is not None else self._remaining + self.received_bytes

    @property
    def finished(self) -> bool:
        """Whether every byte of the body, its framing included, was taken from the connection."""
        return self._chunks.done if self._chunks is not None else self._remaining == 0

    def must_close(self) -> bool:
        """Whether the connection has to end after the response, because what follows on it is unknown or too long.

        Unknown it is after a failure, and while the client waits for `100 Continue`: it may send the body or not.
        """
        return self._waits or self._failure is not None or self._known_remaining() > self._owner.limits.drain_bytes

    def _known_remaining(self) -> int:
        """Bytes still to come as far as the framing has told: the least there can be."""
        return self._chunks.remaining if self._chunks is not None else self._remaining

    @property
    def direct(self) -> WireBody | None:
        return self if self._chunks is None else None

    def lend(self, stop: Callable[[], None]) -> int | None:
        """See `Direct`."""
        if not self._paced or self._failure is not None or self._owner.buffer or self._before is not None:
            return None
        return self._owner.transport.lend(stop)

    def give_back(self, received_bytes: int, waited_s: float, *, is_slow: bool) -> None:
        """See `Direct`."""
        self._owner.transport.give_back(received_bytes, waited_s, is_slow=is_slow)
        self._remaining -= received_bytes
        self.received_bytes += received_bytes

    def whole(self) -> memoryview | None:
        if self._chunks is not None or self.received_bytes or self._failure is not None or self._before is not None:
            return None
        if self._remaining == 0:
            return memoryview(b"")
        buffer = self._owner.buffer
        if buffer is None or len(buffer) < self._remaining:
            return None
        view = buffer.view[buffer.start : buffer.start + self._remaining]
        buffer.start += self._remaining
        self.received_bytes, self._remaining = self._remaining, 0
        self.lent = True
        return view

    async def receive_into(self, buffer: memoryview) -> int:
        if not len(buffer):
            raise ValueError("the buffer is empty")
        if self._failure is not None:
            raise self._failure
        if self.finished:
            return 0
        try:
            if not self._paced:
                await self._begin()
            if self._chunks is not None:
                return await self._receive_chunked(self._chunks, buffer)
            return await self._receive_counted(buffer)
        except TransportInterrupted:
            raise self._fail(
                HttpRefusal(kind=RefusalKind.SLOW_BODY, detail="the body was not received in time")
            ) from None
        except trio.BrokenResourceError as error:
            raise self._fail(self._incomplete()) from error
        except Rs3dError as error:
            self._fail(error)
            raise

    async def _begin(self) -> None:
        transport = self._owner.transport
        transport.deadline.pace(self._owner.limits)
        if self._waits:
            await transport.send([CONTINUE])
            self._waits = False
        self._paced = True

    async def _receive_counted(self, buffer: memoryview) -> int:
        held = self._owner.buffer
        if self._before is not None:
            count = await self._before.read_into(buffer)
            if not self._before.left:
                self.forget_received()
        elif held:
            count = held.take_into(buffer, self._remaining)
            if not held:
                self._owner.release_buffer()
        else:
            count = await self._owner.transport.receive_into(buffer[: self._remaining])
            if count == 0:
                raise self._incomplete()
        self._remaining -= count
        self.received_bytes += count
        return count

    def forget_received(self) -> None:
        """Close the file of what was received before, if there is one that was not read whole: nobody reads on."""
        if self._before is not None:
            self._before.close()
            self._before = None

    async def _receive_chunked(self, chunks: ChunkDecoder, buffer: memoryview) -> int:
        held = self._owner.lease_buffer()
        while not chunks.remaining:
            held.start = chunks.advance(held.data, held.start, held.end)
            if chunks.done:
                return 0
            if not chunks.remaining:
                count = await self._owner.transport.receive_into(held.room())
                if count == 0:
                    raise self._incomplete()
                held.end += count
        if self.received_bytes + chunks.remaining > self._owner.limits.body_bytes:
            detail = f"the body is longer than {self._owner.limits.body_bytes} bytes"
            raise HttpRefusal(kind=RefusalKind.BODY_TOO_LARGE, detail=detail)
        if held:
            count = held.take_into(buffer, chunks.remaining)
        else:
            count = await self._owner.transport.receive_into(buffer[: chunks.remaining])
            if count == 0:
                raise self._incomplete()
        chunks.take(count)
        self.received_bytes += count
        return count

    def _incomplete(self) -> IncompleteBody:
        # With chunks the client declares as it goes: at least the framing that ends a body was still to come.
        declared = self.received_bytes + max(1, self._known_remaining())
        return IncompleteBody(declared_bytes=declared, received_bytes=self.received_bytes)

    def _fail(self, error: Rs3dError) -> Rs3dError:
        self._failure = error
        return error
