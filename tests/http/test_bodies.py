"""Request bodies: both framings, early ends, limits, unread rests, and `Expect: 100-continue`."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from rs3d.errors import AccessDenied, IncompleteBody
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import Bytes, Request, Response
from rs3d.http.refusals import HttpRefusal, RefusalKind
from tests.http.harness import HOST, connected, echo, ignore, read_all


def put(length: int, fields: bytes = b"") -> bytes:
    return b"PUT /k HTTP/1.1\r\n" + HOST + fields + b"Content-Length: %d\r\n\r\n" % length


CHUNKED = b"PUT /k HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
EXPECT = b"Expect: 100-continue\r\n"


@pytest.mark.parametrize("size", [1, 999, 65_000, 65_536, 200_000])
async def test_a_body_with_a_length_arrives_whole(size: int) -> None:
    async with connected() as world, trio.open_nursery() as nursery:
        body = bytes(index * 7 % 251 for index in range(size))
        nursery.start_soon(world.client.send, put(size) + body[:100], body[100:])
        assert (await world.client.answer()).body == body


@pytest.mark.parametrize("chunk_bytes", [1, 100, 65_536, 150_000])
async def test_a_chunked_body_arrives_whole(chunk_bytes: int) -> None:
    body = bytes(index * 7 % 251 for index in range(min(150_000, chunk_bytes * 500)))
    pieces = [body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes)]
    wire = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    async with connected() as world, trio.open_nursery() as nursery:
        nursery.start_soon(world.client.send, CHUNKED + wire)
        assert (await world.client.answer()).body == body
        assert (await world.client.get()).status == 200


async def test_a_small_body_that_came_with_its_head_is_there_at_once() -> None:
    async def handler(request: Request) -> Response:
        whole = request.body.whole()
        assert request.body.whole() is None, "the body was given out twice"
        assert await request.body.receive_into(memoryview(bytearray(1))) == 0
        # The answer refers to the receive buffer itself, which therefore must live until it was sent.
        return Response(status=200, body=Bytes(b"no") if whole is None else Bytes(whole))

    async with connected(handler) as world:
        await world.client.send(put(5) + b"hello" + put(5) + b"again")
        assert (await world.client.answer()).body == b"hello"
        assert (await world.client.answer()).body == b"again"


async def test_a_body_that_is_not_there_yet_is_not_whole() -> None:
    async def handler(request: Request) -> Response:
        assert request.body.whole() is None
        return Response(status=200, body=Bytes(await read_all(request)))

    async with connected(handler) as world:
        await world.client.send(put(5) + b"hell")
        await trio.testing.wait_all_tasks_blocked()
        await world.client.send(b"o")
        assert (await world.client.answer()).body == b"hello"


async def test_a_request_without_a_body_has_an_empty_whole_one() -> None:
    async def handler(request: Request) -> Response:
        whole = request.body.whole()
        return Response(status=200, body=Bytes(repr((whole is not None, request.body.declared_bytes)).encode()))

    async with connected(handler) as world:
        assert (await world.client.get()).body == b"(True, 0)"


async def test_the_declared_length_stays_the_same_while_the_body_is_read() -> None:
    told = []

    async def handler(request: Request) -> Response:
        told.append(request.body.declared_bytes)
        await request.body.receive_into(memoryview(bytearray(2)))
        told.append(request.body.declared_bytes)
        return Response(status=200)

    async with connected(handler) as world:
        await world.client.send(put(5) + b"hello" + CHUNKED + b"1\r\na\r\n0\r\n\r\n")
        await world.client.answer()
        await world.client.answer()
    assert told == [5, 5, None, None]


async def test_an_empty_buffer_is_a_mistake() -> None:
    async def handler(request: Request) -> Response:
        with pytest.raises(ValueError, match="empty"):
            await request.body.receive_into(memoryview(b""))
        return Response(status=200)

    async with connected(handler) as world:
        assert (await world.client.get()).status == 200


@pytest.mark.parametrize(
    ("wire", "declared", "received"),
    [
        (put(5) + b"hell", 5, 4),
        (put(5), 5, 0),
        (CHUNKED + b"5\r\nhell", 5, 4),
        (CHUNKED + b"5\r\nhello\r\n", 6, 5),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", 6, 5),
    ],
)
async def test_a_body_cut_by_the_client_is_incomplete_and_stays_so(wire: bytes, declared: int, received: int) -> None:
    errors = []

    async def handler(request: Request) -> Response:
        for _ in range(2):
            with pytest.raises(IncompleteBody) as caught:
                await read_all(request)
            errors.append((caught.value.declared_bytes, caught.value.received_bytes))
        return Response(status=400)

    async with connected(handler) as world:
        await world.client.send(wire)
        await world.client.close()
        answer = await world.client.answer()
        assert (answer.status, answer.get(b"Connection")) == (400, b"close")
        assert await world.client.is_closed()
    assert errors == [(declared, received)] * 2


async def test_a_declared_length_above_the_limit_is_refused_before_the_handler() -> None:
    async with connected(echo, HttpLimits(body_bytes=100)) as world:
        await world.client.send(put(100) + b"x" * 100)
        assert (await world.client.answer()).status == 200
        await world.client.send(put(101))
        assert (await world.client.answer()).status == 413
        assert await world.client.is_closed()
    assert world.recorder.exchanges[-1].request is None


async def test_a_chunked_body_is_refused_when_it_grows_above_the_limit() -> None:
    async with connected(echo, HttpLimits(body_bytes=100)) as world:
        await world.client.send(CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n")
        assert (await world.client.answer()).status == 200
        await world.client.send(CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n1\r\n")
        answer = await world.client.answer()
        assert (answer.status, answer.get(b"Connection")) == (413, b"close")
        assert await world.client.is_closed()


async def test_malformed_chunks_are_refused_and_the_connection_ends() -> None:
    kinds = []

    async def handler(request: Request) -> Response:
        try:
            await read_all(request)
        except HttpRefusal as refusal:
            kinds.append(refusal.kind)
            raise
        return Response(status=200)

    async with connected(handler) as world:
        await world.client.send(CHUNKED + b"5\r\nhelloGET / HTTP/1.1\r\n\r\n")
        answer = await world.client.answer()
        assert (answer.status, answer.get(b"Connection")) == (400, b"close")
        assert await world.client.is_closed()
    assert kinds == [RefusalKind.BAD_CHUNK]


# ------------------------------------------------------------------------------------------------- unread rests


async def test_a_short_unread_body_is_thrown_away_and_the_connection_stays() -> None:
    async with connected(ignore) as world:
        await world.client.send(put(60_000), b"x" * 60_000)
        answer = await world.client.answer()
        assert (answer.body, answer.get(b"Connection")) == (b"ignored", None)
        assert (await world.client.get()).status == 200


async def test_a_short_unread_chunked_body_is_thrown_away_and_the_connection_stays() -> None:
    async with connected(ignore) as world:
        await world.client.send(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
        assert (await world.client.answer()).get(b"Connection") is None
        assert (await world.client.get()).status == 200


async def test_a_long_unread_body_ends_the_connection_but_the_client_can_read_the_answer() -> None:
    async with connected(ignore) as world, trio.open_nursery() as nursery:
        nursery.start_soon(world.client.send, put(10_000_000), b"x" * 10_000_000)
        answer = await world.client.answer()
        assert (answer.body, answer.get(b"Connection")) == (b"ignored", b"close")


async def test_a_long_unread_chunked_body_ends_the_connection_after_the_drain_limit() -> None:
    async with connected(ignore, HttpLimits(drain_bytes=1000)) as world:
        await world.client.send(CHUNKED + b"3e9\r\n" + b"x" * 1001 + b"\r\n")
        assert (await world.client.answer()).body == b"ignored"
        assert await world.client.is_closed()


async def test_a_malformed_unread_rest_ends_the_connection() -> None:
    async with connected(ignore) as world:
        await world.client.send(CHUNKED + b"nonsense\r\n")
        assert (await world.client.answer()).body == b"ignored"
        assert await world.client.is_closed()


async def test_a_rest_left_by_an_early_error_is_thrown_away() -> None:
    async def handler(request: Request) -> Response:
        await request.body.receive_into(memoryview(bytearray(3)))
        raise AccessDenied(action="s3:PutObject", resource="k")

    async with connected(handler) as world:
        await world.client.send(put(10) + b"0123456789")
        assert (await world.client.answer()).status == 500
        await world.client.is_closed()


# ---------------------------------------------------------------------------------------------- Expect: 100-continue


async def test_100_continue_is_sent_when_the_handler_first_reads_and_only_once() -> None:
    reading = trio.Event()

    async def handler(request: Request) -> Response:
        await reading.wait()
        return await echo(request)

    async with connected(handler) as world:
        await world.client.send(put(5, EXPECT))
        await trio.testing.wait_all_tasks_blocked()
        assert not world.client.transport.received_bytes, "100 Continue was sent before the handler read the body"
        reading.set()
        assert (await world.client.answer()).status == 100
        await world.client.send(b"he")
        await trio.testing.wait_all_tasks_blocked()
        await world.client.send(b"llo")
        answer = await world.client.answer()
        assert (answer.status, answer.body, answer.get(b"Connection")) == (200, b"hello", None)
        assert (await world.client.get()).status == 200


async def test_a_refused_expectation_gets_the_final_answer_and_no_100() -> None:
    """Whether the client will send the body all the same is unknown, so the connection must end."""
    async with connected(ignore) as world:
        await world.client.send(put(5, EXPECT))
        answer = await world.client.answer()
        assert (answer.status, answer.get(b"Connection")) == (200, b"close")
        assert await world.client.is_closed()


async def test_a_client_that_does_not_wait_gets_no_100() -> None:
    async with connected() as world:
        await world.client.send(put(5, EXPECT) + b"h")
        await trio.testing.wait_all_tasks_blocked()
        await world.client.send(b"ello")
        assert ((await world.client.answer()).body) == b"hello"
        await world.client.send(put(5, EXPECT) + b"hello")
        answer = await world.client.answer()
        assert (answer.status, answer.body) == (200, b"hello")


async def test_a_chunked_body_can_be_waited_for_too() -> None:
    async with connected() as world:
        await world.client.send(CHUNKED[:-2] + EXPECT + b"\r\n")
        assert (await world.client.answer()).status == 100
        await world.client.send(b"1\r\na\r\n0\r\n\r\n")
        assert (await world.client.answer()).body == b"a"


async def test_an_expectation_without_a_body_is_ignored() -> None:
    async with connected() as world:
        assert (await world.client.get(fields=EXPECT)).status == 200
        assert (await world.client.get(fields=EXPECT)).get(b"Connection") is None


async def test_http_1_0_clients_never_get_a_100() -> None:
    async with connected() as world:
        await world.client.send(b"PUT / HTTP/1.0\r\nContent-Length: 5\r\n" + EXPECT + b"\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await world.client.send(b"hello")
        assert (await world.client.answer()).body == b"hello"


@pytest.mark.parametrize("value", [b"200-ok", b"100-continue, x"])
async def test_other_expectations_are_refused(value: bytes) -> None:
    async with connected() as world:
        await world.client.send(put(5, b"Expect: " + value + b"\r\n"))
        assert (await world.client.answer()).status == 417
        assert await world.client.is_closed()
