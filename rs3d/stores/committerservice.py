"""The committer as a service: channels of workers in, batches through the core, replies out. STORE.md 9-12.

One synchronous loop, in its own process or (library, tests) in its own thread; the same code. While a batch is being
synced, operations gather in the sockets; the next batch takes what waits, each channel in turn by bytes, so a worker
that sends much cannot starve another.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from collections import deque
from collections.abc import Generator, Iterator
from collections.abc import Sequence as Items
from typing import Final

from rs3d.errors import OutcomeUnknown, ProtocolMismatch, Rs3dError, StoreFull
from rs3d.kernels.smallrun import CLOSED, OTHER, SmallBatch
from rs3d.stores import messages
from rs3d.stores.committer import BATCH_BYTES, BATCH_OPERATIONS, CommitterCore, Reply
from rs3d.stores.compaction import Compacted, compact
from rs3d.stores.compactionchoice import RUN_BYTES
from rs3d.stores.compactionmoves import unfinished_moves
from rs3d.stores.outcomes import decode_outcome, outcome_of_compaction
from rs3d.stores.submitted import Batch, Submitted, small_batch
from rs3d.types.identifiers import Epoch, OperationId
from rs3d.types.operations import CloseEpoch, CompactLog, OpenEpoch

log = logging.getLogger(__name__)

QUANTUM_BYTES: Final = 64 << 10
"""What a channel may put into a batch before the next one's turn comes."""

REPLY_PACKET_BYTES: Final = 96 << 10
_OPERATIONS: Final = (messages.OPERATION, messages.OPERATIONS)
_COMMITTER_EPOCH: Final = 0


class Channel:
    """One worker's socket."""

    __slots__ = ("descriptor", "epoch", "is_open", "role", "socket", "unsent")

    def __init__(self, channel: socket.socket, epoch: int, role: str) -> None:
        self.socket = channel
        self.descriptor = channel.fileno()
        self.epoch = epoch
        self.role = role
        self.is_open = True
        self.unsent: deque[bytes] = deque()


