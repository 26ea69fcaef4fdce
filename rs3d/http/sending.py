"""A response on its way out: head and body in as few system calls as possible, and never a clean end of half a body."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rs3d.http.messages import Body, Buffer, Bytes, FdOwnership, FileSpan, FileSpans, NoBody, Response, Stream
from rs3d.http.transport import More, Transport
from rs3d.http.wire import LAST_CHUNK, ConnectionField, HeadWriter, Unnumbered


class BodyCut(Exception):
    """A body could not be sent to its declared end; the connection has to be reset."""


class Wanted(enum.Enum):
    """Whether the client wants to see the body."""

    BODY = "body"
    HEAD_ONLY = "head only"


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
    if status in (204, 304):
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


async def send_response(
    transport: Transport,
    writer: HeadWriter,
    response: Response,
    length: int | Unnumbered,
    connection: ConnectionField,
    wanted: Wanted,
    sent: Sent,
) -> None:
    """Send one response completely.

    Args:
        length: what `body_length` said.
        sent: updated as bytes leave.

    Raises:
        BodyCut: the body ended early, failed or was too long after the head had left. Reset the connection.
        ValueError: a response field is not allowed; nothing was sent.
        TransportInterrupted, trio.BrokenResourceError: the client does not take the bytes, or has gone.
        Exception: whatever a Stream raised before its first buffer; nothing was sent.
    """
    head = writer.write(response.status, response.headers, length, connection)
    body = response.body
    if isinstance(body, Stream):
        await _send_stream(transport, head, body, length, wanted, sent)
    elif wanted is Wanted.HEAD_ONLY or length == 0 or isinstance(body, NoBody):
        sent.head_sent = True
        await transport.send([head])
    elif isinstance(body, Bytes):
        sent.head_sent = True
        data = memoryview(body.data).cast("B")
        await transport.send([head, data])
        sent.body_bytes = len(data)
    else:
        sent.head_sent = True
        await transport.send([head], More.YES)
        for span in (body,) if isinstance(body, FileSpan) else body.spans:
            await _send_span(transport, span, sent)


async def _send_span(transport: Transport, span: FileSpan, sent: Sent) -> None:
    offset, left = span.offset, span.length
    while left:
        count = await transport.send_file(span.fd, offset, left)
        if count == 0:
            raise BodyCut(f"a file ended {left} bytes early")
        offset += count
        left -= count
        sent.body_bytes += count


async def _send_stream(
    transport: Transport, head: bytes, body: Stream, length: int | Unnumbered, wanted: Wanted, sent: Sent
) -> None:
    if wanted is Wanted.HEAD_ONLY:
        sent.head_sent = True
        await transport.send([head])
        return
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


async def discard_body(body: Body) -> None:
    """Give back what a body holds, sent or not: owned file descriptors are closed, a Stream's iterator is ended."""
    if isinstance(body, Stream):
        if isinstance(body.chunks, _Closable):
            await body.chunks.aclose()
    elif isinstance(body, (FileSpan, FileSpans)):
        spans = (body,) if isinstance(body, FileSpan) else body.spans
        for fd in {span.fd for span in spans if span.ownership is FdOwnership.OWNED}:
            os.close(fd)
