"""An answer of a shortcut on its way out of a parked connection."""

from __future__ import annotations

import logging

from rs3d.http.messages import Buffer
from rs3d.http.shortcut import Shortcut, Taken, Underway, Unfinished
from rs3d.kernels.smallwrites import SmallWrite

logger = logging.getLogger(__name__)


class Answer:
    """What of it the socket has not taken yet."""

    __slots__ = ("began_in_ns", "is_paced", "rest", "started_ns", "taken")

    def __init__(self, taken: Taken, started_ns: int) -> None:
        self.taken = taken
        self.rest: list[Buffer] = taken.buffers
        """Of head and body in memory."""
        self.started_ns = started_ns
        self.began_in_ns: int | None = None
        """How long it took until only a file was left to send, which is the kernel's affair from then on; None before,
        and where there is no file."""
        self.is_paced = False
        """Whether the deadline bounds the pace of that file already."""


def taken_of(write: SmallWrite) -> Taken:
    """The answer to a small write, as any other."""
    operation, status = ("PutObject", 200) if write.is_put else ("DeleteObject", 204)
    return Taken([write.answer or b""], len(write.request), 0, operation, status, received_bytes=write.body_bytes)


def ask(shortcut: Shortcut, data: bytearray, count: int) -> Taken | Underway | SmallWrite | Unfinished | None:
    """What the shortcut has to say to the request in the first `count` bytes."""
    try:
        return shortcut.answer(data, 0, count)
    except Exception:
        # A mistake of the application's: the long way has its own answer, and this task serves all connections.
        logger.exception("a shortcut failed")
        return None
