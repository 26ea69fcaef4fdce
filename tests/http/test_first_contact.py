"""A server on a real socket answers a real client of the standard library."""

from __future__ import annotations

import http.client

import trio
import trio.testing

from rs3d.http import Bytes, Request, Response
from rs3d.http.server import ServerControl, serve


async def test_a_client_of_the_standard_library_puts_and_reads_the_echo(nursery: trio.Nursery) -> None:
    async def echo(request: Request) -> Response:
        body = bytearray()
        piece = memoryview(bytearray(1 << 16))
        while count := await request.body.receive_into(piece):
            body += piece[:count]
        return Response(status=200, body=Bytes(body))

    def exchange(port: int) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("PUT", "/bucket/key", body=b"x" * 300_000)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, data

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    control = ServerControl()

    async def run() -> None:
        await serve([listener.socket], echo, control=control)

    nursery.start_soon(run)
    assert await trio.to_thread.run_sync(exchange, listener.socket.getsockname()[1]) == (200, b"x" * 300_000)
    await control.drain(timeout_s=5)
    await listener.aclose()
