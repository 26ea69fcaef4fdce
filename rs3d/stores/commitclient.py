"""A worker's end of the committer's channel, under Trio: `interfaces.Committer`. STORE.md 10-13.

`commit` is shielded from its first packet on: whoever waits for it is cancelled only after the answer. When the
committer dies, operations without an answer wait for its successor's channel (`reattach`) and are sent again under
their old ids, which makes that harmless; an operation that is outstanding at a second death is given up as unknown,
and so are all when no successor comes in time: until one does, nothing more is accepted.
A committer in a thread of this process has no successor: at its end all are given up.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Final

import outcome
import trio
from msgspec import Struct

from rs3d.errors import CommitterGone, OutcomeUnknown, ProtocolMismatch, Rs3dError, StoreReadOnly
from rs3d.kernels import smallwrites
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.stores import messages
from rs3d.stores.outcomes import decode_outcome
from rs3d.types.identifiers import Epoch, OperationId, Sequence
from rs3d.types.operations import Operation, Outcome
from rs3d.types.watching import Watch

_log = logging.getLogger(__name__)

_OPERATION_ID: Final[Callable[[tuple[int, int]], OperationId]] = partial(tuple.__new__, OperationId)
"""Without the function that its name is: one is made for each write."""

DEATHS_SURVIVED = 1
"""Deaths of the committer after which an operation is sent again; at one more it is given up (STORE.md 11)."""


class _Waiting(Struct):
    """An operation without its answer."""

    parts: tuple[bytes, bytes]
    size_bytes: int
    settle: Callable[[Outcome | Rs3dError], None]
    sent: bool = False
    deaths: int = 0


class CommitClient:
    """Operations in, outcomes out. One per worker; used by tasks of one Trio loop.

    `run` must be running (in a nursery of the opener's) while `commit` is used.
    """

    def __init__(
        self,
        channel: socket.socket,
        on_given_up: Callable[[bytes], None] | None = None,
        *,
        last_words: Callable[[], str] | None = None,
        successor_wait_s: float = math.inf,
    ) -> None:
        """Begin on one end of a SEQPACKET pair, whose other end is the committer's.

        Args:
            on_given_up: gets the message of an operation that saw two committers die, to be kept for whoever looks
                into it (`messages.decode_operation` reads it).
            last_words: of a committer that has no successor: why it ended, asked for when it has. Nobody waits for
                an answer then, and nothing more is sent.
            successor_wait_s: how long operations wait for a committer's successor, from its end on.
        """
        self._on_given_up = on_given_up
        self._last_words = last_words
        self._successor_wait_s = successor_wait_s
        self._refusal: Callable[[], Rs3dError] | None = None
        """What `commit` raises while nothing can be committed."""
        channel.setblocking(False)
        self._socket = channel
        self._epoch = 0
        self._last_sequence = 0
        self._next_counter = 1
        self._waiting: dict[int, _Waiting | SmallWrite] = {}
        self._outstanding_bytes = 0
        self._last_entered = 0
        self._are_in_order = True
        """Whether what waits was entered by rising counters."""
        self._queue: deque[tuple[trio.lowlevel.Task, int]] = deque()
        self._unsent: deque[int] = deque()
        self._is_full = False
        """Whether the socket took no more, until it is read again."""
        self._watch: Watch | None = None
        self._end_watch: Callable[[], None] | None = None
        self._woken = trio.Event()
        """Set when a watch ends."""
        self._unexpected: Exception | None = None
        """What an answer that came by a watch was not; raised by `run`."""
        self._gone: str | None = None
        self._closed = False
        self._epoch_known = trio.Event()
        self._attached = trio.Event()
        self._attached.set()

    @classmethod
    def without_committer(cls, reason: str, *, successor_wait_s: float) -> CommitClient:
        """One that refuses everything until `reattach`: while none can start, reads are served all the same."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        client = cls(ours, successor_wait_s=successor_wait_s)
        client._refusal = lambda: StoreReadOnly(reason=reason)
        return client

    @property
    def epoch(self) -> Epoch:
        """This worker's epoch.

        Raises:
            CommitterGone: the committer has not said hello yet (`await opened()`).
        """
        if not self._epoch:
            raise CommitterGone(reason="it has not answered yet")
        return Epoch(self._epoch)

    @property
    def last_sequence(self) -> Sequence:
        """The highest sequence that this worker knows to be committed: what it publishes in the horizon."""
        return Sequence(self._last_sequence)

    async def opened(self) -> Epoch:
        """Wait for the committer's hello."""
        await self._epoch_known.wait()
        return Epoch(self._epoch)

    def next_id(self) -> OperationId:
        counter = self._next_counter
        self._next_counter = counter + 1
        return _OPERATION_ID((self._epoch or self.epoch, counter))

    async def commit(self, operation: Operation) -> Outcome:
        """Durable when it returns. See `interfaces.Committer.commit` for what it raises."""
        if self._refusal is not None:
            raise self._refusal()
        counter = operation.id.counter
        parts = messages.encode_operation(operation, self._answered_below(counter))
        size_bytes = len(parts[0]) + len(parts[1])
        if (
            self._queue
            or len(self._waiting) >= messages.OUTSTANDING_OPERATIONS
            or (self._waiting and self._outstanding_bytes + size_bytes > messages.OUTSTANDING_BYTES)
        ):
            await self._wait_for_room(size_bytes)
            if self._refusal is not None:
                raise self._refusal()
        self._begin(counter, parts, size_bytes, partial(_resume, trio.lowlevel.current_task()))
        result: Outcome = await trio.lowlevel.wait_task_rescheduled(_shielded)
        return result

    def submit(self, operation: Operation, settle: Callable[[Outcome | Rs3dError], None]) -> bool:
        """See `interfaces.Committer.submit`."""
        if self._closed or self._gone is not None or self._queue or self._is_full:
            return False
        waiting = self._waiting
        if len(waiting) >= messages.OUTSTANDING_OPERATIONS:
            return False
        counter = operation.id.counter
        # Written out where others call functions: small writes come by the thousand, each in a cache that others used.
        if waiting and not self._are_in_order:
            answered_below = self._answered_below(counter)
        else:
            answered_below = min(counter, next(iter(waiting), counter))
        parts = messages.encode_operation(operation, answered_below)
        size_bytes = len(parts[0]) + len(parts[1])
        if waiting:
            if self._outstanding_bytes + size_bytes > messages.OUTSTANDING_BYTES:
                return False
            if counter < self._last_entered:
                self._are_in_order = False
        else:
            self._are_in_order = True
        self._last_entered = counter
        waiting[counter] = _Waiting(parts, size_bytes, settle)
        self._outstanding_bytes += size_bytes
        self._unsent.append(counter)
        return True

    def submit_write(self, write: SmallWrite) -> bool:
        """See `interfaces.Committer.submit_write`."""
        if self._closed or self._gone is not None or self._queue or self._is_full:
            return False
        waiting, counter, size_bytes = self._waiting, self._next_counter, write.size_bytes
        answered_below = counter
        if waiting:
            if (
                len(waiting) >= messages.OUTSTANDING_OPERATIONS
                or self._outstanding_bytes + size_bytes > messages.OUTSTANDING_BYTES
            ):
                return False
            answered_below = next(iter(waiting)) if self._are_in_order else self._answered_below(counter)
        else:
            self._are_in_order = True
        write.number(self._epoch or self.epoch, counter, answered_below)
        self._next_counter = counter + 1
        self._last_entered = counter  # none that was entered is younger
        waiting[counter] = write
        self._outstanding_bytes += size_bytes
        self._unsent.append(counter)
        return True

    def submit_writes(self, writes: list[SmallWrite]) -> list[SmallWrite]:
        """See `interfaces.Committer.submit_writes`."""
        if self._closed or self._gone is not None or self._queue or self._is_full:
            return writes
        waiting, counter, entered = self._waiting, self._next_counter, None
        was_empty = not waiting
        if len(waiting) + len(writes) <= messages.OUTSTANDING_OPERATIONS:
            below = counter if was_empty else self._answered_below(counter)
            room = messages.OUTSTANDING_BYTES - self._outstanding_bytes
            channel = -1 if self._unsent else self._socket.fileno()
            entered = smallwrites.submit(writes, self._epoch or self.epoch, counter, below, waiting, room, channel)
        if entered is None:
            return [write for write in writes if not self.submit_write(write)]
        size_bytes, is_sent = entered
        if was_empty:
            self._are_in_order = True
        self._next_counter = stop = counter + len(writes)
        self._last_entered = stop - 1  # none that was entered is younger
        self._outstanding_bytes += size_bytes
        if not is_sent:
            self._unsent.extend(range(counter, stop))
        return []

    def reserve(self, operation: Operation, settle: Callable[[Outcome | Rs3dError], None]) -> tuple[int, bytes] | None:
        """See `interfaces.Committer.reserve`. Only of a committer without successor: what was not sent yet cannot be
        sent again."""
        if self._last_words is None or not self.submit(operation, settle):
            return None
        counter = self._unsent.pop()
        waiting = self._waiting[counter]
        waiting.sent = True  # or will be, at any time
        return self._socket.fileno(), b"".join(waiting.parts)

    def give_up_reserved(self, operation: OperationId) -> None:
        """See `interfaces.Committer.give_up_reserved`."""
        waiting = self._waiting.pop(operation.counter, None)
        if waiting is not None:
            self._outstanding_bytes -= waiting.size_bytes
            self._admit()

    def send_submitted(self) -> None:
        """See `interfaces.Committer.send_submitted`."""
        if self._unsent and not self._is_full and self._gone is None:
            self._send_waiting()

    def _begin(
        self,
        counter: int,
        parts: tuple[bytes, bytes],
        size_bytes: int,
        settle: Callable[[Outcome | Rs3dError], None],
    ) -> None:
        self._enter(counter, _Waiting(parts, size_bytes, settle))
        if self._gone is None:
            self._unsent.append(counter)
            self._send_waiting()

    def _enter(self, counter: int, waiting: _Waiting) -> None:
        if not self._waiting:
            self._are_in_order = True
        elif counter < self._last_entered:  # it waited for room while younger ones found some
            self._are_in_order = False
        self._last_entered = counter
        self._waiting[counter] = waiting
        self._outstanding_bytes += waiting.size_bytes

    def _answered_below(self, counter: int) -> int:
        """Below this counter, this worker needs no answer any more."""
        if self._are_in_order:  # nearly always, and asked for each operation
            return min(counter, next(iter(self._waiting), counter))
        return min(counter, min(self._waiting, default=counter))

    async def _wait_for_room(self, size_bytes: int) -> None:
        """In line until the limits allow `size_bytes` more; here a cancelled caller leaves, for nothing was sent."""
        entry = (trio.lowlevel.current_task(), size_bytes)
        self._queue.append(entry)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._queue.remove(entry)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _admit(self) -> None:
        """Let those in line go, as far as there is room; all of them once nothing is committed any more."""
        count, size_bytes = len(self._waiting), self._outstanding_bytes
        while self._queue:
            task, wanted = self._queue[0]
            full = count >= messages.OUTSTANDING_OPERATIONS
            full = full or (count > 0 and size_bytes + wanted > messages.OUTSTANDING_BYTES)
            if full and self._refusal is None:
                return
            count, size_bytes = count + 1, size_bytes + wanted
            self._queue.popleft()
            trio.lowlevel.reschedule(task)

    # -------------------------------------------------------------------------------------------------- background

    async def run(self) -> None:
        """Read answers until `close`. Survives the committer: it then waits for `reattach`, and from a bound on refuses
        what is to be committed meanwhile. Raises nothing, so that it can be a system task."""
        while not self._closed:
            try:
                if self._take():
                    # A batch is answered by one packet, and the next one takes a sync: asked again now, the socket
                    # would have nothing.
                    await self._readable()
                    continue
            except ConnectionResetError:
                continue  # told once, before what the committer answered in time; then its packets, then the end
            except (OSError, ProtocolMismatch) as error:
                self._gone = str(error)
            if not self._closed:
                self._lose()
                with trio.move_on_after(self._successor_wait_s):
                    await self._attached.wait()
                if not self._attached.is_set():
                    self._refuse_waiting()
                await self._attached.wait()

    def read_by(self, watch: Watch) -> Callable[[], None]:
        """Take answers when `watch` tells of them, not in a task that waits for them, until the returned function is
        called: half of what an answer costs is the way through the scheduler."""
        self._watch = watch
        if not self._closed:
            trio.lowlevel.notify_closing(self._socket.fileno())  # `run` waits for it, and is to wait otherwise

        def end() -> None:
            self._watch = None
            self._stop_watching()

        return end

    async def _readable(self) -> None:
        """Until the channel may be read, was closed, or was taken the place of.

        Raises:
            Exception: an answer that came meanwhile was none.
        """
        if self._closed:
            return
        if self._watch is None:
            with contextlib.suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_readable(self._socket.fileno())
            return
        self._woken = trio.Event()
        self._end_watch = self._watch(self._socket.fileno(), self._come)
        try:
            await self._woken.wait()
        finally:
            self._stop_watching()
        unexpected, self._unexpected = self._unexpected, None
        if unexpected is not None:
            raise unexpected

    def _come(self) -> None:
        """Something may be read; called by the watch. What is no answer is `run`'s to see to."""
        try:
            if self._take():
                return
        except OSError:
            pass  # `run` meets it, too
        except Exception as error:
            self._unexpected = error  # raised where it belongs: here it would end the watch of others
        self._stop_watching()

    def _stop_watching(self) -> None:
        end, self._end_watch = self._end_watch, None
        if end is not None:
            end()
            self._woken.set()

    def _take(self) -> bool:
        """Take the next packet, if one has come. False at the end of the channel.

        Raises:
            OSError, ProtocolMismatch
        """
        came = smallwrites.receive(self._socket.fileno(), self._waiting)
        if came is None:
            return True
        if isinstance(came, tuple):  # nearly always: nothing but small writes, all of which succeeded
            writes, size_bytes, sequence = came
            self._outstanding_bytes -= size_bytes
            if sequence > self._last_sequence:
                self._last_sequence = sequence
            _settle_writes(writes)
        elif came:
            self._take_one_by_one(came)
        else:
            return False
        if self._queue:
            self._admit()
        if self._unsent:
            self._send_waiting()
        return True

    def _take_one_by_one(self, raw: bytes) -> None:
        answer = messages.decode_answer(raw)
        if isinstance(answer, messages.HelloMessage):
            if self._epoch and answer.epoch != self._epoch:
                raise ProtocolMismatch(what="the committer's successor gave this worker another epoch")
            self._epoch = answer.epoch
            self._last_sequence = max(self._last_sequence, answer.sequence)
            self._epoch_known.set()
            return
        for reply in answer:
            waiting = self._waiting.pop(reply.counter, None)
            if waiting is None:
                continue
            self._outstanding_bytes -= waiting.size_bytes
            if reply.outcome is None:
                _settle(waiting, reply.exception())
                continue
            result = decode_outcome(reply.outcome)
            if result.sequence > self._last_sequence:
                self._last_sequence = result.sequence
            if isinstance(waiting, SmallWrite):
                waiting.take(reply.outcome)
                _settle_writes([waiting])
                continue
            try:
                waiting.settle(result)
            except Exception:
                _log.exception(_SETTLING_FAILED)

    def _send_waiting(self) -> None:
        """Send what the socket takes, several operations a packet; the rest goes out when answers have made room."""
        self._is_full = False
        while self._unsent:
            packet = self._next_packet()
            try:
                if packet:
                    self._send(packet)
            except BlockingIOError:
                self._is_full = True
                return
            except OSError as error:
                self._gone = str(error)
                return
            for _, waiting in packet:
                waiting.sent = True
                self._unsent.popleft()

    def _next_packet(self) -> list[tuple[int, _Waiting | SmallWrite]]:
        """The operations that go out next: as many as fit a packet, at least one, by counter; none when there is
        none."""
        packet: list[tuple[int, _Waiting | SmallWrite]] = []
        size_bytes = 1
        for counter in self._unsent:
            waiting = self._waiting[counter]
            size_bytes += messages.GATHERED_BYTES + waiting.size_bytes
            if packet and size_bytes > messages.MAXIMUM_MESSAGE_BYTES:
                break
            packet.append((counter, waiting))
        return packet

    def _send(self, packet: list[tuple[int, _Waiting | SmallWrite]]) -> None:
        counter, first = packet[0]
        if len(packet) > 1:
            self._socket.sendmsg(messages.gather([waiting.parts for _, waiting in packet]))
        elif first.size_bytes <= messages.MAXIMUM_MESSAGE_BYTES:
            self._socket.sendmsg(first.parts)
        else:
            descriptor = messages.make_memfd(first.parts)
            with open(descriptor, "rb", closefd=True):
                socket.send_fds(self._socket, [messages.memfd_notice(counter)], [descriptor])

    # --------------------------------------------------------------------------------------------- the committer dies

    def _lose(self) -> None:
        """The committer is gone. Operations wait for its successor, those that saw two deaths are given up."""
        self._gone = self._gone or "its channel was closed"
        self._attached = trio.Event()
        self._unsent.clear()
        if self._last_words is not None:
            self._gone = reason = self._last_words() or self._gone
            self._refusal = lambda: StoreReadOnly(reason=reason)
            self._give_up(lambda _: True)
            return
        for waiting in self._waiting.values():
            waiting.deaths += 1 if waiting.sent else 0
        self._give_up(lambda waiting: waiting.deaths > DEATHS_SURVIVED)

    def _refuse_waiting(self) -> None:
        """No successor came in time. What was sent may lie in the log, which a successor rolls forward: its outcome is
        unknown. What was not has not happened, and is not sent any more."""
        self._gone = reason = f"the committer ended, and none has taken its place for {self._successor_wait_s:g} s"
        self._refusal = lambda: StoreReadOnly(reason=reason)
        self._give_up(lambda _: True)

    def _give_up(self, is_lost: Callable[[_Waiting | SmallWrite], bool]) -> None:
        for counter in [counter for counter, waiting in self._waiting.items() if is_lost(waiting)]:
            waiting = self._waiting.pop(counter)
            self._outstanding_bytes -= waiting.size_bytes
            if waiting.deaths > DEATHS_SURVIVED and self._on_given_up is not None:
                self._on_given_up(b"".join(waiting.parts))
            reason = self._gone or "the store is closed"
            refused = self._refusal() if self._refusal is not None else CommitterGone(reason=reason)
            _settle(waiting, OutcomeUnknown(reason=reason) if waiting.sent else refused)
        self._unsent = deque(counter for counter in self._unsent if counter in self._waiting)
        self._admit()

    def reattach(self, channel: socket.socket) -> None:
        """Go on with the successor's channel: ask again for everything that has no answer, in order."""
        channel.setblocking(False)
        self._stop_watching()
        old, self._socket = self._socket, channel
        trio.lowlevel.notify_closing(old.fileno())
        old.close()
        self._gone = None
        if not self._closed:
            self._refusal = None
        self._unsent = deque(sorted(self._waiting))
        self._send_waiting()
        self._attached.set()

    def close(self) -> None:
        """Stop. Operations without an answer end as CommitterGone or OutcomeUnknown."""
        if self._closed:
            return
        self._closed = True
        self._refusal = _closed
        self._stop_watching()
        trio.lowlevel.notify_closing(self._socket.fileno())
        self._socket.close()
        self._give_up(lambda _: True)
        self._attached.set()


_SETTLE_OF: Final = attrgetter("settle")
_SETTLING_FAILED: Final = "the answer to a write failed"
"""A mistake of whoever submitted it; the committer's answers to others are not to suffer from it."""


def _settle(waiting: _Waiting | SmallWrite, settled: Outcome | Rs3dError) -> None:
    if isinstance(waiting, SmallWrite):
        _settle_writes([waiting])  # it has taken no outcome, which says it all
        return
    try:
        waiting.settle(settled)
    except Exception:
        _log.exception(_SETTLING_FAILED)


def _settle_writes(writes: list[SmallWrite]) -> None:
    for settle, some in groupby(writes, _SETTLE_OF):
        try:
            settle(list(some))
        except Exception:
            _log.exception(_SETTLING_FAILED)


def _resume(task: trio.lowlevel.Task, settled: Outcome | Rs3dError) -> None:
    trio.lowlevel.reschedule(task, outcome.Error(settled) if isinstance(settled, Rs3dError) else outcome.Value(settled))


def _closed() -> Rs3dError:
    return CommitterGone(reason="the store is closed")


def _shielded(_: object) -> trio.lowlevel.Abort:
    """A commit on its way cannot be called back: the cancellation waits for the answer."""
    return trio.lowlevel.Abort.FAILED
