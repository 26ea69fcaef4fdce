"""A few threads that hash, write and verify, and a cheap way for a Trio task to wait for them.

Why not `trio.to_thread`: a job can be started now and awaited later (the next piece is prepared while this one is
sent), started in a fixed order, and waited for by another thread; and it costs a third.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar, cast

import outcome
import trio
from trio.lowlevel import current_trio_token

from rs3d.priority import lower_priority

T = TypeVar("T")

_log = logging.getLogger("rs3d.engine.threads")
_MAKING_EVENTS: Final = threading.Lock()
"""Two threads that wait for one job wait for the same event."""


class _Work(Protocol):
    def run(self) -> None:
        """For the thread. Does not raise."""
        ...


class Teller(Protocol):
    """The way of a thread's word to the loop: a `TrioToken`, or another."""

    def run_sync_soon(self, call: Callable[[], None], /) -> object:
        """Have the loop make that call. Any thread.

        Raises:
            trio.RunFinishedError
        """
        ...


class _Unawaited:
    """One call in a thread whose end nobody is told of."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def run(self) -> None:
        try:
            self._call()
        except Exception:
            _log.exception("a call that nobody waits for failed")


class Job(Generic[T]):
    """One call in a thread: started already, result or exception later."""

    __slots__ = ("_after", "_call", "_ended", "_on_end", "_outcome", "_task", "_teller")

    def __init__(self, call: Callable[[], T], teller: Teller, on_end: Callable[[], None]) -> None:
        self._call: Callable[[], T] | None = call
        self._outcome: outcome.Outcome[T] | None = None
        self._task: trio.lowlevel.Task | None = None
        self._teller = teller
        self._on_end = on_end
        self._after: Callable[[], None] | None = None
        self._ended: threading.Event | None = None

    def run(self) -> None:
        """For the thread."""
        call = cast("Callable[[], T]", self._call)
        self._call = None
        self._outcome = outcome.capture(call)
        ended = self._ended
        if ended is not None:
            ended.set()
        try:
            self._teller.run_sync_soon(self._wake)
        except trio.RunFinishedError:
            # The loop is gone, so nobody can be waiting.
            return

    def _wake(self) -> None:
        self._on_end()
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)
        if self._after is not None:
            self._after()

    def on_done(self, after: Callable[[], None]) -> None:
        """Call `after` on the loop when the job has ended. To be set by the task that started the job, at once."""
        self._after = after

    @property
    def is_done(self) -> bool:
        return self._outcome is not None

    def result(self) -> T:
        """The call's result, or its exception, of a job that has ended."""
        return cast("outcome.Outcome[T]", self._outcome).unwrap()

    @property
    def ended(self) -> threading.Event:
        """For another thread to wait for. Made when it is asked for, which is seldom."""
        with _MAKING_EVENTS:
            ended = self._ended
            if ended is None:
                ended = self._ended = threading.Event()
                # `run` sets the outcome before it looks for an event: one of the two sees the other.
                if self._outcome is not None:
                    ended.set()
        return ended

    async def wait(self, stop: Callable[[], None] | None = None) -> T:
        """The call's result, or its exception.

        Args:
            stop: called once when the task is cancelled, on the loop: to make the thread end soon. Must not raise.

        Cancellation: not delivered here, because the thread may be using the caller's buffers; it arrives at the next
        checkpoint. By one task, once.
        """

        def abort(_raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            if stop is not None:
                stop()
            return trio.lowlevel.Abort.FAILED

        if self._outcome is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(abort)
        return cast("outcome.Outcome[T]", self._outcome).unwrap()

    def join(self) -> T:
        """The same for another thread. Blocks. Free of deadlock when this job was started before the one that joins
        it."""
        self.ended.wait()
        return cast("outcome.Outcome[T]", self._outcome).unwrap()


class Threads:
    """Threads made on demand, up to a bound; jobs start in the order in which they were given."""

    def __init__(
        self,
        count: int,
        name: str = "engine",
        *,
        steps_behind: int = 0,
        find_teller: Callable[[], Teller] = current_trio_token,
    ) -> None:
        """Args:
        steps_behind: by how much the threads let that one go before them that starts their jobs (`lower_priority`).
        find_teller: asked once, on the loop, who tells it of their ends.
        """
        if count < 2:
            raise ValueError("a job that joins another needs two threads")
        self._count = count
        self._name = name
        self._steps_behind = steps_behind
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._outstanding = 0
        self._find_teller = find_teller
        self._teller: Teller | None = None

    def start(self, call: Callable[[], T]) -> Job[T]:
        """Run `call` in a thread. Loop-safe."""
        teller = self._teller
        if teller is None:
            teller = self._teller = self._find_teller()
        job = Job(call, teller, self._count_down)
        self._queue.put(job)
        self._outstanding += 1
        self._make_up_to(self._outstanding)
        return job

    def start_unawaited(self, call: Callable[[], None]) -> None:
        """As `start`, for what others will do themselves if no thread comes to it in time: the loop is not told of its
        end, which costs it a turn. `call` should not raise; what it raises is logged."""
        self._queue.put(_Unawaited(call))
        self._make_up_to(self._outstanding + 2)  # and the job that it is to help, which is started next

    def _make_up_to(self, wanted: int) -> None:
        while len(self._threads) < min(self._count, wanted):
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    @property
    def outstanding(self) -> int:
        """Jobs that have not ended, or whose end the loop has not noticed yet."""
        return self._outstanding

    @property
    def is_full(self) -> bool:
        """Whether a job that is started now may have to wait for another's end."""
        return self._outstanding >= self._count

    async def run(self, call: Callable[[], T]) -> T:
        """Run `call` in a thread and wait for it; cancellation as in `Job.wait`."""
        return await self.start(call).wait()

    def _count_down(self) -> None:
        self._outstanding -= 1

    def _work(self) -> None:
        if self._steps_behind:
            lower_priority(self._steps_behind)
        while True:
            job = self._queue.get()
            if job is None:
                return
            job.run()

    def stop(self) -> None:
        """Let all jobs end, then the threads. Blocks."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
