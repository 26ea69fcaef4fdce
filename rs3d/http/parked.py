"""A parked connection. For `parking.py`."""

from __future__ import annotations

import socket

from trio.lowlevel import Task

from rs3d.http.answers import Answer
from rs3d.http.bodyreceiving import Receiver
from rs3d.http.buffers import ReceiveBuffer
from rs3d.http.deadlines import Deadline
from rs3d.http.limits import HttpLimits
from rs3d.kernels.smallwrites import SmallWrite


class Parked:
    """What is known of one connection while it waits, and while it is answered."""

    __slots__ = (
        "answer",
        "deadline",
        "is_cancelled",
        "is_watched",
        "limits",
        "others",
        "partial",
        "peer",
        "puts",
        "receiver",
        "request",
        "socket",
        "takes_shortcuts",
        "task",
        "wanted_bytes",
        "write",
    )

    def __init__(
        self, task: Task, connected: socket.socket, deadline: Deadline, peer: str, takes: bool, limits: HttpLimits
    ) -> None:
        self.task = task
        self.socket = connected
        self.deadline = deadline
        self.peer = peer
        self.takes_shortcuts = takes
        self.limits = limits
        self.answer: Answer | None = None
        """What the socket has not taken yet: until it has, no request of this connection is looked at."""
        self.request: ReceiveBuffer | None = None
        """A request whose answer is under way; neither is one behind it looked at."""
        self.write: SmallWrite | None = None
        """The same, where it is a small write."""
        self.partial: ReceiveBuffer | None = None
        """A request whose body has not arrived whole; it is looked at again when it has `wanted_bytes`."""
        self.wanted_bytes = 0
        self.receiver: Receiver | None = None
        """What a thread receives the request's body with: until the answer is made, the socket has to stay open."""
        self.is_cancelled = False
        """Whether the task was to be woken meanwhile."""
        self.puts = self.others = 0
        """Of late: small puts, and reads and deletes that were answered here."""
        self.is_watched = True
        """Whether the epoll has it: not from when something arrives behind a request that is under way, nor while a
        thread receives."""

    @property
    def is_answering(self) -> bool:
        """Whether an answer to it is on its way."""
        return self.answer is not None or self.request is not None or self.write is not None
