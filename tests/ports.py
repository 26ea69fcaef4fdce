"""Ports of the loopback address for servers that have to be told theirs before they start."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Final

FIRST_PORT: Final = 24_000
PORTS_OF_A_PROCESS: Final = 1_000
PROCESSES: Final = 8
"""All lie below the range from which the kernel takes the ports of connections and of listeners without a port of their
own (32,768 and up): any of those may be in use a moment later."""

_PROCESS: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES
"""pytest-xdist runs tests in several processes beside each other: each takes ports of its own."""
_NUMBERS = itertools.cycle(
    range(FIRST_PORT + _PROCESS * PORTS_OF_A_PROCESS, FIRST_PORT + (_PROCESS + 1) * PORTS_OF_A_PROCESS)
)


def free_port() -> int:
    """A port on which nobody listens, and which no other test is given soon."""
    for port in _NUMBERS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a cycle has no end")
