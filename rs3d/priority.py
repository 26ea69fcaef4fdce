"""Who goes first when the processor is short: threads that can wait say so themselves.

Rank 0. Nothing here blocks.
"""

from __future__ import annotations

import contextlib
import os


def lower_priority(steps: int) -> None:
    """Let other threads go before the calling one: each step is worth a quarter more processor time for them.

    On Linux a nice value belongs to a thread, which hands it on to the threads and processes that it starts. It is for
    ever: raising a priority needs a privilege. Harmless where the kernel refuses (a filter of system calls, as
    systemd's `~@resources`): then nobody goes first.

    Args:
        steps: added to the thread's nice value, which ends at 19.
    """
    with contextlib.suppress(OSError):
        os.nice(steps)
