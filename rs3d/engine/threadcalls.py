"""Calls on the loop that threads ask for, made by whoever watches the idle connections of a server: a word by trio's
own way costs the loop a turn of its scheduler, and what it tells of is often answered without one."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable

import trio

from rs3d.types.watching import Watch


class ThreadCalls:
    """Those of one loop. By trio while nobody watches."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        """Held while somebody is told, so that nobody is told of a call who has ended watching."""
        self._fd = -1
        """An eventfd, while it is watched."""

    def on_this_loop(self) -> ThreadCalls:
        """This, for threads of the loop that asks; once before any of them does."""
        self._token = trio.lowlevel.current_trio_token()
        return self

    def run_sync_soon(self, call: Callable[[], None]) -> None:
        """Have the loop call that, after those before it. It must not raise. Any thread.

        Raises:
            trio.RunFinishedError: the loop has ended.
        """
        with self._lock:
            if self._fd >= 0:
                self._calls.append(call)
                os.eventfd_write(self._fd, 1)
                return
        if self._token is None:
            raise RuntimeError("a call on no loop")
        self._token.run_sync_soon(call)

    def read_by(self, watch: Watch) -> Callable[[], None]:
        """Have `watch` tell of them, until the returned function is called."""
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        end_watch = watch(fd, self._come)
        self._fd = fd

        def end() -> None:
            end_watch()
            with self._lock:
                self._fd = -1
            self._run()
            os.close(fd)

        return end

    def _come(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        self._run()

    def _run(self) -> None:
        while self._calls:
            self._calls.popleft()()
