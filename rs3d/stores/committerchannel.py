"""The way between a worker and the committer. Without trio: the supervisor makes it, and only hands its ends on."""

from __future__ import annotations

import socket
from typing import Final

SOCKET_BUFFER_BYTES: Final = 4 << 20


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """A SEQPACKET pair for one worker: (its end, the committer's end), with buffers for what may be outstanding."""
    worker, committer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (worker, committer):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
    return worker, committer
