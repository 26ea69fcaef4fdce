"""A response on its way out: head and body in as few system calls as possible, and never a clean end of half a body."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import trio

from rs3d.http.limits import HttpLimits
from rs3d.http.messages import (
    After,
    Body,
    Buffer,
    Bytes,
    FdOwnership,
    FileSpan,
    FileSpans,
    Head,
    NoBody,
    Response,
    SendOutcome,
    Stream,
)
from rs3d.http.transport import More, Transport
from rs3d.http.wire import LAST_CHUNK, ConnectionField, HeadWriter, Unnumbered

# Looking up a member of an enum class runs Python code in 3.11; a module constant does not.
_CLOSE: Final = After.CLOSE
_ABSENT: Final = ConnectionField.ABSENT
_UNTIL_CLOSE: Final = Unnumbered.UNTIL_CLOSE
_CUT: Final = SendOutcome.CUT
_COMPLETE: Final = SendOutcome.COMPLETE

LOOK_AGAIN_S: Final = 1.0
"""How long bytes of a file may wait for their client before they are looked at again (`FileSpan.look_again`)."""


class BodyCut(Exception):
    """A body could not be sent to its declared end; the connection has to be reset."""


class Wanted(enum.Enum):
    """Whether the client wants to see the body."""

    BODY = "body"
    HEAD_ONLY = "head only"


_WHOLE_BODY: Final = Wanted.BODY


@dataclass(slots=True)
class Sent:
    """How far a response came: kept outside the sender, so that it survives any exception."""

    body_bytes: int = 0
    head_sent: bool = False


@runtime_checkable
class _Closable(Protocol):
    async def aclose(self) -> None: ...


def body_length(status: int, body: Body, wanted: Wanted, version: tuple[int, int]) -> int | Unnumbered:
    """What the head says about the length of `body` (RFC 9110, 8.6; RFC 9112, 6.3).

    Raises:
        ValueError: the body does not fit the status, or declares a length that will not be sent.
    """
    if status == 204 or status == 304:
        if not isinstance(body, NoBody):
            raise ValueError(f"a response with status {status} has no body")
        return Unnumbered.UNSTATED
    if isinstance(body, Bytes):
        return memoryview(body.data).nbytes
    if isinstance(body, NoBody):
        if wanted is Wanted.HEAD_ONLY:
            return Unnumbered.UNSTATED if body.declared_length is None else body.declared_length
        if body.declared_length:
            raise ValueError("only an answer to HEAD may declare a length without a body")
        return 0
    if isinstance(body, FileSpan):
        return body.length
    if isinstance(body, FileSpans):
        return sum(span.length for span in body.spans)
    if body.declared_length is not None:
        return body.declared_length
    return Unnumbered.CHUNKED if version >= (1, 1) else Unnumbered.UNTIL_CLOSE


async def deliver(
    transport: Transport,
    writer: HeadWriter,
    limits: HttpLimits,
    head: Head,
    response: Response,
    after: After,
    sent: Sent,
) -> After:
    """Send one response completely and, whatever happens, give back what it holds and call its `on_sent`.

    A head with a small body leaves in one system call, without a wait and without touching the deadline.

    Args:
        head: of the request that is answered.
        after: what is to happen to the connection, as far as the request is concerned.
        sent: updated as bytes leave.

    Returns:
        `after`, or CLOSE when only the end of the connection can end the body.

    Raises:
        BodyCut: the body ended early, failed or was too long after the head had left. Reset the connection.
        ValueError: the response must not be sent as it is; nothing was sent.
        TransportInterrupted, trio.BrokenResourceError: the client does not take the bytes, or has gone.
        Exception: whatever a Stream raised; nothing was sent, or `sent` says that the head has left.
    """
    body = response.body
    outcome = _CUT
    try:
        head_only = head.method == "HEAD"
        length = body_length(response.status, body, Wanted.HEAD_ONLY if head_only else _WHOLE_BODY, head.version)
        if length is _UNTIL_CLOSE:
            after = _CLOSE
        if after is _CLOSE:
            field = ConnectionField.CLOSE
        else:
            field = _ABSENT if head.version >= (1, 1) else ConnectionField.KEEP_ALIVE
        block = writer.write(response.status, response.headers, length, field)
        if isinstance(body, (Bytes, NoBody)) or head_only:
            buffers: list[Buffer] = [block]
            body_bytes = 0
            if isinstance(body, Bytes) and not head_only:
                data = body.data if isinstance(body.data, bytes) else memoryview(body.data).cast("B")
                body_bytes = len(data)
                if body_bytes:
                    buffers.append(data)
            sent.head_sent = True
            rest = transport.send_now(buffers)
            if rest:
                sent.body_bytes = max(0, body_bytes - sum(map(len, rest)))
                transport.deadline.pace(limits)
                await transport.send(rest)
                transport.deadline.lift()
            sent.body_bytes = body_bytes
        else:
            transport.deadline.pace(limits)
            if isinstance(body, Stream):
                await _send_stream(transport, block, body, length, sent)
            else:
                sent.head_sent = True
                await transport.send([block], More.YES if length else More.NO)
                for span in (body,) if isinstance(body, FileSpan) else body.spans:
                    await _send_span(transport, span, sent)
            transport.deadline.lift()
        outcome = _COMPLETE
        return after
    finally:
        try:
            if not isinstance(body, (Bytes, NoBody)):
                await _discard_body(body)
        finally:
            if response.on_sent is not None:
                response.on_sent(outcome, sent.body_bytes)


async def _send_span(transport: Transport, span: FileSpan, sent: Sent) -> None:
    offset, left, good = span.offset, span.length, span.length
    looked_at = trio.current_time()
    while left:
        if span.look_again is not None and (not good or trio.current_time() - looked_at > LOOK_AGAIN_S):
            good = await span.look_again(offset, left)
            looked_at = trio.current_time()
        count = await transport.send_file(span.fd, offset, good)
        if count == 0:
            raise BodyCut(f"a file ended {left} bytes early")
        offset += count
        left -= count
        good -= count
        sent.body_bytes += count


async def _send_stream(transport: Transport, head: bytes, body: Stream, length: int | Unnumbered, sent: Sent) -> None:
    prefix: list[Buffer] = [head]
    async for chunk in body.chunks:
        if isinstance(chunk, FileSpan):
            if not isinstance(length, int):
                raise BodyCut("a stream with parts of files must declare its length")
            if sent.body_bytes + chunk.length > length:
                raise BodyCut("a stream is longer than it declared")
            if prefix:
                sent.head_sent = True
                await transport.send(prefix, More.YES)
                prefix = []
            await _send_span(transport, chunk, sent)
            continue
        data = memoryview(chunk).cast("B")
        if not len(data):
            continue
        if isinstance(length, int) and sent.body_bytes + len(data) > length:
            raise BodyCut("a stream is longer than it declared")
        sent.head_sent = True
        if length is Unnumbered.CHUNKED:
            await transport.send([*prefix, b"%x\r\n" % len(data), data, b"\r\n"])
        else:
            await transport.send([*prefix, data])
        prefix = []
        sent.body_bytes += len(data)
    if isinstance(length, int) and sent.body_bytes != length:
        raise BodyCut("a stream is shorter than it declared")
    if length is Unnumbered.CHUNKED:
        prefix.append(LAST_CHUNK)
    sent.head_sent = True
    if prefix:
        await transport.send(prefix)


async def _discard_body(body: Body) -> None:
    """Give back what a body holds, sent or not: owned file descriptors are closed, a Stream's iterator is ended."""
    if isinstance(body, Stream):
        if isinstance(body.chunks, _Closable):
            await body.chunks.aclose()
    elif isinstance(body, (FileSpan, FileSpans)):
        spans = (body,) if isinstance(body, FileSpan) else body.spans
        for fd in {span.fd for span in spans if span.ownership is FdOwnership.OWNED}:
            os.close(fd)
