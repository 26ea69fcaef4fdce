"""Waiting for another process without guessing how long it takes: look again until it is so, or fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 180.0


def wait_until(look: Callable[[], T | None], *, patience_s: float = PATIENCE_S) -> T:
    """The first true answer of `look`.

    Raises:
        AssertionError: there was none in time.
    """
    give_up_at_s = time.monotonic() + patience_s
    pause = threading.Event()
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() >= give_up_at_s:
            raise AssertionError(f"waited {patience_s} s in vain for {look}")
        pause.wait(0.05)
