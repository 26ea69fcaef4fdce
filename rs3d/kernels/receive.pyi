"""Bytes of a body from a non-blocking socket into memory, in a thread of the caller's, for as long as they come.

The loop's way of receiving comes back to the interpreter for each piece that the kernel has, and waits for the rest in
the scheduler; here a thread receives, waits and receives without the GIL, until it has all, the client is too slow, or
somebody stops it. Sources: recv(2), poll(2).
"""

import enum
from typing import NamedTuple, final

from _typeshed import WriteableBuffer

class Ending(enum.Enum):
    """Why `BodyReceiver.receive` returned."""

    DONE = "done"
    """All bytes asked for are there."""
    END = "end"
    """The stream ended before."""
    SLOW = "slow"
    """The socket was waited for as long as was said."""
    STOPPED = "stopped"
    """By `stop`."""
    FAILED = "failed"
    """The socket failed after bytes were received."""

class Received(NamedTuple):
    """What `BodyReceiver.receive` did."""

    received_bytes: int
    """They are at the beginning of the buffer; not one more was taken from the socket."""
    waited_ns: int
    """For the client."""
    ending: Ending

@final
class BodyReceiver:
    """Receives from non-blocking sockets, in a thread of the caller's, and can be stopped from another.

    One receiving at a time. Holds one descriptor until the object's end.

    Raises:
        OSError: no descriptors are left.
    """

    def receive(self, socket_fd: int, buffer: WriteableBuffer, patience_ns: int) -> Received:
        """Fill `buffer`, and whenever the socket has nothing, wait until it has.

        Args:
            socket_fd: connected, and open until this returns.
            buffer: writable; all of it is wanted. Nobody else touches it meanwhile.
            patience_ns: how long all waits may take together.

        Raises:
            OSError: the socket's error, and nothing was received.
            ValueError: a negative number.
            RuntimeError: another thread is inside.

        Blocking: *blocks* as long as bytes come, and for `patience_ns` while they do not.
        """

    def stop(self) -> None:
        """Make `receive` return after its system call: the one under way, or else those to come until `rearm`. Any
        thread."""

    def rearm(self) -> None:
        """Forget `stop`. RuntimeError while a receiving runs."""

def selftest() -> int:
    """Receives from a socket of its own. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
