"""Slow and silent clients, on a clock that jumps. The watchdog notices within two ticks."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from rs3d.http.deadlines import TICK_S
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import Bytes, Request, Response, SendOutcome
from tests.http.harness import HOST, answering, connected, echo, read_all

LIMITS = HttpLimits(
    head_timeout_s=20.0,
    idle_timeout_s=120.0,
    stall_timeout_s=30.0,
    rate_grace_s=60.0,
    minimum_rate_bytes_per_s=100,
    linger_timeout_s=5.0,
)
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
PUT = b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n"


def about(seconds: float, started: float) -> bool:
    """Whether `seconds` have passed since `started`, up to the watchdog's two ticks."""
    return seconds <= trio.current_time() - started <= seconds + 2 * TICK_S + 0.01


async def test_a_head_in_single_bytes_is_cut_after_the_head_timeout(autojump_clock: MockClock) -> None:
    async with connected(limits=LIMITS) as world:
        started = trio.current_time()
        for byte in GET[:5]:
            await world.client.send(bytes([byte]))
            await trio.sleep(3)
        answer = await world.client.answer()
        assert (answer.status, answer.get(b"Connection")) == (408, b"close")
        assert about(20, started)
        assert await world.client.is_closed()


async def test_each_head_has_its_own_time(autojump_clock: MockClock) -> None:
    async with connected(limits=LIMITS) as world:
        for _ in range(3):
            await world.client.send(GET[:5])
            await trio.sleep(15)
            await world.client.send(GET[5:])
            assert (await world.client.answer()).status == 200


async def test_an_idle_connection_is_closed_silently(autojump_clock: MockClock) -> None:
    async with connected(limits=LIMITS) as world:
        await world.client.get()
        started = trio.current_time()
        assert await world.client.is_closed()
        assert about(120, started)
    assert len(world.recorder.exchanges) == 1


async def test_a_connection_without_a_first_byte_has_only_the_head_timeout(autojump_clock: MockClock) -> None:
    async with connected(limits=LIMITS) as world:
        assert await world.client.is_closed()
        assert about(20, 0)


async def test_a_body_that_stalls_is_refused(autojump_clock: MockClock) -> None:
    async with connected(limits=LIMITS) as world:
        await world.client.send(PUT + b"x")
        started = trio.current_time()
        answer = await world.client.answer()
        assert (answer.status, answer.get(b"Connection")) == (408, b"close")
        assert about(30, started)
        assert await world.client.is_closed()


async def test_a_body_below_the_minimum_rate_is_refused_though_it_never_stalls(autojump_clock: MockClock) -> None:
    async with connected(limits=LIMITS) as world, trio.open_nursery() as nursery:

        async def trickle() -> None:
            while True:
                await world.client.send(b"x" * 50)
                await trio.sleep(1)

        await world.client.send(PUT)
        nursery.start_soon(trickle)
        answer = await world.client.answer()
        assert answer.status == 408
        # 60 s of grace, and the bytes of each second earn back half a second.
        assert 118 <= trio.current_time() <= 122
        nursery.cancel_scope.cancel()


async def test_a_body_at_the_minimum_rate_arrives(autojump_clock: MockClock) -> None:
    async with connected(limits=LIMITS) as world:
        await world.client.send(PUT)
        for _ in range(1000):
            await trio.sleep(1)
            await world.client.send(b"x" * 100)
        assert (await world.client.answer()).status == 200


async def test_the_servers_own_slowness_is_not_charged_to_the_client(autojump_clock: MockClock) -> None:
    async def handler(request: Request) -> Response:
        piece = memoryview(bytearray(100))
        for _ in range(20):
            assert await request.body.receive_into(piece) == 100
            await trio.sleep(10)
        return Response(status=200)

    async with connected(handler, LIMITS) as world:
        await world.client.send(b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 2000\r\n\r\n" + b"x" * 2000)
        assert (await world.client.answer()).status == 200


async def test_a_handler_may_take_its_time(autojump_clock: MockClock) -> None:
    async def handler(request: Request) -> Response:
        await trio.sleep(1000)
        return Response(status=200)

    async with connected(handler, LIMITS) as world:
        assert (await world.client.get()).status == 200


async def test_a_client_that_does_not_read_its_answer_is_reset(autojump_clock: MockClock) -> None:
    outcomes: list[SendOutcome] = []

    def response() -> Response:
        return Response(status=200, body=Bytes(b"x" * 10_000_000), on_sent=lambda how, sent: outcomes.append(how))

    async with connected(answering(response), LIMITS) as world:
        await world.client.send(GET)
        await world.ended.wait()
        assert about(30, 0)
        assert await world.client.was_reset()
    assert outcomes == [SendOutcome.CUT]
    assert [exchange.outcome for exchange in world.recorder.exchanges] == [SendOutcome.CUT]


async def test_a_client_that_reads_its_answer_too_slowly_is_reset(autojump_clock: MockClock) -> None:
    async with connected(answering(lambda: Response(status=200, body=Bytes(b"x" * 10_000_000))), LIMITS) as world:
        await world.client.send(GET)
        piece = memoryview(bytearray(50))
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await world.client.transport.receive_into(piece)
                await trio.sleep(1)
        assert 118 <= trio.current_time() <= 122


async def test_a_drained_body_must_come_in_time_too(autojump_clock: MockClock) -> None:
    async def handler(request: Request) -> Response:
        await request.body.receive_into(memoryview(bytearray(1)))
        return Response(status=200)

    async with connected(handler, LIMITS) as world:
        await world.client.send(b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: 50\r\n\r\nxx")
        assert (await world.client.answer()).status == 200
        assert await world.client.is_closed()
        assert about(30, 0)


async def test_lingering_ends_after_its_time(autojump_clock: MockClock) -> None:
    async with connected(echo, LIMITS) as world, trio.open_nursery() as nursery:

        async def keep_sending() -> None:
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await world.client.send(b"x")
                    await trio.sleep(0.1)

        await world.client.send(b"nonsense\r\n\r\n")
        assert (await world.client.answer()).status == 400
        nursery.start_soon(keep_sending)
        await world.ended.wait()
        assert about(5, 0)


async def test_lingering_ends_after_its_bytes() -> None:
    async with connected(echo, HttpLimits(linger_bytes=100_000)) as world:
        await world.client.send(b"nonsense\r\n\r\n")
        assert (await world.client.answer()).status == 400
        with pytest.raises(trio.BrokenResourceError):
            await world.client.send(b"x" * 1_000_000)


async def test_a_slow_body_can_be_told_from_a_cut_one(autojump_clock: MockClock) -> None:
    names: list[str] = []

    async def handler(request: Request) -> Response:
        try:
            await read_all(request)
        except Exception as error:
            names.append(type(error).__name__)
        return Response(status=200)

    async with connected(handler, LIMITS) as world:
        await world.client.send(PUT)
        await world.client.answer()
    assert names == ["HttpRefusal"]
