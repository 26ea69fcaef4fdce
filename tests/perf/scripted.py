"""A server that answers what it is told, and a client's request to it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from loadclient import Prepared

GET = b"GET /b/k HTTP/1.1\r\n\r\n"
HEAD = b"HEAD /b/k HTTP/1.1\r\n\r\n"


def get(*, status: int = 200, sha256: str = "", length: int = -1, is_kept: bool = False) -> Prepared:
    return Prepared(GET, b"", status, sha256, False, length, is_kept)


def answer(body: bytes, length: int | None = None) -> bytes:
    """With another Content-Length than the body's, if one is given."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body) if length is None else length, body)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def scripted(*connections: Sequence[bytes], is_open: bool = False, resets: bool = False) -> Iterator[tuple[str, int]]:
    """Listens for as many connections as are given, one after the other, and gives each request the next of the
    connection's answers. Then the connection is closed, or reset; or, of `is_open`, closed when the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve() -> None:
            for answers in connections:
                try:
                    link, _ = listener.accept()
                except OSError:  # the block ended without this connection
                    return
                with link:
                    for text in answers:
                        received = b""
                        while not received.endswith(b"\r\n\r\n") and (piece := link.recv(4096)):
                            received += piece
                        link.sendall(text)
                    if is_open:
                        ended.wait()
                    if resets:
                        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            ended.set()
            with suppress(OSError):  # all connections have come, and the thread has ended
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()
