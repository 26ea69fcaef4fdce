"""A lane past everything that a usual request walks through: for requests that can be answered at once from memory.

The application may give the server a `Shortcut`. For bytes that an idle connection has just received it is asked first,
and either yields the whole answer, byte for byte what the long way would have sent, or promises it (`Underway`), or
None: then the request goes the long way, which alone refuses, waits and decides. So a shortcut is never an authority,
only a shorter way to the same answer; `tests/s3/wire/test_plain_reads.py` and `test_plain_writes.py` compare the two.
No I/O here, and no trio; the application reads what it has mapped (the catalog) or finds in memory (the log), and
leaves to the long way what has to be read from the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rs3d.http.messages import Buffer
from rs3d.kernels.smallwrites import SmallWrite

if TYPE_CHECKING:  # the supervisor, which counts answers, loads no trio
    from rs3d.http.receivedfile import ReceivedFile


class FileBody(NamedTuple):
    """A body in the page cache, checked a moment ago: `length` bytes of an open file."""

    fd: int
    offset: int
    length: int


class Taken(NamedTuple):
    """An answer by the shortcut."""

    buffers: list[Buffer]
    """Head and body, to be sent as they are."""
    stop: int
    """Where the request ended in the bytes received."""
    body_bytes: int
    operation: str
    """The label of its metrics."""
    status: int
    file: FileBody | None = None
    """Follows the buffers."""
    received_bytes: int = 0
    """Of the request's body."""
    release: Callable[[], None] | None = None
    """Called once, when everything was sent or the connection was lost: the file is closed, a buffer given back. Must
    not raise."""


def _nobody(taken: Taken | None) -> None:
    raise RuntimeError("an answer that nobody waits for")


class Underway:
    """An answer that is being made elsewhere (a write, by the committer). The server sets `finish` at once; whoever
    makes the answer calls it once, later, from the same loop: with the answer, or with None where the long way has to
    take the request from its start (nothing came of it, or nobody knows what did)."""

    __slots__ = ("finish",)

    def __init__(self) -> None:
        self.finish: Callable[[Taken | None], None] = _nobody


class Source(Protocol):
    """What comes from a client, for one body, once."""

    patience_ns: int
    """How long it may be waited for in all."""

    def receive(self, buffer: memoryview) -> int:
        """Fill the buffer; the number of bytes, fewer than it holds where the rest does not come soon enough. For one
        thread, once; blocks, does not raise."""
        ...

    def lend(self, stop: Callable[[], None]) -> int:
        """The descriptor of the client's socket, for somebody who receives in the place of `receive`, and whom `stop`
        makes end soon: called on the loop, perhaps, until `give_back`."""
        ...

    def give_back(self, *, is_slow: bool) -> None:
        """Of the socket that was lent; `is_slow` where the client was waited for too long. On the loop."""
        ...


class Incoming(Underway):
    """An answer under way to a request whose body has not arrived whole: whoever makes it receives the rest.

    The server calls `begin` at once, with the part of the body that has arrived, which is not needed any more when that
    returns; where it answers False, nothing was begun, and the long way takes the request. A `finish(None)` hands over
    what was received in `received`, which the server copies, and what of the body comes before that in `before`, which
    is the server's then: the long way gets it as if it had just come."""

    __slots__ = ("before", "body", "received")

    def __init__(self, body: int) -> None:
        """Args:
        body: where it begins in the bytes received.
        """
        super().__init__()
        self.body = body
        self.received: Buffer = b""
        self.before: ReceivedFile | None = None

    def begin(self, first: memoryview, source: Source) -> bool:
        """Begin, with what has come of the body; False when nothing was begun."""
        raise NotImplementedError


class Unfinished(NamedTuple):
    """A request whose body has not arrived whole: when it has, the shortcut wants to be asked again."""

    stop: int
    """Where it will end."""
    expects: bool
    """Whether the client waits for `100 Continue` before it sends its body."""


class Shortcut(Protocol):
    """Called in turns: `begin`, `answer` for some connections, `end`. Nothing else of the loop runs within a turn."""

    def begin(self) -> None:
        """A turn begins, after the bytes it is about have arrived."""
        ...

    def answer(self, data: bytearray, start: int, end: int) -> Taken | Underway | SmallWrite | Unfinished | None:
        """The answer to the request in `data[start:end]`, or None for the long way. Waits for nobody, though a cold
        page of the catalog may cost a disk access; never raises for anything a client sent. With Underway and
        SmallWrite, the request is all of `data[start:end]`; its bytes are not needed any more. A SmallWrite is for the
        server to `park`; whoever made it calls its `finish`, once, later, from the same loop."""
        ...

    def end(self) -> None:
        """The turn is over: what was kept for it (a view of the catalog) is let go."""
        ...

    def send(self) -> None:
        """Send on the small writes that were begun since the last time; due after a turn, or some that follow one
        another at once."""
        ...


FindShortcut = Callable[[], Shortcut | None]
"""Asked once a turn: a reload may have replaced the application."""
