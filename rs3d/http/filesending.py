"""Threads that send long parts of files to sockets, past the interpreter: a body of 64 MiB would otherwise come back to
the loop hundreds of times, each time through code that no cache holds any more.

A thread is a client's as long as that one takes what it is sent. One that lets it wait for PATIENCE_S in all, and takes
no more than some MiB meanwhile, gets no other; and when all threads are taken, the loop sends as it always can. So
nobody waits for a thread, and slow clients, however many, hold none.
"""

from __future__ import annotations

import queue
import threading
from typing import Final

import trio

from rs3d.kernels.splice import FileSender, Sent

SENDERS: Final = 16
"""Threads of one server at most: more bodies at once than keep any network busy."""

PATIENCE_S: Final = 1.0
"""All that the waits of one sending may take together."""


class Sender:
    """One thread, and the sending it is at. Its life is a loop's; `FileSenders` makes and keeps it."""

    def __init__(self, owner: FileSenders, number: int) -> None:
        """Raises:
        OSError, RuntimeError: the process has too many descriptors or threads.
        """
        self._owner = owner
        self._kernel = FileSender()
        self._jobs: queue.SimpleQueue[tuple[int, int, int, int] | None] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._task: trio.lowlevel.Task | None = None
        self._ended: Sent | OSError | None = None
        threading.Thread(target=self._work, name=f"sender-{number}", daemon=True).start()

    async def send(self, socket_fd: int, file_fd: int, offset: int, length: int) -> Sent:
        """Send `length` bytes from `offset` of a file, and be free again: see `FileSender.send`.

        Both descriptors have to stay open until this returns. When it is cancelled it returns soon, and leaves it to
        the caller's next checkpoint to say so: what was sent counts.

        Raises:
            OSError: the socket's error or the file's; nothing was sent.
        """
        self._kernel.rearm()
        self._ended = None
        self._task = trio.lowlevel.current_task()
        self._jobs.put((socket_fd, file_fd, offset, length))
        await trio.lowlevel.wait_task_rescheduled(self._abort)
        ended: Sent | OSError | None = self._ended
        self._owner.put_back(self)
        if isinstance(ended, Sent):
            return ended
        raise ended or OSError("a sending ended without a word")

    def stop(self) -> None:
        """Make `send` return soon. For the loop, while that is awaited."""
        self._kernel.stop()

    def end(self) -> None:
        """End the thread, which is free."""
        self._jobs.put(None)

    def _abort(self, _raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._kernel.stop()
        return trio.lowlevel.Abort.FAILED

    def _work(self) -> None:
        patience_ns = int(self._owner.patience_s * 1e9)
        while (job := self._jobs.get()) is not None:
            try:
                self._ended = self._kernel.send(*job, patience_ns)
            except OSError as error:
                self._ended = error
            try:
                self._token.run_sync_soon(self._wake)
            except trio.RunFinishedError:  # so nobody can be waiting
                return

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)


class FileSenders:
    """The threads of one server, made when they are needed. For one loop."""

    def __init__(self, count: int = SENDERS, patience_s: float = PATIENCE_S) -> None:
        self.patience_s = patience_s
        self._count = count
        self._made = 0
        self._free: list[Sender] = []

    def take(self) -> Sender | None:
        """A free thread, the one used last; None when there is none. The end of its `send` gives it back."""
        if self._free:
            return self._free.pop()
        if self._made >= self._count:
            return None
        try:
            sender = Sender(self, self._made)
        except (OSError, RuntimeError):
            return None
        self._made += 1
        return sender

    def put_back(self, sender: Sender) -> None:
        """It is free."""
        self._free.append(sender)

    def close(self) -> None:
        """End the threads. No connection may be left."""
        for sender in self._free:
            sender.end()
        self._free.clear()
