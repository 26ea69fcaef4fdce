"""Where idle connections wait for their next request: all of a server's in one epoll, watched by one task.

Waiting in trio costs a connection some 20 µs a request: a system call to be watched, a turn of the scheduler, the way
down and up through its coroutines. Parked connections are watched without any of that. When bytes arrive for some of
them, the watching task receives, and where the application knows a shortcut (`shortcut.py`) it answers on the spot, or
when the answer has been made: the connection stays parked and its task sleeps on. A body in a file goes out from here
too, piece by piece as the socket takes it, at the client's pace, without the interpreter (`kernels.parkedsockets`).
Every other request wakes the connection's task and hands it the bytes.

Only plain sockets are parked; a TLS connection waits in its own task as before. For one loop.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial

import outcome
import trio
from trio.lowlevel import Abort, RaiseCancelT, reschedule, wait_readable, wait_task_rescheduled

from rs3d.clock import Clock
from rs3d.http.answers import Answer, ask, taken_of
from rs3d.http.bodyreceiving import Receivers
from rs3d.http.buffers import ReceiveBuffer, ReceiveBufferPool
from rs3d.http.deadlines import Deadline, Watchdog
from rs3d.http.handover import HABIT, LARGE_BODY_BYTES, HandedOver, Handover
from rs3d.http.limits import HttpLimits
from rs3d.http.loopwait import LoopWait, epoll_watching
from rs3d.http.observer import Observer
from rs3d.http.parked import Parked
from rs3d.http.shortcut import FindShortcut, Incoming, Shortcut, Taken, Underway, Unfinished
from rs3d.http.transport import TransportInterrupted, rest_of
from rs3d.http.turns import GATHER_NS, LINGER_NS, TURN_BYTES, TURNS, TURNS_NS
from rs3d.http.unfinished import has_more, may_be_awaited
from rs3d.kernels.parkedsockets import ParkedSockets
from rs3d.kernels.smallwrites import SmallWrite, send_answers
from rs3d.types.watching import Watch

Companion = Callable[[Watch], Callable[[], None]]
"""Whoever wants to be told so while a server runs: given the means, it returns what ends that."""

Arrival = ReceiveBuffer | None
"""What wakes a parked connection: bytes, or None at the end of the stream."""


class Parking:
    """The idle connections of one server. `run` watches them for ever; a connection calls `wait`."""

    def __init__(
        self,
        *,
        pool: ReceiveBufferPool,
        clock: Clock,
        observer: Observer,
        watchdog: Watchdog,
        find_shortcut: FindShortcut | None,
        may_take: Callable[[], bool],
        is_draining: Callable[[], bool],
        companions: Sequence[Companion] = (),
        handover: Handover | None = None,
    ) -> None:
        """Args:
        find_shortcut: None when the application has none.
        may_take: whether shortcuts are taken in this turn (not while overloaded, nor while draining).
        is_draining: whether a connection has to end after the answer that is on its way.
        companions: whose descriptors are read beside the connections, and before them: what they bring comes to be
            before their requests are looked at.
        handover: to hand connections to other workers; None where there is none.
        """
        self._sockets = ParkedSockets(LINGER_NS)
        self._parked: dict[int, Parked] = {}
        self._beside: dict[int, Callable[[], None]] = {}
        self._companions = companions
        self._handover = handover
        self._pool = pool
        self._clock = clock
        self._observer = observer
        self._watchdog = watchdog
        watchdog.before_each_look(self._look_at_files)
        self._find_shortcut = find_shortcut
        self._may_take = may_take
        self._is_draining = is_draining
        self._receivers = Receivers()
        self._turn_bytes = 0
        self._owing: Shortcut | None = None
        """Whom small writes of this turn were begun by, which are still to be sent."""
        self._loop_wait: LoopWait | None = None
        self.answering = 0
        """Connections whose answers are under way, or not taken whole by the socket yet."""

    def __len__(self) -> int:
        return len(self._parked)

    async def wait(
        self, connected: socket.socket, deadline: Deadline, peer: str, *, takes_shortcuts: bool, limits: HttpLimits
    ) -> Arrival:
        """Park until bytes arrive that are not answered here.

        Args:
            connected: a non-blocking socket; it stays the caller's.
            deadline: the connection's, fixed at when waiting has to end; moved on by each answer given here.
            takes_shortcuts: whether requests of this connection may be answered here.
            limits: how long it may be idle between requests, and how slow while it is answered.

        Returns:
            A leased buffer with what was received; or None at the end of the stream.

        Raises:
            TransportInterrupted: by `interrupt`. trio.BrokenResourceError: the peer has gone, or was interrupted while
            an answer was on its way: nothing but a reset can follow. HandedOver: another process goes on with it.

        Cancellation: nothing was received; an answer on its way is cut. While a thread receives a body, it is waited
        for, and its request, which may have been answered, handed out: the caller's next checkpoint is cancelled.
        """
        fd = connected.fileno()
        parked = Parked(trio.lowlevel.current_task(), connected, deadline, peer, takes_shortcuts, limits)
        self._parked[fd] = parked
        self._sockets.watch(fd)

        def abort(_raise_cancel: RaiseCancelT) -> Abort:
            if parked.receiver is not None:
                parked.is_cancelled = True
                parked.receiver.stop()
                return Abort.FAILED
            self._forget(fd, parked)
            return Abort.SUCCEEDED

        arrived: Arrival = await wait_task_rescheduled(abort)
        return arrived

    def is_answering(self, fd: int) -> bool:
        """Whether an answer to this connection is on its way."""
        parked = self._parked.get(fd)
        return parked is not None and parked.is_answering

    def interrupt(self, fd: int) -> bool:
        """Make the wait of this descriptor raise TransportInterrupted, or trio.BrokenResourceError where an answer is
        cut by it; whether it is parked here."""
        parked = self._parked.get(fd)
        if parked is None:
            return False
        if parked.receiver is not None:
            parked.receiver.stop()
        elif parked.partial is not None:
            self._hand_out(fd, parked, parked.partial)
        elif not parked.is_answering:
            self._wake(fd, parked, outcome.Error(TransportInterrupted()))
        else:
            self._wake(fd, parked, outcome.Error(trio.BrokenResourceError("the client took too long")))
        return True

    def watch_beside(self, fd: int, come: Callable[[], None]) -> Callable[[], None]:
        """See `Watch`."""
        self._sockets.watch(fd)
        self._beside[fd] = come

        def end() -> None:
            if self._beside.pop(fd, None) is not None and not self._sockets.closed:
                self._sockets.look_away(fd)

        return end

    async def run(self) -> None:
        """Watch for ever."""
        fd = self._sockets.fileno()
        leave = [companion(self.watch_beside) for companion in self._companions]
        try:
            await wait_readable(fd)
            loop_fd = epoll_watching(fd)
            if loop_fd is not None:
                self._loop_wait = LoopWait(self._sockets, loop_fd, self._turn)
                trio.lowlevel.add_instrument(self._loop_wait)
            while True:
                self._turns()
                await wait_readable(fd)
        finally:
            for end in leave:
                end()
            if self._loop_wait is not None:
                with contextlib.suppress(KeyError):  # one that raised is there no more
                    trio.lowlevel.remove_instrument(self._loop_wait)
            self._sockets.close()

    # ------------------------------------------------------------------------------------------------------- a turn

    def _turns(self) -> None:
        """What has come, and what comes meanwhile, until there is nothing or other tasks have waited long enough."""
        end_ns = self._clock.boot_ns() + TURNS_NS
        for _ in range(TURNS):
            ready = self._sockets.turn()
            if not ready:
                return
            self._turn(ready)
            if self._clock.boot_ns() >= end_ns:
                return

    def _turn(self, ready: list[int]) -> None:
        """Look at those, and where small writes began, at what has come meanwhile: they go to the committer together,
        and each packet is work for both ends."""
        end_ns = 0
        try:
            while ready:
                self._look_at(ready)
                if self._owing is None:
                    return
                if self.answering >= len(self._parked):
                    return  # of those that may bring more, all wait for answers
                now_ns = self._clock.boot_ns()
                end_ns = end_ns or now_ns + GATHER_NS
                if now_ns >= end_ns:
                    return
                ready = self._sockets.turn()
        finally:
            owing, self._owing = self._owing, None
            if owing is not None:
                owing.send()

    def _look_at(self, ready: list[int]) -> None:
        self._turn_bytes = TURN_BYTES
        others = len(ready)
        for fd, come in list(self._beside.items()):
            if fd in ready:
                come()
                others -= 1
        if not others:
            return
        shortcut = self._find_shortcut() if self._find_shortcut is not None and self._may_take() else None
        buffer = self._pool.lease()
        if shortcut is not None:
            shortcut.begin()
        try:
            for fd in ready:
                parked = self._parked.get(fd)
                if parked is None:
                    continue
                answer = parked.answer
                if answer is not None:
                    if answer.began_in_ns is None:
                        self._go_on(fd, parked, answer)
                    else:
                        self._end(fd, parked, answer, answer.began_in_ns)
                elif parked.request is not None or parked.write is not None:
                    self._look_away(fd, parked)
                elif parked.partial is not None:
                    self._arrived_more(fd, parked, parked.partial, shortcut)
                else:
                    buffer = self._arrived(fd, parked, buffer, shortcut if parked.takes_shortcuts else None)
                if self._turn_bytes <= 0:
                    break  # the others are told of again in the next turn
        finally:
            if shortcut is not None:
                shortcut.end()
            self._pool.release(buffer)

    def _arrived(self, fd: int, parked: Parked, buffer: ReceiveBuffer, shortcut: Shortcut | None) -> ReceiveBuffer:
        """Receive for one connection, and answer or wake it; returns the buffer for the next."""
        try:
            count = parked.socket.recv_into(buffer.data)
        except BlockingIOError:
            return buffer
        except OSError as error:
            self._wake(fd, parked, outcome.Error(trio.BrokenResourceError(str(error))))
            return buffer
        if count == 0:
            self._wake(fd, parked, outcome.Value(None))
            return buffer
        return self._look_into(fd, parked, buffer, count, shortcut)

    def _arrived_more(self, fd: int, parked: Parked, partial: ReceiveBuffer, shortcut: Shortcut | None) -> None:
        """Receive more of a request, and answer or wake its connection when it is whole, or nothing comes."""
        if not has_more(parked):
            self._hand_out(fd, parked, partial)  # the long way meets the same end
        elif partial.end >= parked.wanted_bytes:
            parked.partial = None
            self._pool.release(self._look_into(fd, parked, partial, partial.end, shortcut))

    def _hand_out(self, fd: int, parked: Parked, partial: ReceiveBuffer) -> None:
        parked.partial = None
        self._wake(fd, parked, outcome.Value(partial))

    def _look_into(
        self, fd: int, parked: Parked, buffer: ReceiveBuffer, count: int, shortcut: Shortcut | None
    ) -> ReceiveBuffer:
        """Answer what is in the buffer, or wake its connection; returns the buffer for the next."""
        if shortcut is not None:
            started_ns = self._clock.boot_ns()
            taken = ask(shortcut, buffer.data, count)
            if type(taken) is SmallWrite:
                taken.park(fd, parked, self._wrote, started_ns, buffer.data, count)
                parked.write = taken
                self._owing = shortcut
                parked.deadline.lift()
                self.answering += 1
                return buffer
            if type(taken) is Taken:
                if taken.stop == count:
                    self._begin(fd, parked, taken, started_ns)
                    parked.others += 1
                    if parked.others >= HABIT:
                        self._look_at_habit(fd, parked)
                    return buffer
                # What is pipelined behind it goes the long way with it: answers keep their order.
                if taken.release is not None:
                    taken.release()
            elif isinstance(taken, Incoming):
                buffer.end = count
                if self._receive(fd, parked, taken, buffer, started_ns):
                    return self._pool.lease()
            elif isinstance(taken, Underway):
                buffer.end = count
                self._expect(fd, parked, taken, buffer, started_ns)
                return self._pool.lease()
            elif type(taken) is Unfinished and may_be_awaited(parked, taken):
                buffer.end = count
                parked.partial = buffer
                self._watchdog.fix(parked.deadline, 0.0)  # longer the long way has the patience for it
                return self._pool.lease()
        buffer.end = count
        self._wake(fd, parked, outcome.Value(buffer))
        return self._pool.lease()

    # ------------------------------------------------------------------------------------------- answers under way

    def _expect(self, fd: int, parked: Parked, underway: Underway, request: ReceiveBuffer, started_ns: int) -> None:
        parked.request = request
        parked.deadline.lift()
        self.answering += 1
        underway.finish = partial(self._made, fd, parked, started_ns)

    def _receive(self, fd: int, parked: Parked, incoming: Incoming, request: ReceiveBuffer, started_ns: int) -> bool:
        """Have the rest of a body received by a thread; False when the long way has to."""
        receiver = self._receivers.take(fd) if not parked.deadline.lags else None
        if receiver is None:
            return False
        if not incoming.begin(request.view[incoming.body : request.end], receiver):
            self._receivers.put_back(receiver)
            return False
        self._expect(fd, parked, incoming, request, started_ns)
        incoming.finish = partial(self._received, fd, parked, incoming, started_ns)
        parked.receiver = receiver
        self._look_away(fd, parked)
        return True

    def _received(self, fd: int, parked: Parked, incoming: Incoming, started_ns: int, taken: Taken | None) -> None:
        """The thread has ended, and the answer is there, or else the long way's to make of the same bytes."""
        receiver, parked.receiver = parked.receiver, None
        if receiver is not None:
            parked.deadline.lags = receiver.was_slow
            self._receivers.put_back(receiver)
        request = parked.request
        if taken is None and request is not None:
            whole = bytearray().join((request.view[: incoming.body], incoming.received))
            parked.request = self._pool.lease_filled(whole, incoming.before)
            self._pool.release(request)
        elif incoming.before is not None:  # the connection was lost meanwhile
            incoming.before.close()
        self._made(fd, parked, started_ns, taken)
        if parked.is_cancelled and self._parked.get(fd) is parked:
            self._wake(fd, parked, outcome.Value(None))
        elif taken is not None and taken.stop - incoming.body >= LARGE_BODY_BYTES:
            parked.puts, parked.others = HABIT, 0
            self._look_at_habit(fd, parked)

    def _look_away(self, fd: int, parked: Parked) -> None:
        """Something came, perhaps the end of the connection: its turn is after the answer. The epoll would tell of it
        again and again, and of an end whatever it was asked."""
        if parked.is_watched:
            parked.is_watched = False
            self._sockets.look_away(fd)

    def _made(self, fd: int, parked: Parked, started_ns: int, taken: Taken | None) -> None:
        """An answer that was under way is there, or is the long way's to make."""
        request, parked.request = parked.request, None
        if request is None:
            return  # the connection was lost meanwhile
        self.answering -= 1
        if not parked.is_watched and not self._sockets.closed:  # it is when the whole server was cancelled
            parked.is_watched = True
            self._sockets.watch(fd)
        if taken is None:
            self._wake(fd, parked, outcome.Value(request))
            return
        self._pool.release(request)
        self._begin(fd, parked, taken, started_ns)
        if parked.answer is None and self._parked.get(fd) is parked and self._is_draining():
            self._wake(fd, parked, outcome.Value(None))

    def _wrote(self, writes: list[SmallWrite]) -> None:
        """Small writes were committed, or failed, which the long way has to tell."""
        if self._loop_wait is not None:
            self._loop_wait.is_worthwhile = True
        send_answers(writes)
        done, sent_bytes = [], 0
        for write in writes:
            parked: Parked = write.connection
            if parked.write is not write:
                continue  # the connection was lost meanwhile
            parked.write = None
            self.answering -= 1
            if not parked.is_watched and not self._sockets.closed:
                parked.is_watched = True
                self._sockets.watch(write.fd)
            if write.is_sent:
                self._watchdog.fix(parked.deadline, parked.limits.idle_timeout_s)
                done.append(write)
                sent_bytes += write.taken_bytes
                if write.is_put:
                    parked.puts += 1
                else:
                    parked.others += 1
            elif write.answer is None:
                request = self._pool.lease_filled(bytearray(write.request))
                request.end = len(write.request)
                self._wake(write.fd, parked, outcome.Value(request))
            else:
                answer = Answer(taken_of(write), write.started_ns)
                answer.rest = rest_of(answer.rest, write.taken_bytes)
                self._send_first(write.fd, parked, answer)
        self._turn_bytes -= sent_bytes
        self._observer.writes_taken(done, self._clock.boot_ns())
        if self._is_draining():
            for write in writes:
                parked = write.connection
                if parked.answer is None and self._parked.get(write.fd) is parked:
                    self._wake(write.fd, parked, outcome.Value(None))
        for write in done:
            parked = write.connection
            if parked.puts >= HABIT or parked.others >= HABIT:
                self._look_at_habit(write.fd, parked)

    def _look_at_habit(self, fd: int, parked: Parked) -> None:
        """Whether another worker is the better place for a connection, by its last requests."""
        puts, others = parked.puts, parked.others
        parked.puts = parked.others = 0
        handover = self._handover
        if handover is None or parked.is_answering or self._parked.get(fd) is not parked or self._is_draining():
            return
        slot = handover.place_for(puts, others, self._clock.boot_ns())
        if slot is not None and handover.send(slot, parked.socket):
            self._wake(fd, parked, outcome.Error(HandedOver()))

    def hand_over(self, connected: socket.socket) -> bool:
        """Whether another worker goes on with a connection that is not parked, has nothing under way, and puts large
        bodies. The caller closes it then as `HandedOver` says."""
        handover = self._handover
        if handover is None:
            return False
        slot = handover.place_for(HABIT, 0, self._clock.boot_ns())
        return slot is not None and handover.send(slot, connected)

    # ------------------------------------------------------------------------------------------------------ answers

    def _begin(self, fd: int, parked: Parked, taken: Taken, started_ns: int) -> None:
        if self._loop_wait is not None:
            self._loop_wait.is_worthwhile = True
        buffers, answer = taken.buffers, None
        if taken.file is None and len(buffers) == 1 and taken.release is None:
            # As most are, of writes all; and the socket takes it whole.
            head = buffers[0]
            try:
                count = parked.socket.send(head)
            except OSError:
                count = 0  # is met again
            self._turn_bytes -= count
            if count == len(head):
                self._watchdog.fix(parked.deadline, parked.limits.idle_timeout_s)
                self._observer.shortcut_taken(taken, self._clock.boot_ns() - started_ns)
                return
            answer = Answer(taken, started_ns)
            answer.rest = rest_of(buffers, count)
        self._send_first(fd, parked, answer or Answer(taken, started_ns))

    def _send_first(self, fd: int, parked: Parked, answer: Answer) -> None:
        if self._send(fd, parked, answer):
            self._watchdog.fix(parked.deadline, parked.limits.idle_timeout_s)
            self._observer.shortcut_taken(answer.taken, self._clock.boot_ns() - answer.started_ns)

    def _go_on(self, fd: int, parked: Parked, answer: Answer) -> None:
        """The socket takes bytes again."""
        parked.deadline.end_wait()
        if self._send(fd, parked, answer):
            self._finish_waiting(parked)
            self._sockets.watch_again(fd)
            self._watchdog.fix(parked.deadline, parked.limits.idle_timeout_s)
            self._observer.shortcut_taken(answer.taken, self._clock.boot_ns() - answer.started_ns)
            if self._is_draining():
                self._wake(fd, parked, outcome.Value(None))

    def _end(self, fd: int, parked: Parked, answer: Answer, began_in_ns: int) -> None:
        """The kernel has sent the rest of a file, or failed to."""
        sent = self._sockets.sent(fd)
        if sent is None:
            return
        if sent.error:
            self._wake(fd, parked, outcome.Error(trio.BrokenResourceError(os.strerror(sent.error))))
            return
        if answer.taken.release is not None:
            answer.taken.release()
        self._finish_waiting(parked)
        self._watchdog.fix(parked.deadline, parked.limits.idle_timeout_s)
        self._observer.shortcut_taken(answer.taken, began_in_ns + sent.took_ns)
        if self._is_draining():
            self._wake(fd, parked, outcome.Value(None))

    def _look_at_files(self) -> None:
        """Before deadlines are looked at: bound the pace of files that are on their way, by what has left since."""
        for fd, moved in self._sockets.moved():
            parked = self._parked[fd]
            answer, deadline = parked.answer, parked.deadline
            if answer is None:  # see _forget
                raise RuntimeError("a file is on its way that is nobody's")
            if not answer.is_paced:
                answer.is_paced = True
                deadline.pace(parked.limits)
            elif moved:
                deadline.end_wait()
                deadline.moved(moved)
            else:
                continue
            deadline.begin_wait()

    def _send(self, fd: int, parked: Parked, answer: Answer) -> bool:
        """Send what the socket takes; whether that was all. A connection that is lost is woken."""
        file, rest = answer.taken.file, answer.rest
        try:
            if file is None:
                count = parked.socket.sendmsg(rest)
            else:
                head = rest[0] if len(rest) == 1 else b"".join(rest)
                count = self._sockets.begin(fd, head, file.fd, file.offset, file.length)
        except BlockingIOError:
            count = 0
        except OSError as error:
            self._begin_waiting(parked, answer)
            self._wake(fd, parked, outcome.Error(trio.BrokenResourceError(str(error))))
            return False
        self._turn_bytes -= count
        in_memory = len(rest[0]) if len(rest) == 1 else sum(map(len, rest))
        if count == in_memory + (0 if file is None else file.length):
            if answer.taken.release is not None:
                answer.taken.release()
            return True
        is_new = self._begin_waiting(parked, answer)
        if count >= in_memory:
            answer.began_in_ns = self._clock.boot_ns() - answer.started_ns
            return False
        answer.rest = rest_of(rest, count)
        if is_new:
            self._sockets.watch_for_room(fd)
            parked.deadline.pace(parked.limits)
        parked.deadline.moved(count)
        parked.deadline.begin_wait()
        return False

    def _begin_waiting(self, parked: Parked, answer: Answer) -> bool:
        """The rest of an answer is the connection's affair from here on; False when it has been already."""
        if parked.answer is not None:
            return False
        parked.answer = answer
        self.answering += 1
        return True

    def _finish_waiting(self, parked: Parked) -> None:
        parked.answer = None
        self.answering -= 1

    # ------------------------------------------------------------------------------------------------------- waking

    def _wake(self, fd: int, parked: Parked, result: outcome.Outcome[Arrival]) -> None:
        self._forget(fd, parked)
        reschedule(parked.task, result)

    def _forget(self, fd: int, parked: Parked) -> None:
        del self._parked[fd]
        request, parked.request = parked.request, None
        if request is not None:  # what becomes of it, nobody hears
            self.answering -= 1
            self._pool.release(request)
        write, parked.write = parked.write, None
        if write is not None:
            self.answering -= 1
            write.fd = -1
        partial, parked.partial = parked.partial, None
        if partial is not None:
            self._pool.release(partial)
        answer = parked.answer
        if answer is not None:  # cut
            self._sockets.forget(fd)
            if answer.taken.release is not None:
                answer.taken.release()
            self._finish_waiting(parked)
            self._observer.shortcut_cut(answer.taken, self._clock.boot_ns() - answer.started_ns)
        if parked.is_watched and not self._sockets.closed:
            self._sockets.look_away(fd)
