"""What this process itself has open and runs, counted so that what other tests left behind does not matter."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable

PATIENCE_SECONDS = 20.0


def own_descriptors() -> list[str]:
    """Numbers of the open descriptors, after those went that earlier tests left to the garbage collector."""
    gc.collect()
    return os.listdir("/proc/self/fd")


def own_threads() -> set[str]:
    """Numbers of the threads. Threads that idle (Trio keeps some for ten seconds) may end at any time."""
    return set(os.listdir("/proc/self/task"))


def until(is_so: Callable[[], bool]) -> bool:
    """Whether something comes to be so. Blocking. The kernel lists a thread for a moment after it was joined."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.001)
    return True
