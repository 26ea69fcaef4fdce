"""What lets a thread receive a body that the loop would come back to for each piece: `shortcut.Incoming`.

A thread is a client's as long as that one sends. One that lets it wait for PATIENCE_S in all gets no other, so slow
clients hold none. Whoever runs the threads may let a body wait for one; meanwhile nobody reads its socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rs3d.kernels.receive import BodyReceiver, Ending

RECEIVERS: Final = 512
"""Bodies of one server that are received by threads, or wait for one, at once: as many as requests may be in flight.
How many threads there are, who runs them says."""

PATIENCE_S: Final = 0.5
"""All that the waits for one body may take together."""


class Receiver:
    """Receives one body at a time from a socket that stays open meanwhile. Made and kept by `Receivers`."""

    __slots__ = ("_is_stopped", "_kernel", "_socket_fd", "_stop", "patience_ns", "was_slow")

    def __init__(self, patience_s: float) -> None:
        self._kernel: BodyReceiver | None = None
        """Made by the first `receive`: it has a descriptor, and most sockets are lent."""
        self._is_stopped = False
        self.patience_ns = int(patience_s * 1e9)
        self._socket_fd = -1
        self._stop: Callable[[], None] | None = None
        self.was_slow = False

    def aim(self, socket_fd: int) -> None:
        """The next body comes from there."""
        if self._kernel is not None:
            self._kernel.rearm()
        self._is_stopped = False
        self._socket_fd = socket_fd
        self.was_slow = False

    def receive(self, buffer: memoryview) -> int:
        """See `shortcut.Source`."""
        if not len(buffer):
            return 0
        try:
            if self._kernel is None:
                self._kernel = BodyReceiver()
            if self._is_stopped:  # `stop` sets it before it looks for a kernel
                return 0
            received = self._kernel.receive(self._socket_fd, buffer, self.patience_ns)
        except OSError:
            return 0  # the long way meets the end of the stream behind it, or has no need of another descriptor
        self.was_slow = received.ending is Ending.SLOW
        return received.received_bytes

    def lend(self, stop: Callable[[], None]) -> int:
        """See `shortcut.Source`."""
        self._stop = stop
        return self._socket_fd

    def give_back(self, *, is_slow: bool) -> None:
        """See `shortcut.Source`."""
        self._stop = None
        self.was_slow = is_slow

    def stop(self) -> None:
        """Make `receive` return soon, that to come as well, or who was lent the socket. For the loop."""
        self._is_stopped = True
        if self._kernel is not None:
            self._kernel.stop()
        if self._stop is not None:
            self._stop()


class Receivers:
    """The receivers of one server, made when they are needed. For one loop."""

    def __init__(self, count: int = RECEIVERS, patience_s: float = PATIENCE_S) -> None:
        self._count = count
        self._patience_s = patience_s
        self._made = 0
        self._free: list[Receiver] = []

    def take(self, socket_fd: int) -> Receiver | None:
        """A free one, aimed; None when there is none."""
        if self._free:
            receiver = self._free.pop()
        elif self._made < self._count:
            receiver = Receiver(self._patience_s)
            self._made += 1
        else:
            return None
        receiver.aim(socket_fd)
        return receiver

    def put_back(self, receiver: Receiver) -> None:
        """It is free."""
        self._free.append(receiver)