def _decode(packet: bytes, descriptors: Items[int], *, is_cut: bool) -> tuple[list[messages.Frame], int]:
    """What a packet holds, and the bytes that came beside it. The descriptors are closed.

    Raises:
        ProtocolMismatch
    """
    try:
        if is_cut:
            raise ProtocolMismatch(what="a packet is too large")
        if packet[0] in _OPERATIONS:
            return messages.decode_operations(memoryview(packet)), 0
        if packet[0] == messages.OPERATION_IN_MEMFD and len(descriptors) == 1:
            content = messages.read_memfd(descriptors[0])
            return [messages.decode_operation(memoryview(content))], len(content)
        raise ProtocolMismatch(what=f"a packet of type {packet[0]}")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class CommitterService:
    """Serves channels until it is told to drain. Not thread-safe but for `stop`."""

    def __init__(self, core: CommitterCore, control: socket.socket | None = None) -> None:
        """`control`: the supervisor's SEQPACKET socket; None when the opener uses `add_channel` and `stop` itself."""
        self._core = core
        self._poll = select.epoll()
        self._channels: dict[int, Channel] = {}
        self._turns: deque[Channel] = deque()
        self._small = small_batch()
        self._control = control
        self._counter = 0
        self._draining = False
        self._jobs: deque[Iterator[None]] = deque([unfinished_moves(core)])
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wake_read, select.EPOLLIN)
        self.failure = ""
        """Why it serves no more; see `fail`."""
        self.syncing = False
        """Whether a batch is being executed: the heartbeat thread reports it."""
        if control is not None:
            control.setblocking(False)
            self._poll.register(control.fileno(), select.EPOLLIN)

    # ------------------------------------------------------------------------------------------------- membership

    def close_stale_epochs(self, living: frozenset[int] = frozenset()) -> None:
        """At start: close the epochs of workers that ended with their daemon, all but `living`."""
        stale = [epoch for epoch in self._core.open_epochs if epoch not in living]
        for start in range(0, len(stale), BATCH_OPERATIONS):
            batch = [
                Submitted(CloseEpoch(id=self._own_id(), epoch=Epoch(epoch)), _COMMITTER_EPOCH)
                for epoch in stale[start : start + BATCH_OPERATIONS]
            ]
            for reply in self._core.execute(batch):
                if reply.error is not None:
                    raise reply.error

    def add_channel(self, channel: socket.socket, role: str, epoch: int = 0) -> int:
        """Take a worker's socket (SEQPACKET); say hello on it.

        Args:
            epoch: an epoch that a predecessor opened, of a worker that lives on; 0 opens a new one.

        Returns:
            The epoch.

        Raises:
            ProtocolMismatch: that epoch is not open.
            Rs3dError: the epoch could not be committed.
        """
        if epoch:
            if epoch not in self._core.open_epochs:
                raise ProtocolMismatch(what=f"epoch {epoch:016x} is not open")
        elif self._core.read_only is not None:
            # Nothing will be committed under it, so it needs no record; and its process can still read the store.
            epoch = self._core.clock.next(self._core.clock.now_ns())
        else:
            operation = OpenEpoch(id=self._own_id(), role=role)
            reply = self._core.execute([Submitted(operation, _COMMITTER_EPOCH)])[0]
            if reply.outcome is None:
                raise reply.error or OutcomeUnknown(reason="no epoch")
            epoch = decode_outcome(reply.outcome).sequence
        channel.setblocking(False)
        member = Channel(channel, epoch, role)
        self._channels[member.descriptor] = member
        self._turns.append(member)
        self._poll.register(member.descriptor, select.EPOLLIN)
        self._send(member, messages.encode_hello(epoch, self._core.clock.last))
        return epoch

    def close_epoch(self, epoch: int) -> None:
        """After the worker was reaped: commit what its socket still holds, then close the epoch (STORE.md 10)."""
        for member in [member for member in self._channels.values() if member.epoch == epoch]:
            while member.is_open and self._serve_batch([member]):
                pass
            self._drop(member)
        reply = self._core.execute([Submitted(CloseEpoch(id=self._own_id(), epoch=Epoch(epoch)), _COMMITTER_EPOCH)])[0]
        if reply.error is not None:
            raise reply.error

    def stop(self) -> None:
        """Make `serve` answer what waits and return. May be called from any thread."""
        self._draining = True
        os.write(self._wake_write, b"s")

    # ------------------------------------------------------------------------------------------------------- loop

    def serve(self) -> None:
        """Serve until `stop` or the end of the supervisor's channel, and answer all that has come by then."""
        while True:
            ready = self._ready()
            if ready:
                self._serve_batch(ready)
            elif self._draining:
                break
            else:
                self._core.rest()
            if self._jobs:
                self._work()

    def fail(self, reason: str) -> None:
        """After `serve` raised, where no process ends with it: nothing more is committed, and whoever waits for an
        answer finds the channel closed. `stop` and `close` are still to be called."""
        self.failure = reason
        self._core.read_only = self._core.read_only or reason
        for member in list(self._channels.values()):
            self._drop(member)

    def close(self) -> None:
        """Give up background work and close all sockets. The core is its opener's."""
        for job in self._jobs:
            if isinstance(job, Generator):
                job.close()
        for member in list(self._channels.values()):
            self._drop(member)
        self._poll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _ready(self) -> list[Channel]:
        """Channels with packets to read, in the order of their turns; control messages are obeyed on the way."""
        events = self._poll.poll(0 if self._draining or self._jobs else self._core.rest_s, 256)
        if len(events) == 1:
            member = self._channels.get(events[0][0])
            if member is not None and not events[0][1] & select.EPOLLOUT:
                return [member]
        found = set()
        for descriptor, mask in events:
            if descriptor == self._wake_read:
                self._swallow_wake()
            elif self._control is not None and descriptor == self._control.fileno():
                self._obey()
            else:
                member = self._channels.get(descriptor)
                if member is None:
                    continue
                if mask & select.EPOLLOUT:
                    self._send_rest(member)
                if mask & ~select.EPOLLOUT:
                    found.add(member)
        if len(found) < 2:
            return list(found)
        ready = [member for member in self._turns if member in found]
        self._turns.rotate(-1)
        return ready

    def _work(self) -> None:
        """One step of the job at hand (compaction), between batches."""
        try:
            next(self._jobs[0])
        except StopIteration:
            self._jobs.popleft()
        except (Rs3dError, OSError) as error:
            self._jobs.popleft()
            log.error("background work of the committer failed: %s", error)

    def _compaction(self, member: Channel, operation: CompactLog) -> Iterator[None]:
        """Compact and answer. Its own steps may raise; the one who asked hears of it."""
        done = Compacted()
        reply = Reply(operation.id.counter, None, None)
        try:
            with self._core.space.lent(2 * RUN_BYTES):
                yield from compact(self._core, first=operation.first, last=operation.last, result=done)
            reply = reply._replace(outcome=outcome_of_compaction(done.sequence, done.source_bytes - done.kept_bytes))
        except Rs3dError as refusal:
            reply = reply._replace(error=refusal)
        except OSError as error:
            reply = reply._replace(error=StoreFull(what=f"compaction ({error})", free_bytes=0, needed_bytes=RUN_BYTES))
        if member.is_open:
            self._answer(member, [reply])

    def _serve_batch(self, ready: list[Channel]) -> bool:
        """Take what waits, each channel in turn, and commit it. False when nothing has come."""
        small = self._small
        small.clear()
        others: list[Submitted] = []
        """All that came, once something has that is no small write; `small` is what came since."""
        senders: list[tuple[Channel, int]] = []
        operations, quantum = 0, QUANTUM_BYTES if len(ready) > 1 else BATCH_BYTES
        while ready and small.taken_bytes < BATCH_BYTES and operations < BATCH_OPERATIONS:
            still = []
            for member in ready:
                before, before_bytes = len(small), small.taken_bytes
                limit = min(quantum, BATCH_BYTES - before_bytes)
                how = small.receive(member.descriptor, member.epoch, limit, BATCH_OPERATIONS - operations)
                count = len(small) - before
                if how == OTHER:
                    received = self._take_other(member)
                    others += [*small.take_out(), *received]
                    count += len(received)
                elif how == CLOSED:
                    self._close_channel(member)
                if count:
                    operations += count
                    senders.append((member, count))
                may_have_more = how == OTHER or small.taken_bytes - before_bytes >= limit
                if may_have_more and member.is_open:
                    still.append(member)
                if small.taken_bytes >= BATCH_BYTES or operations >= BATCH_OPERATIONS:
                    break
            ready = still
        if operations:
            self._commit([*others, *small.take_out()] if others else small, senders)
        return operations > 0

    def _take_other(self, member: Channel) -> list[Submitted]:
        """What is in the packet that is not of small writes alone."""
        small = self._small
        try:
            frames, extra_bytes = _decode(small.other, small.descriptors, is_cut=small.is_cut)
        except ProtocolMismatch:
            # Whoever speaks another protocol gets no answers: its supervisor sees the closed channel.
            self._close_channel(member)
            return []
        small.taken_bytes += extra_bytes
        return [Submitted(frame.operation, member.epoch, frame.answered_below) for frame in frames]

    def _commit(self, batch: Batch, senders: list[tuple[Channel, int]]) -> None:
        """`senders` has the channels with how many operations of each, in their order."""
        if not isinstance(batch, SmallBatch):
            batch, senders = self._without_jobs(batch, senders)
        self.syncing = True
        replies = self._core.execute(batch)
        self.syncing = False
        if len(senders) == 1:
            answers = {senders[0][0]: replies}
        else:
            answers, start = {}, 0
            for member, count in senders:
                answers.setdefault(member, []).extend(replies[start : start + count])
                start += count
        for member, answered in answers.items():
            if member.is_open and answered:
                self._answer(member, answered)

    def _without_jobs(
        self, batch: Items[Submitted], senders: list[tuple[Channel, int]]
    ) -> tuple[Items[Submitted], list[tuple[Channel, int]]]:
        """The batch without compactions, which are begun."""
        if all(type(submitted.operation) is not CompactLog for submitted in batch):
            return batch, senders
        kept: list[Submitted] = []
        counts: list[tuple[Channel, int]] = []
        start = 0
        for member, count in senders:
            before = len(kept)
            for submitted in batch[start : start + count]:
                if type(submitted.operation) is CompactLog:
                    self._jobs.append(self._compaction(member, submitted.operation))
                else:
                    kept.append(submitted)
            counts.append((member, len(kept) - before))
            start += count
        return kept, counts

    def _answer(self, member: Channel, answered: list[Reply]) -> None:
        packet = messages.encode_replies(answered)
        if len(packet) <= REPLY_PACKET_BYTES or len(answered) == 1:
            self._send(member, packet)
            return
        half = len(answered) // 2
        self._answer(member, answered[:half])
        self._answer(member, answered[half:])

    # ---------------------------------------------------------------------------------------------------- sockets

    def _send(self, member: Channel, packet: bytes) -> None:
        """Send, or keep for when the worker reads again: a slow worker never blocks the others."""
        if member.unsent:
            member.unsent.append(packet)
            return
        try:
            member.socket.send(packet)
        except BlockingIOError:
            member.unsent.append(packet)
            self._poll.modify(member.descriptor, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._close_channel(member)

    def _send_rest(self, member: Channel) -> None:
        try:
            while member.unsent:
                member.socket.send(member.unsent[0])
                member.unsent.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._close_channel(member)
            return
        self._poll.modify(member.descriptor, select.EPOLLIN)

    def _close_channel(self, member: Channel) -> None:
        """The worker is gone or mad. Its epoch stays open until its process was reaped (STORE.md 10)."""
        if member.is_open:
            member.is_open = False
            self._poll.unregister(member.descriptor)

    def _drop(self, member: Channel) -> None:
        self._close_channel(member)
        self._channels.pop(member.descriptor, None)
        if member in self._turns:
            self._turns.remove(member)
        member.socket.close()

    def _swallow_wake(self) -> None:
        try:
            os.read(self._wake_read, 64)
        except BlockingIOError:
            return

    # ---------------------------------------------------------------------------------------------------- control

    def _obey(self) -> None:
        control = self._control
        if control is None:
            return
        try:
            raw, descriptors, _, _ = socket.recv_fds(control, messages.MAXIMUM_MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            raw, descriptors = b"", []
        if not raw:  # the supervisor died: so shall we, with everything answered
            self._draining = True
            self._poll.unregister(control.fileno())
            return
        try:
            self._obey_one(messages.decode_control(raw), descriptors)
            descriptors = []
        except Rs3dError as error:
            self._tell(messages.Refused(str(error)))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _obey_one(self, message: messages.Control, descriptors: list[int]) -> None:
        if isinstance(message, messages.AddChannel):
            if len(descriptors) != 1:
                raise ProtocolMismatch(what="a channel without its socket")
            epoch = self.add_channel(socket.socket(fileno=os.dup(descriptors[0])), message.role, message.epoch)
            os.close(descriptors[0])
            self._tell(messages.ChannelAdded(epoch))
        else:
            self.close_epoch(message.epoch)
            self._tell(messages.EpochClosed(message.epoch))

    def _tell(self, notice: messages.Notice) -> None:
        """Answer the supervisor, in the order in which it asked. One that reads no answers any more loses them."""
        if self._control is not None:
            try:
                self._control.send(messages.encode_control(notice))
            except OSError:
                return

    def _own_id(self) -> OperationId:
        self._counter += 1
        return OperationId(Epoch(_COMMITTER_EPOCH), self._counter)
