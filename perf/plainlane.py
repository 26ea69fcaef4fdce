"""The client's lane for plain requests, by a program in C (plainlane.c) that is compiled when it is first wanted.

A request is plain whose answer is looked at no further than its head: PUT, DELETE and HEAD, and GET of so much that
looking would cost more than sending. The lane does what `loadclient` does for them, at a third of the cost or less: on
a machine that the client shares with the servers, what it costs is taken from them, and most from the quickest. Bodies
of answers are counted and dropped in the kernel, as if they were copied elsewhere; `jobs.populate` has checked them by
hash. Whatever else an answer may be, the other lane knows.
"""

from __future__ import annotations

import ctypes
import functools
import os
import select
import shutil
import socket
import subprocess
import tempfile
from array import array
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, Protocol

_SOURCE: Final = Path(__file__).with_suffix(".c")
_HEAD_BYTES: Final = 16384
_COMPILER: Final = "cc"
_UNREAD_BYTES: Final = 1024 * 1024
"""Length of an answer to GET from which on it is not copied."""


class Event(IntEnum):
    """Why the lane stopped: see plainlane.c."""

    DONE = 0
    MORE = 1
    CLOSED = 2
    CUT = 3
    CHUNKED = 4
    WRONG = 5
    SILENT = 6
    FAILED = 7


class PlainRequest(Protocol):
    """What the lane has to know of a request: see `loadclient.Prepared`."""

    @property
    def head(self) -> bytes: ...
    @property
    def body(self) -> bytes | memoryview: ...
    @property
    def status(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def is_head(self) -> bool: ...


class _Request(ctypes.Structure):
    _fields_ = (
        ("head", ctypes.c_char_p),
        ("body", ctypes.c_char_p),
        ("head_bytes", ctypes.c_int64),
        ("body_bytes", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("status", ctypes.c_int32),
        ("is_head", ctypes.c_int32),
    )


class _Link(ctypes.Structure):
    _fields_ = (
        ("fd", ctypes.c_int32),
        ("is_busy", ctypes.c_int32),
        ("is_second_try", ctypes.c_int32),
        ("is_watched_for_room", ctypes.c_int32),
        ("request", ctypes.c_void_p),
        ("sent", ctypes.c_int64),
        ("head_filled", ctypes.c_int64),
        ("body_left", ctypes.c_int64),
        ("received", ctypes.c_int64),
        ("started_ns", ctypes.c_int64),
        ("head", ctypes.c_char * _HEAD_BYTES),
    )


class _Lane(ctypes.Structure):
    _fields_ = (
        ("requests", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("next", ctypes.c_int64),
        ("latencies_s", ctypes.c_void_p),
        ("answered", ctypes.c_int64),
        ("body_bytes", ctypes.c_int64),
        ("links", ctypes.c_void_p),
        ("deadline_ns", ctypes.c_int64),
        ("link_count", ctypes.c_int32),
        ("epoll_fd", ctypes.c_int32),
        ("patience_ms", ctypes.c_int32),
        ("at", ctypes.c_int32),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    """Raises:
    RuntimeError: there is no C compiler, or it fails; with what it says.
    """
    compiler = shutil.which(_COMPILER)
    if compiler is None:
        raise RuntimeError(f"no C compiler ({_COMPILER}) for {_SOURCE.name}: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "plainlane.so"
        command = [compiler, "-std=gnu11", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(made), str(_SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{_COMPILER} does not compile {_SOURCE.name}: {done.stderr}")
        library = ctypes.CDLL(str(made), use_errno=True)
    library.lane_run.argtypes = library.lane_connected.argtypes = (ctypes.POINTER(_Lane),)
    return library


def is_plain(prepared: PlainRequest, *, is_looked_at: bool) -> bool:
    """Whether the lane takes a request; `is_looked_at`: whether somebody wants the answer's body."""
    methods = (b"PUT ", b"DELETE ", b"HEAD ", *((b"GET ",) if prepared.length >= _UNREAD_BYTES else ()))
    return not is_looked_at and type(prepared.body) is bytes and prepared.head.startswith(methods)


class PlainLane:
    """Keep-alive connections with one plain request in flight on each. Not for several threads. Blocks."""

    def __init__(self, connect: Callable[[], socket.socket], connections: int, patience_s: float) -> None:
        """Args:
        connect: makes a connection that does not block.
        patience_s: without anything from any connection, after which `go_on` gives up.

        Raises:
            RuntimeError: see `_library`. OSError: of `connect`, too.
        """
        self._library = _library()
        self._connect = connect
        self._poll = select.epoll()
        self._sockets: list[socket.socket] = []
        self._links = (_Link * connections)()
        self._lane = _Lane(
            links=ctypes.addressof(self._links),
            link_count=connections,
            epoll_fd=self._poll.fileno(),
            patience_ms=int(patience_s * 1000),
        )
        self._made: dict[int, tuple[PlainRequest, _Request]] = {}
        """All that were given, by identity; of one that comes again, one is made."""
        self._by_address: dict[int, PlainRequest] = {}
        self._addresses = array("Q")
        self._latencies = array("d")
        try:
            for place in range(connections):
                self._sockets.append(connect())
                self._connected(place)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections. Idempotent."""
        for sock in self._sockets:
            sock.close()
        self._poll.close()

    def give(self, batch: Sequence[PlainRequest]) -> None:
        """What is sent next, when all that was given before has been."""
        for request in batch:
            if id(request) not in self._made:
                made = _Request(
                    request.head,
                    request.body,
                    len(request.head),
                    len(request.body),
                    request.length,
                    request.status,
                    request.is_head,
                )
                self._made[id(request)] = request, made
                self._by_address[ctypes.addressof(made)] = request
        self._addresses = array("Q", [ctypes.addressof(self._made[id(request)][1]) for request in batch])
        self._lane.requests, self._lane.count, self._lane.next = self._addresses.buffer_info()[0], len(batch), 0

    def go_on(self, deadline_ns: int, latencies_s: list[float]) -> Event:
        """Send what was given and take the answers until something happens; nothing is sent behind the deadline, by
        time.perf_counter_ns. Latencies of what was answered are appended.

        Raises:
            OSError
        """
        lane = self._lane
        self._latencies = array("d", bytes(8 * (len(self._addresses) + len(self._links))))
        lane.latencies_s, lane.answered = self._latencies.buffer_info()[0], 0
        lane.deadline_ns = deadline_ns
        event = Event(self._library.lane_run(lane))
        latencies_s += self._latencies[: lane.answered]
        return self._checked(event)

    @property
    def body_bytes(self) -> int:
        """Of all that were answered: of the request or the answer, whichever is more."""
        count: int = self._lane.body_bytes
        return count

    @property
    def at(self) -> tuple[PlainRequest, bytes]:
        """The request to which something happened, and what has come of its answer, up to some of the body."""
        link = self._links[self._lane.at]
        return self._by_address[link.request], ctypes.string_at(
            ctypes.addressof(link) + _Link.head.offset, link.head_filled
        )

    def reconnect(self) -> None:
        """Send the request to which something happened once more, by a new connection."""
        place = self._lane.at
        self._sockets[place].close()
        self._sockets[place] = self._connect()
        self._connected(place)

    def _connected(self, place: int) -> None:
        self._links[place].fd, self._lane.at = self._sockets[place].fileno(), place
        self._checked(Event(self._library.lane_connected(self._lane)))

    def _checked(self, event: Event) -> Event:
        if event is Event.FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return event
