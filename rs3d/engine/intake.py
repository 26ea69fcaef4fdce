"""Long bodies that come from a socket as they are: a thread receives, hashes and writes one, in one visit of the
interpreter for many pieces, while the loop serves others; the visit that has its last byte ends it, too.

The loop would come back five times for each MiB and start a thread for it, each time through code that no cache holds
any more; of a PUT of 16 MiB that was a third of the processor time. A client that lets its thread wait for PATIENCE_NS
during one intake is received by the loop from there on, which can always go on where a thread stopped. So slow clients
hold no thread, and an intake has no error of a socket of its own: the loop meets what the thread has met.

A body in a framing goes the same way, which takes the framing away and hashes each signed chunk. Its threads go on
where the loop has to receive: what is framed is never looked at there.
"""

from __future__ import annotations

from typing import Final, Protocol

import trio

from rs3d.engine.threads import Job
from rs3d.kernels.bodyhash import Ending, Intake
from rs3d.types.body import Direct, Framed

INTAKE_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of one intake: at the disk's speed some 0.1 s, after which it is asked again who waits for a thread."""

PATIENCE_NS: Final = 500_000_000
"""All that the waits of one intake may take together: whole ones go on by threads from 32 MiB/s on."""


_GO_ON: Final = frozenset({Ending.DONE, Ending.FULL})
"""After which a thread may receive more; else the loop meets what that one met."""


class Storing(Protocol):
    """A body that is being stored."""

    @property
    def has_free_thread(self) -> bool:
        """Whether an intake that is started now begins at once."""
        ...

    def start_intake(
        self, intake: Intake, buffer: memoryview, filled_bytes: int, socket_fd: int, length: int, *, to_end: bool
    ) -> Job[Ending | None]:
        """Receive, hash and write as by `Intake.take` with these arguments; and end the body when it was received
        `to_end`. None when nothing was done."""
        ...

    def start_framed_intake(
        self,
        intake: Intake,
        framed: Framed,
        buffer: memoryview,
        filled_bytes: int,
        framed_bytes: int,
        socket_fd: int | None,
        length: int,
        *,
        to_end: bool,
    ) -> Job[Ending | None]:
        """The same of a body with its framing, and check that; `framed_bytes` behind the `filled_bytes` have it. One
        intake is used again and again; nothing is received without a socket."""
        ...

    @property
    def has_ended(self) -> bool:
        """Whether the body was ended."""
        ...


async def take_in(
    direct: Direct, storing: Storing, buffer: memoryview, filled_bytes: int, length: int
) -> tuple[int, int]:
    """Have threads receive, hash and write what they can of a body of `length` bytes.

    Args:
        buffer: lent; `filled_bytes` of it, at least 1, are the first that were received, and are written too.

    Returns:
        Bytes that are written, and bytes in the buffer that come next and are not. The body has ended when `length`
        are written; else the source goes on.

    Raises:
        Rs3dError: the file could not be written. What the source has delivered is right in any case.
    Cancellation: soon; what was received is lost to the caller, as the body is.
    """
    written_bytes = 0
    while written_bytes + filled_bytes < length and storing.has_free_thread:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            intake = Intake()
        except OSError:  # the process has too many descriptors
            break
        socket_fd = direct.lend(intake.stop)
        if socket_fd is None:
            break
        ending: Ending | None = None
        try:
            left = length - written_bytes - filled_bytes
            more = min(left, INTAKE_BYTES)
            job = storing.start_intake(intake, buffer, filled_bytes, socket_fd, more, to_end=more == left)
            ending = await job.wait(intake.stop)
        finally:
            is_slow = ending is Ending.SLOW
            direct.give_back(intake.received_bytes, intake.waited_ns / 1e9, is_slow=is_slow)
        written_bytes += intake.written_bytes
        filled_bytes += intake.received_bytes - intake.written_bytes
        if ending is not Ending.DONE:
            break
    return written_bytes, filled_bytes


async def take_in_framed(framed: Framed, storing: Storing, buffer: memoryview) -> int:
    """Have threads take in all of a body with its framing, and end it.

    Args:
        buffer: lent.

    Returns:
        Nothing to be done any more when the body has ended. Else this cannot be done here, nothing was, and so many
        bytes of the body are in the buffer, behind which the source goes on.

    Raises:
        Rs3dError: the body is not what it should be, did not come, or could not be written.
    Cancellation: soon; what was received is lost to the caller, as the body is.
    """
    direct, left = framed.direct_framed, framed.framed_bytes
    received = await framed.receive_framed(buffer)
    left -= received
    filled = 0
    may_lend = True
    try:
        intake = Intake()
    except OSError:  # the process has too many descriptors
        return framed.take_back(buffer[:received])
    while True:
        await trio.lowlevel.checkpoint_if_cancelled()
        socket_fd = direct.lend(intake.stop) if left and may_lend and storing.has_free_thread else None
        if socket_fd is None:
            more = 0
            while left and filled + received < len(buffer):
                count = await framed.receive_framed(buffer[filled + received :])
                received += count
                left -= count
        else:
            more = min(left, INTAKE_BYTES)
        before_bytes, before_ns = intake.received_bytes, intake.waited_ns
        ending: Ending | None = None
        try:
            job = storing.start_framed_intake(
                intake, framed, buffer, filled, received, socket_fd, more, to_end=more == left
            )
            ending = await job.wait(intake.stop)
        finally:
            came_bytes = intake.received_bytes - before_bytes
            if socket_fd is not None:
                waited_s = (intake.waited_ns - before_ns) / 1e9
                direct.give_back(came_bytes, waited_s, is_slow=ending is Ending.SLOW)
        if ending is None:
            return framed.take_back(buffer[:received])
        if storing.has_ended:
            return 0
        left -= came_bytes
        filled, received = intake.filled_bytes, intake.framed_bytes
        may_lend = may_lend and ending in _GO_ON
