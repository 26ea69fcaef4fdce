"""Long bodies that come from a socket as they are: a thread receives, hashes and writes all but the last of one, in one
visit of the interpreter for many pieces, while the loop serves others.

The loop would come back five times for each MiB and start a thread for it, each time through code that no cache holds
any more; of a PUT of 16 MiB that was a third of the processor time. A client that lets its thread wait for PATIENCE_NS
during one intake is received by the loop from there on, which can always go on where a thread stopped. So slow clients
hold no thread, and an intake has no error of a socket of its own: the loop meets what the thread has met.
"""

from __future__ import annotations

from typing import Final, Protocol

import trio

from rs3d.engine.threads import Job
from rs3d.kernels.bodyhash import Ending, Intake
from rs3d.types.body import Direct

INTAKE_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of one intake: at the disk's speed some 0.1 s, after which it is asked again who waits for a thread."""

PATIENCE_NS: Final = 500_000_000
"""All that the waits of one intake may take together: whole ones go on by threads from 32 MiB/s on."""


class Storing(Protocol):
    """A body that is being stored."""

    @property
    def has_free_thread(self) -> bool:
        """Whether an intake that is started now begins at once."""
        ...

    def start_intake(
        self, intake: Intake, buffer: memoryview, filled_bytes: int, socket_fd: int, length: int
    ) -> Job[Ending | None]:
        """Receive, hash and write as by `Intake.take` with these arguments; None when nothing was done."""
        ...


async def take_in(
    direct: Direct, storing: Storing, buffer: memoryview, filled_bytes: int, length: int
) -> tuple[int, int]:
    """Have threads receive, hash and write what they can of a body of `length` bytes.

    Args:
        buffer: lent; `filled_bytes` of it, at least 1, are the first that were received, and are written too.

    Returns:
        Bytes that are written, and bytes in the buffer that come next and are not. All of the body has been received
        when they are `length` together; else the source goes on.

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
            more = min(length - written_bytes - filled_bytes, INTAKE_BYTES)
            job = storing.start_intake(intake, buffer, filled_bytes, socket_fd, more)
            ending = await job.wait(intake.stop)
        finally:
            is_slow = ending is Ending.SLOW
            direct.give_back(intake.received_bytes, intake.waited_ns / 1e9, is_slow=is_slow)
        written_bytes += intake.written_bytes
        filled_bytes += intake.received_bytes - intake.written_bytes
        if ending is not Ending.DONE:
            break
    return written_bytes, filled_bytes
