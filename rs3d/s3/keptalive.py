"""Answers that begin before their operation has ended, so that nobody on the way takes the connection for dead.

CompleteMultipartUpload, CopyObject and UploadPartCopy may work for minutes. After `[s3] keep_alive_s` the client gets
`200 OK`, the XML declaration, and then one blank every so often, until the document follows: the result, or an Error.
Clients therefore look into the body of a 200 from these three. Source: S3 API reference, CompleteMultipartUpload,
CopyObject.

What is known only at the end cannot be in the head then: `x-amz-version-id` and the like are missing, and an error
has its code in the document alone. An operation that ends sooner is answered as any other.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Final

import outcome
import trio

from rs3d.documents.xmlwriter import DECLARATION
from rs3d.http.messages import Buffer, Bytes, Response, Stream
from rs3d.s3.call import Call
from rs3d.s3.refusals import refusal_document

BLANK: Final = b" "
_DECLARATION: Final = DECLARATION.encode("ascii")

HeadersSoFar = Callable[[], list[tuple[bytes, bytes]]]


async def kept_alive(
    call: Call, work: Callable[[], Awaitable[Response]], *, headers_so_far: HeadersSoFar = list
) -> Response:
    """The response of `work`, or, when that takes long, one whose body waits for it.

    Args:
        work: the operation; its response has an XML document as body. The body of the request was read before.
        headers_so_far: fields that are known without `work`; asked for when the answer has to begin.

    Raises:
        What `work` raises in time.

    Cancellation: cancels `work` and waits for it. A client that goes away cancels nothing: whoever sends the response
    closes it, and closing it waits for `work`.
    """
    pending = _Pending(work)
    trio.lowlevel.spawn_system_task(pending.run, context=contextvars.copy_context())
    is_handed_over = False
    try:
        with trio.move_on_after(call.services.config.keep_alive_s):
            await pending.done.wait()
        if not pending.done.is_set():
            headers = [(b"Content-Type", b"application/xml"), *headers_so_far()]
            response = Response(200, headers, Stream(_Answer(call, pending)))
            is_handed_over = True
            return response
    finally:
        if not is_handed_over:
            await pending.end()
    return pending.take()


class _Pending:
    """An operation in a task of its own, which no response and no handler outlives: each of them ends it."""

    __slots__ = ("_result", "_scope", "_work", "done")

    def __init__(self, work: Callable[[], Awaitable[Response]]) -> None:
        self._work = work
        self._scope = trio.CancelScope()
        self._result: outcome.Outcome[Response] | None = None
        self.done = trio.Event()

    async def run(self) -> None:
        """The task. Raises nothing, so that it can be a system task."""
        try:
            with self._scope:
                self._result = await outcome.acapture(self._work)
        finally:
            self.done.set()

    async def end(self) -> None:
        """Cancel what is not done, and wait for it: a commit on its way is shielded and has to be heard."""
        if not self.done.is_set():
            self._scope.cancel()
            with trio.CancelScope(shield=True):
                await self.done.wait()

    @property
    def error(self) -> Exception | None:
        """What the operation raised; to be asked when it is done."""
        if isinstance(self._result, outcome.Error) and isinstance(self._result.error, Exception):
            return self._result.error
        return None

    def take(self) -> Response:
        """The response; to be called once, when it is done.

        Raises:
            What the operation raised.
        """
        if self._result is None:
            raise RuntimeError("the operation has not begun")
        return self._result.unwrap()


class _Answer:
    """The body of a response whose operation is still working: an asynchronous iterator of buffers."""

    __slots__ = ("_call", "_has_begun", "_has_ended", "_pending")

    def __init__(self, call: Call, pending: _Pending) -> None:
        self._call = call
        self._pending = pending
        self._has_begun = False
        self._has_ended = False

    def __aiter__(self) -> _Answer:
        return self

    async def __anext__(self) -> Buffer:
        if self._has_ended:
            raise StopAsyncIteration
        if not self._has_begun:
            self._has_begun = True
            return _DECLARATION
        with trio.move_on_after(self._call.services.config.keep_alive_s):
            await self._pending.done.wait()
        if not self._pending.done.is_set():
            return BLANK
        self._has_ended = True
        return self._document().removeprefix(_DECLARATION)

    def _document(self) -> bytes:
        error = self._pending.error
        if error is not None:
            http = self._call.http
            return refusal_document(error, http.head, http.request_id, self._call.services.config.host_id).body
        body = self._pending.take().body
        if not isinstance(body, Bytes):
            raise TypeError("the answer is no document")
        return bytes(body.data)

    async def aclose(self) -> None:
        """The response has ended, perhaps because the client has gone: the operation goes on to its end."""
        try:
            await self._pending.done.wait()
        finally:
            await self._pending.end()
