"""Requests and responses on one connection: keep-alive, pipelining, HTTP/1.0, HEAD, errors."""

from __future__ import annotations

import pytest
import trio

from rs3d.errors import SlowDown
from rs3d.http.connection import Admission
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import After, Bytes, NoBody, Request, Response, SendOutcome
from tests.http.harness import HOST, answering, connected, echo, ignore

GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with connected() as world:
        for number in range(3):
            await world.client.send(b"PUT /k HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\n%d" % number)
            answer = await world.client.answer()
            assert (answer.status, answer.body, answer.get(b"Connection")) == (200, b"%d" % number, None)
    assert [exchange.bytes_in for exchange in world.recorder.exchanges] == [1, 1, 1]


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with connected() as world:
        puts = [b"PUT /k HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n%02d" % number for number in range(20)]
        await world.client.send(b"".join(puts))
        assert [(await world.client.answer()).body for _ in puts] == [b"%02d" % number for number in range(20)]


async def test_pipelined_requests_with_chunked_bodies_are_answered_in_order() -> None:
    one = b"PUT /k HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with connected() as world:
        await world.client.send(one * 3 + GET)
        assert [(await world.client.answer()).body for _ in range(4)] == [b"abc", b"abc", b"abc", b""]


async def test_requests_that_fill_several_receive_buffers_are_kept_apart() -> None:
    async with connected() as world, trio.open_nursery() as nursery:
        put = b"PUT /k HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 9000 + b"\r\nContent-Length: 5000\r\n\r\n" + b"z" * 5000
        nursery.start_soon(world.client.send, put * 30)
        for _ in range(30):
            assert (await world.client.answer()).body == b"z" * 5000


async def test_connection_close_is_obeyed_and_repeated() -> None:
    async with connected() as world:
        answer = await world.client.get(fields=b"Connection: x, Close\r\n")
        assert answer.get(b"Connection") == b"close"
        assert await world.client.is_closed()


async def test_a_handler_can_close_the_connection() -> None:
    async with connected(answering(lambda: Response(status=200, after=After.CLOSE))) as world:
        await world.client.send(GET + GET)
        assert (await world.client.answer()).get(b"Connection") == b"close"
        assert await world.client.is_closed()


async def test_http_1_0_closes_unless_the_client_asks_to_keep_alive() -> None:
    async with connected(ignore) as world:
        await world.client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = await world.client.answer()
        assert (answer.body, answer.get(b"Connection")) == (b"ignored", b"keep-alive")
        await world.client.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = await world.client.answer()
        assert (answer.body, answer.get(b"Connection")) == (b"ignored", b"close")
        assert await world.client.is_closed()


async def test_a_head_arriving_byte_by_byte_is_answered() -> None:
    async with connected(ignore) as world:
        await world.client.send(*(GET[index : index + 1] for index in range(len(GET))))
        assert (await world.client.answer()).status == 200


