"""When an answer begins before its operation has ended, and what becomes of the operation; on a clock that jumps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from rs3d.errors import ConfigurationError, NoSuchKey, PreconditionFailed
from rs3d.http.messages import Bytes, Head, Response, Stream
from rs3d.s3.call import Call
from rs3d.s3.configuration import S3Config
from rs3d.s3.keptalive import BLANK, kept_alive
from rs3d.s3.responses import xml_response

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
RESULT = DECLARATION + b"<Result/>"

CALL = cast(
    Call,
    SimpleNamespace(
        http=SimpleNamespace(head=Head("POST", b"/b/k?uploadId=u", (1, 1), ()), request_id="0123456789ABCDEF"),
        services=SimpleNamespace(config=S3Config(keep_alive_s=10.0)),
    ),
)


def lasting(seconds: float, error: Exception | None = None) -> Callable[[], Awaitable[Response]]:
    async def work() -> Response:
        await trio.sleep(seconds)
        if error is not None:
            raise error
        return xml_response(RESULT)

    return work


def stream_of(response: Response) -> Any:
    assert isinstance(response.body, Stream)
    assert response.body.declared_length is None
    return response.body.chunks


async def body_of(response: Response) -> list[bytes]:
    return [bytes(cast(bytes, chunk)) async for chunk in stream_of(response)]


async def test_an_operation_that_ends_in_time_is_answered_as_any_other(autojump_clock: MockClock) -> None:
    response = await kept_alive(CALL, lasting(9.9))
    assert response.body == Bytes(RESULT)


async def test_a_refusal_in_time_keeps_its_status(autojump_clock: MockClock) -> None:
    with pytest.raises(NoSuchKey):
        await kept_alive(CALL, lasting(9.9, NoSuchKey(bucket="b", key="k")))


async def test_a_blank_is_sent_each_time_the_interval_passes(autojump_clock: MockClock) -> None:
    response = await kept_alive(CALL, lasting(35.0), headers_so_far=lambda: [(b"x-amz-early", b"1")])
    assert (response.status, response.headers) == (
        200,
        [(b"Content-Type", b"application/xml"), (b"x-amz-early", b"1")],
    )
    assert await body_of(response) == [DECLARATION, BLANK, BLANK, b"<Result/>"]


async def test_an_error_after_the_answer_began_is_its_document(autojump_clock: MockClock) -> None:
    response = await kept_alive(CALL, lasting(11.0, PreconditionFailed(condition="If-None-Match")))
    *begin, document = await body_of(response)
    assert begin == [DECLARATION]
    assert document.startswith(b"<Error><Code>PreconditionFailed</Code>")
    assert b"<Resource>/b/k</Resource><RequestId>0123456789ABCDEF</RequestId>" in document


async def test_an_unexpected_error_tells_the_client_nothing_of_itself(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    response = await kept_alive(CALL, lasting(11.0, RuntimeError("secret plan")))
    body = b"".join(await body_of(response))
    assert b"<Code>InternalError</Code>" in body
    assert b"secret plan" not in body
    assert "secret plan" in caplog.text


async def test_a_response_that_is_cut_waits_for_its_operation(autojump_clock: MockClock) -> None:
    ended: list[float] = []

    async def work() -> Response:
        await trio.sleep(60)
        ended.append(trio.current_time())
        return xml_response(RESULT)

    began_s = trio.current_time()
    await stream_of(await kept_alive(CALL, work)).aclose()
    assert [at_s - began_s for at_s in ended] == [pytest.approx(60)]


@pytest.mark.parametrize("after_s", [5.0, 15.0], ids=["before the answer", "while it is sent"])
async def test_who_cancels_the_request_cancels_the_operation_and_waits_for_it(
    autojump_clock: MockClock, after_s: float
) -> None:
    told: list[str] = []

    async def work() -> Response:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)  # as a commit on its way
            told.append("ended")
        raise AssertionError

    with trio.move_on_after(after_s):
        chunks = stream_of(await kept_alive(CALL, work))
        try:
            async for _ in chunks:
                pass
        finally:
            await chunks.aclose()
    assert told == ["ended"]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_an_interval_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="keep_alive_s"):
        S3Config(keep_alive_s=seconds)