async def test_an_answer_to_head_has_the_length_and_no_body() -> None:
    responses = {
        b"/bytes": Response(status=200, body=Bytes(b"12345")),
        b"/declared": Response(status=200, body=NoBody(declared_length=5 << 40)),
        b"/unknown": Response(status=200, body=NoBody()),
        b"/error": Response(status=404, body=Bytes(b"<Error/>")),
    }

    async def handler(request: Request) -> Response:
        return responses[request.head.target]

    async with connected(handler) as world:
        lengths = []
        for target in responses:
            await world.client.send(b"HEAD " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            lengths.append((await world.client.answer("HEAD")).get(b"Content-Length"))
        assert lengths == [b"5", b"%d" % (5 << 40), None, b"8"]
        assert (await world.client.get(b"/bytes")).body == b"12345", "the connection is out of step"


async def test_responses_without_a_body_say_so_in_the_way_of_their_status() -> None:
    async def handler(request: Request) -> Response:
        return Response(status=int(request.head.target[1:]))

    async with connected(handler) as world:
        lengths = [(await world.client.get(target)).get(b"Content-Length") for target in (b"/200", b"/204", b"/304")]
    assert lengths == [b"0", None, None]


@pytest.mark.parametrize(
    "response",
    [
        Response(status=200, headers=[(b"X", b"a\r\nInjected: b")]),
        Response(status=200, headers=[(b"X", b"a\nb")]),
        Response(status=200, headers=[(b"X", b"a\rb")]),
        Response(status=200, headers=[(b"X\r\nY", b"a")]),
        Response(status=200, headers=[(b"X", b"a\0b")]),
        Response(status=200, headers=[(b"content-length", b"1")]),
        Response(status=200, headers=[(b"Date", b"now")]),
        Response(status=200, headers=[(b"Transfer-Encoding", b"chunked")]),
        Response(status=200, headers=[(b"Connection", b"close")]),
        Response(status=200, body=NoBody(declared_length=3)),
        Response(status=204, body=Bytes(b"x")),
        Response(status=304, body=Bytes(b"")),
        Response(status=100),
        Response(status=600),
    ],
)
async def test_a_response_that_must_not_be_sent_becomes_500_and_says_cut(response: Response) -> None:
    outcomes: list[tuple[SendOutcome, int]] = []
    response.on_sent = lambda outcome, sent: outcomes.append((outcome, sent))
    async with connected(answering(lambda: response)) as world:
        answer = await world.client.get()
        assert (answer.status, answer.body) == (500, b"internal error\n")
        assert answer.get(b"Connection") == b"close"
        assert await world.client.is_closed()
    assert outcomes == [(SendOutcome.CUT, 0)]
    assert [exchange.status for exchange in world.recorder.exchanges] == [500]


async def test_an_unexpected_exception_becomes_500_without_its_text() -> None:
    async def handler(request: Request) -> Response:
        raise RuntimeError("secret")

    async with connected(handler) as world:
        answer = await world.client.get()
        assert (answer.status, answer.body) == (500, b"internal error\n")


async def test_errors_go_to_the_injected_renderer_with_request_and_id() -> None:
    seen: list[tuple[Exception, Request | None, str]] = []

    def render(error: Exception, request: Request | None, request_id: str) -> Response:
        seen.append((error, request, request_id))
        return Response(status=503, headers=[(b"x-amz-request-id", request_id.encode())])

    async def handler(request: Request) -> Response:
        raise SlowDown(what="something")

    async with connected(handler, render=render) as world:
        answer = await world.client.get()
        assert answer.status == 503
        await world.client.send(b"nonsense\r\n\r\n")
        await world.client.answer()
    assert isinstance(seen[0][0], SlowDown)
    assert seen[0][1] is not None
    assert answer.get(b"x-amz-request-id") == seen[0][2].encode() == seen[0][1].request_id.encode()
    assert seen[1][1] is None
    assert seen[0][2] != seen[1][2]


async def test_a_handler_error_keeps_the_connection_when_the_request_was_read() -> None:
    async def handler(request: Request) -> Response:
        raise SlowDown(what="something", retry_after_s=7)

    async with connected(handler) as world:
        for _ in range(2):
            answer = await world.client.get()
            assert (answer.status, answer.get(b"Retry-After"), answer.get(b"Connection")) == (503, b"7", None)


async def test_on_sent_is_told_of_complete_responses_and_of_their_bytes() -> None:
    outcomes: list[tuple[SendOutcome, int]] = []

    def response() -> Response:
        return Response(status=200, body=Bytes(b"12345"), on_sent=lambda *told: outcomes.append(told))

    async with connected(answering(response)) as world:
        await world.client.get()
        await world.client.send(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
        await world.client.answer("HEAD")
    assert outcomes == [(SendOutcome.COMPLETE, 5), (SendOutcome.COMPLETE, 0)]
    assert [exchange.bytes_out for exchange in world.recorder.exchanges] == [5, 0]


async def test_the_request_tells_where_it_came_from() -> None:
    async def handler(request: Request) -> Response:
        told = f"{request.peer} {request.local} {request.scheme.value} {request.head.method}"
        return Response(status=200, body=Bytes(told.encode()))

    async with connected(handler) as world:
        assert (await world.client.get()).body == b"192.0.2.1:50000 198.51.100.1:80 http GET"


async def test_a_refused_head_is_answered_once_and_the_connection_ends() -> None:
    """What follows a bad head may be anything: an attacker would like it to be read as a request."""
    async with connected(echo) as world:
        await world.client.send(b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: 9\r\n\r\n" + GET)
        answer = await world.client.answer()
        assert (answer.status, answer.get(b"Connection")) == (400, b"close")
        assert await world.client.is_closed()
    assert [exchange.request for exchange in world.recorder.exchanges] == [None]


async def test_requests_in_excess_of_the_admission_limit_get_503_and_retry_after() -> None:
    async with connected(ignore, HttpLimits(requests_in_flight=1)) as world:
        world.service.load.in_flight = 1
        answer = await world.client.get()
        assert (answer.status, answer.get(b"Retry-After"), answer.get(b"Connection")) == (503, b"1", None)
        world.service.load.in_flight = 0
        assert (await world.client.get()).status == 200


async def test_a_connection_in_excess_gets_503_for_its_first_request_and_is_closed() -> None:
    async with connected(ignore, admission=Admission.REFUSED) as world:
        answer = await world.client.get()
        assert (answer.status, answer.get(b"Retry-After"), answer.get(b"Connection")) == (503, b"1", b"close")
        assert await world.client.is_closed()


async def test_a_client_that_leaves_between_requests_is_not_an_error() -> None:
    async with connected() as world:
        await world.client.get()
        await world.client.close()
        assert await world.client.is_closed()
    assert len(world.recorder.exchanges) == 1


async def test_a_client_that_leaves_within_a_head_gets_no_answer() -> None:
    async with connected() as world:
        await world.client.send(GET[:10])
        await world.client.close()
        assert await world.client.is_closed()
    assert world.recorder.exchanges == []
