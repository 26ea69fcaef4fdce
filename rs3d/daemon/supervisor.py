"""The supervisor: owns the sockets and the store's lock, starts the other processes, and starts them again.

One thread, one selector, no Trio, and never the catalog: what it does not open it cannot break. Its life is a line,
starting → serving → draining → stopped; children come and go beneath it.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, cast

from rs3d.app.listeners import ADMIN, OPS, S3, S3_TLS, Listeners
from rs3d.app.opening import storage_root
from rs3d.app.sections import DaemonConfig
from rs3d.config.loading import Configuration
from rs3d.daemon.children import ChildProcess, Role, State
from rs3d.daemon.committercontrol import Asked, CommitterControl
from rs3d.daemon.control import (
    AcceptClock,
    BlobSuspected,
    CatalogDamaged,
    CatalogSuspected,
    Channel,
    CommitterChannel,
    Drain,
    Failed,
    Heartbeat,
    Hello,
    Message,
    Processes,
    Ready,
    Reload,
    Reloaded,
    Start,
    StopWriting,
    TraceRecord,
    TraceSwitch,
    close_all,
)
from rs3d.daemon.notify import Notifier
from rs3d.daemon.reloading import merge_reloadable
from rs3d.daemon.reloadround import ReloadRound
from rs3d.errors import ConfigurationError, ProtocolMismatch, RetryLater, Rs3dError, WireValue, from_wire
from rs3d.http.balance import SLOTS, clear_slot, make_board
from rs3d.http.handover import make_inbox
from rs3d.services.healthcodes import HealthCode, command_for
from rs3d.stores.committerchannel import channel_pair
from rs3d.stores.horizon import clear_horizon_page, make_horizon_page
from rs3d.telemetry.logs import fields

log = logging.getLogger(__name__)

DRAIN_MARGIN_S: Final = 5.0
"""What a child gets beyond the drain timeout to leave by itself before it is killed."""

COMMITTER_PATIENCE_S: Final = 60.0
"""The committer's last batch may wait for a slow disk; it is killed only after that."""

START_ATTEMPTS: Final = 3
"""Children that die without a reason before the daemon has served at all, or each of them with one later: then it
gives up instead of trying for ever."""


@dataclass(eq=False)
class StartFailed(RetryLater):
    """A child ends again and again before it serves, and gives no reason: another start may go better."""

    process: str
    attempts: int
    sentence: ClassVar[str] = "{process} ended {attempts} times before it served; its own messages are above"


class Phase(enum.Enum):
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


DRAIN_ORDER: Final = (Role.WORKER, Role.STEWARD, Role.COMMITTER)
"""Nobody may lose the one it depends on."""


@dataclass(frozen=True, slots=True)
class SupervisorDeps:
    """What a supervisor works with. The caller holds the store's `daemon` lock, and closes `listeners` when `run`
    has returned."""

    configuration: Configuration
    listeners: Listeners
    notifier: Notifier
    root_credentials_fd: int | None
    """A memfd with the root user's key for the steward, or None."""
    read_configuration: Callable[[], Configuration]
    """Reads the configuration anew, for SIGHUP."""
    on_serving: Callable[[], None]
    """Called once, when every process serves."""


class Supervisor:
    """See the module. `run` is the whole of it."""

    def __init__(self, deps: SupervisorDeps) -> None:
        self._deps = deps
        self._configuration = deps.configuration
        self._daemon = deps.configuration.get(DaemonConfig)
        self._selector = selectors.DefaultSelector()
        self._phase = Phase.STARTING
        self._children = self._places()
        self._committer = next(self._of(Role.COMMITTER))
        self._control: CommitterControl | None = None
        self._board_fd = make_board()
        """Where the workers see how many connections each of them has."""
        workers = min(sum(1 for _ in self._of(Role.WORKER)), SLOTS)
        self._inboxes = [make_inbox() for _ in range(workers)] if workers > 1 else []
        """Of the workers, by their slots: where others hand them connections. What lies in one outlives its reader."""
        self._reaped: list[int] = []
        self._failure: Rs3dError | None = None
        self._start_error: Rs3dError | None = None
        """Why a child could not start lately."""
        self._damage = ""
        """Why the store is read-only until somebody has looked; for the rest of this daemon's life."""
        self._damage_code = HealthCode.CATALOG_DAMAGED
        self._draining: Role | None = None
        self._drain_deadline_s = 0.0
        self._reload_round = ReloadRound(deps.notifier)
        self._trace = False
        self._watchdog_due_s = 0.0

    def _places(self) -> list[ChildProcess]:
        workers = self._daemon.workers or len(os.sched_getaffinity(0))
        places = [ChildProcess.make("committer", Role.COMMITTER)]
        for index in range(workers):
            places.append(ChildProcess.make(f"worker-{index}", Role.WORKER, horizon_fd=make_horizon_page()))
        places.append(ChildProcess.make("steward", Role.STEWARD, horizon_fd=make_horizon_page()))
        return places

    # ---------------------------------------------------------------------------------------------------- the loop

    def run(self) -> None:
        """Serve until told to stop and drained.

        Raises:
            Rs3dError: a child could not start, with its reason; everything has been stopped again.
        """
        with self._signals():
            try:
                while self._phase is not Phase.STOPPED:
                    self._turn()
            finally:
                self._abandon()
        if self._failure is not None:
            raise self._failure

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._pause_s()):
            key.data()
        now_s = time.monotonic()
        self._bury_the_dead(now_s)
        self._kill_the_silent(now_s)
        if self._phase is Phase.DRAINING:
            self._continue_draining(now_s)
        else:
            self._start_the_missing(now_s)
        self._reload_round.look_at_the_clock(now_s)
        if self._deps.notifier.watchdog_s is not None and now_s >= self._watchdog_due_s:
            self._deps.notifier.watchdog()
            self._watchdog_due_s = now_s + self._deps.notifier.watchdog_s

    def _pause_s(self) -> float:
        """Until the next deadline; a second at most, for heartbeats."""
        now_s = time.monotonic()
        due = [now_s + 1.0]
        if self._phase is not Phase.DRAINING:
            due += [child.start_at_s for child in self._children if child.start_at_s is not None and not child.alive]
        if self._deps.notifier.watchdog_s is not None:
            due.append(self._watchdog_due_s)
        return max(0.0, min(due) - now_s)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn signals into bytes of a socket that the selector watches."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        before = [signal.signal(number, lambda *_: None) for number in handled]
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._take_signals(reader))
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in zip(handled, before, strict=True):
                signal.signal(number, handler)
            self._selector.close()
            reader.close()
            writer.close()

    def _take_signals(self, reader: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in reader.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop(signal.Signals(number).name)
                elif number == signal.SIGHUP:
                    self._reload()

    # ---------------------------------------------------------------------------------------------------- children

    def _of(self, *roles: Role) -> Iterator[ChildProcess]:
        return (child for child in self._children if child.role in roles)

    def _spawn(self, child: ChildProcess) -> None:
        try:
            child.spawn(time.monotonic())
        except OSError as error:
            log.error("cannot start %s: %s", child.name, error)
            child.buried(1, time.monotonic())
            return
        channel = child.channel
        if channel is not None:
            self._selector.register(channel, selectors.EVENT_READ, lambda: self._hear(child))
        log.info("started", extra=fields(child=child.name, child_pid=child.pid))
        self._publish()

    def _start_the_missing(self, now_s: float) -> None:
        for child in self._children:
            if child.alive or child.start_at_s is None or now_s < child.start_at_s:
                continue
            # All at once: until the committer has opened the store, the others wait for their channel to it.
            self._spawn(child)

    def _kill_the_silent(self, now_s: float) -> None:
        for child in self._children:
            if child.is_overdue(now_s, self._daemon.heartbeat_timeout_s):
                log.error("killing a silent child", extra=fields(child=child.name, silent_s=child.silent_for_s(now_s)))
                child.slow_starts += 0 if child.has_beaten else 1
                child.kill()
                child.heard_at_s = now_s

    def _bury_the_dead(self, now_s: float) -> None:
        for child in self._children:
            returncode = child.process.poll() if child.process is not None else None
            if returncode is None:
                continue
            self._hear(child)  # its last words
            if child.channel is not None:
                self._unwatch(child.channel)
            expected = child.state is State.DRAINING
            if not expected:
                extra = fields(child=child.name, child_pid=child.pid, returncode=returncode)
                log.error("a child ended", extra=extra)
            child.buried(returncode, now_s)
            self._after_death(child, now_s)

    def _after_death(self, child: ChildProcess, now_s: float) -> None:
        if child is self._committer and self._control is not None:
            self._hear_committer(self._control)  # which epochs it opened counts for its successor
            self._drop_control()
        if child is self._committer:
            self._connect_all()
        if child.horizon_fd is not None:
            clear_horizon_page(child.horizon_fd)
        if child.role is Role.WORKER:
            clear_slot(self._board_fd, self._slot_of(child))
        if child.epoch is not None:
            self._reaped.append(child.epoch)
            child.epoch = None
            self._report_reaped()
        suspicion = child.suspected_of_the_catalog()
        if suspicion.stops_writing:
            self._stop_writing(suspicion.reason, HealthCode.CATALOG_SUSPECTED)
        elif suspicion.reason:
            self._tell(CatalogSuspected(reason=suspicion.reason), Role.STEWARD)
            child.deaths_by_signal = []  # once for each two of them
        unexplained = self._phase is Phase.STARTING and child.restarts >= START_ATTEMPTS
        if unexplained and self._failure is None:
            self._fail(StartFailed(process=child.name, attempts=child.restarts))
        if (
            self._phase is Phase.SERVING
            and self._start_error is not None
            and all(place.start_failure and place.failed_starts >= START_ATTEMPTS for place in self._children)
        ):
            self._fail(self._start_error)  # nobody serves, and nobody is left to tell why
        self._reload_round.settle(child.name)
        self._publish()

    def _stop_writing(self, reason: str, code: HealthCode) -> None:
        """The catalog cannot be trusted: nothing more is committed until it was looked at (STORE.md 23)."""
        if not self._damage:
            self._damage = f"{reason}; next: {command_for(code, str(storage_root(self._configuration)))}"
            self._damage_code = code
            log.error("the store takes no more writes", extra=fields(reason=reason))
            self._tell(StopWriting(reason=self._damage), Role.COMMITTER)
            self._publish()

    def _hear(self, child: ChildProcess) -> None:
        while child.channel is not None:
            try:
                received = child.channel.receive()
            except (EOFError, ProtocolMismatch) as error:
                self._unwatch(child.channel)
                if isinstance(error, ProtocolMismatch):
                    log.error("%s: %s", child.name, error)
                    child.kill()
                return
            if received is None:
                return
            message, descriptors = received
            close_all(descriptors)  # children send none
            child.heard_at_s = time.monotonic()
            self._handle(child, message)

    def _handle(self, child: ChildProcess, message: Message) -> None:
        if isinstance(message, Heartbeat):
            child.has_beaten, child.slow_starts = True, 0
            if message.trouble != child.trouble:
                child.trouble = message.trouble
                self._publish()
        elif isinstance(message, Hello):
            self._give_start(child)
        elif isinstance(message, Ready):
            self._became_ready(child)
        elif isinstance(message, Failed):
            self._report_failure(child, from_wire(message.error, cast(dict[str, WireValue], message.fields)))
        elif isinstance(message, Reloaded):
            if message.refused:
                log.error("reload", extra=fields(child=child.name, refused=message.refused))
            self._reload_round.settle(child.name)
        elif isinstance(message, TraceSwitch):
            self._trace = message.on
            self._tell(message, Role.WORKER)
        elif isinstance(message, TraceRecord | BlobSuspected):
            self._tell(message, Role.STEWARD)
        elif isinstance(message, CatalogDamaged):
            self._stop_writing(message.reason, HealthCode.CATALOG_DAMAGED)
        elif isinstance(message, AcceptClock):
            self._tell(message, Role.COMMITTER)

    def _unwatch(self, watched: Channel | CommitterControl) -> None:
        """Look no more at what may have come to its end before, and be watched no longer."""
        if watched.fileno() in self._selector.get_map():
            self._selector.unregister(watched)

    def _tell(self, message: Message, *roles: Role) -> None:
        for child in self._of(*roles):
            if child.channel is not None and child.state is not State.STARTING:
                child.channel.send(message)

    # ------------------------------------------------------------------------------------------- a child's beginning

    def _slot_of(self, worker: ChildProcess) -> int:
        """A worker's place on the board of connections. More workers than places share the last ones, which makes them
        less fair, not wrong."""
        return min(list(self._of(Role.WORKER)).index(worker), SLOTS - 1)

    def _give_start(self, child: ChildProcess) -> None:
        """Answer a child's hello with all that it needs."""
        attached: list[tuple[str, int]] = [("metrics", child.metrics_fd)]
        control: socket.socket | None = None
        names: list[str] = []
        epochs: list[int] = []
        if child.horizon_fd is not None:
            attached.append(("horizon", child.horizon_fd))
        if child.role is Role.COMMITTER:
            self._control, control = CommitterControl.pair()
            attached.append(("committer control", control.fileno()))
            epochs = [other.epoch for other in self._children if other.alive and other.epoch is not None]
            self._reaped.clear()  # the new committer closes every epoch that is not among the living
            self._watch_control(self._control)
        elif child.role is Role.WORKER:
            attached += [(f"listener:{name}", sock.fileno()) for name, sock in self._deps.listeners.of(S3, S3_TLS)]
            slot = self._slot_of(child)
            attached.append((f"connections:{slot}", self._board_fd))
            for place, (inbox, outbox) in enumerate(self._inboxes):
                attached.append(("inbox", inbox.fileno()) if place == slot else (f"outbox:{place}", outbox.fileno()))
        else:
            attached += [(f"listener:{name}", sock.fileno()) for name, sock in self._deps.listeners.of(OPS, ADMIN)]
            names = [place.name for place in self._children]
            attached += [(f"metrics:{place.name}", place.metrics_fd) for place in self._children]
            attached += [
                (f"horizon:{place.name}", place.horizon_fd) for place in self._children if place.horizon_fd is not None
            ]
            if self._deps.root_credentials_fd is not None:
                attached.append(("root credentials", self._deps.root_credentials_fd))
        message = Start(
            name=child.name,
            tree=self._configuration.tree,
            descriptors=[name for name, _ in attached],
            process_names=names,
            epochs=epochs,
            is_successor=child.has_served,
        )
        if child.channel is None or not child.channel.send(message, [descriptor for _, descriptor in attached]):
            log.error("cannot send %s its start", child.name)
            child.kill()
        child.has_start, child.given_tree = True, self._configuration.tree
        if control is not None:
            control.close()
        if child.role is not Role.COMMITTER:
            self._connect(child)

    def _connect(self, child: ChildProcess) -> None:
        """Give a child its channel to the committer, if there is one."""
        if child.channel is None:
            return
        if self._control is None or not self._committer_serves:
            if self._phase is Phase.SERVING and self._committer.cannot_start and child.state is State.STARTING:
                child.channel.send(CommitterChannel())  # what is there can be read all the same
            return
        if child.has_channel and child.epoch is None:
            # The last committer died before it told which epoch it gave this one, which may know; start it afresh.
            log.warning("restarting a child whose epoch is not known", extra=fields(child=child.name))
            child.kill()
            return
        child.has_channel = True
        theirs, ours = channel_pair()
        with ours, theirs:
            self._control.add_channel(child.name, child.pid, ours, child.epoch or 0)
            child.channel.send(CommitterChannel(), [theirs.fileno()])

    def _connect_all(self) -> None:
        for other in self._of(Role.WORKER, Role.STEWARD):
            if other.has_start:
                self._connect(other)

    def _watch_control(self, control: CommitterControl) -> None:
        self._selector.register(control, selectors.EVENT_READ, lambda: self._hear_committer(control))

    def _hear_committer(self, control: CommitterControl) -> None:
        """Learn the epochs that the committer opened for the channels it was given."""
        try:
            answers = control.answers()
        except (EOFError, ProtocolMismatch) as error:
            self._unwatch(control)
            if isinstance(error, ProtocolMismatch):
                log.error("committer: %s", error)
                self._committer.kill()
            return
        for answer in answers:
            child = next((c for c in self._children if c.name == answer.process and c.pid == answer.pid), None)
            if answer.refused:
                log.error("committer refused", extra=fields(asked=answer.asked.value, reason=answer.refused))
                if child is not None:
                    child.kill()
            elif answer.asked is Asked.ADD_CHANNEL:
                if child is not None:
                    child.epoch = answer.epoch
                else:  # it died meanwhile
                    self._reaped.append(answer.epoch)
                    self._report_reaped()

    def _drop_control(self) -> None:
        if self._control is not None:
            self._unwatch(self._control)
            self._control.close()
            self._control = None

    @property
    def _committer_serves(self) -> bool:
        return self._committer.state is State.SERVING

    def _became_ready(self, child: ChildProcess) -> None:
        child.serves()
        if child.given_tree is not self._configuration.tree and child.channel is not None:
            child.channel.send(Reload(tree=self._configuration.tree))  # it was starting while the others reloaded
        if child is self._committer:
            self._report_reaped()
            if self._damage:
                self._tell(StopWriting(reason=self._damage), Role.COMMITTER)
            self._connect_all()
        elif child.role is Role.WORKER and self._trace and child.channel is not None:
            child.channel.send(TraceSwitch(on=True))
        self._publish()
        if self._phase is Phase.STARTING and all(place.state is State.SERVING for place in self._children):
            self._phase = Phase.SERVING
            self._deps.on_serving()
            self._deps.notifier.ready("serving")

    def _report_failure(self, child: ChildProcess, error: Rs3dError) -> None:
        log.error("a child cannot start", extra=fields(child=child.name, reason=str(error)))
        if self._phase is Phase.STARTING:
            self._fail(error)
        else:
            child.start_failure = str(error)
            self._start_error = error
            self._publish()

    def _report_reaped(self) -> None:
        """Tell the committer which epochs have no process any more; it closes them (STORE.md 10)."""
        if self._control is None or not self._committer_serves:
            return
        for epoch in self._reaped:
            self._control.reaped(epoch)
        self._reaped.clear()

    def _publish(self) -> None:
        absent = next((child.cannot_start for child in self._children if child.cannot_start), "")
        degraded = self._damage or absent or self._committer.trouble
        code = self._damage_code.value if self._damage else ""
        self._tell(Processes([child.row() for child in self._children], degraded, code), Role.STEWARD)

    # ------------------------------------------------------------------------------------------------------- reload

    def _reload(self) -> None:
        if self._phase is not Phase.SERVING:
            return
        self._reload_round.begin()
        try:
            wanted = self._deps.read_configuration()
            self._configuration, waiting = merge_reloadable(self._configuration, wanted)
        except ConfigurationError as error:
            self._reload_round.refuse(str(error))
            return
        if waiting:
            log.warning("settings that wait for a restart", extra=fields(settings=", ".join(waiting)))
        serving = [child.name for child in self._children if child.state is State.SERVING]
        self._tell(Reload(tree=self._configuration.tree), *Role)
        self._reload_round.expect(serving, time.monotonic())

    # ---------------------------------------------------------------------------------------------------- the end

    def _fail(self, error: Rs3dError) -> None:
        """Give up starting: remember why, and take everything down again."""
        if self._failure is None:
            self._failure = error
        self._stop("a child cannot start")

    def _stop(self, reason: str) -> None:
        if self._phase is Phase.DRAINING:
            log.warning("asked again to stop: killing what is left", extra=fields(reason=reason))
            self._drain_deadline_s = 0.0
            return
        log.info("stopping", extra=fields(reason=reason))
        self._reload_round.abandon()
        self._deps.notifier.stopping()
        self._phase = Phase.DRAINING
        self._draining = None

    def _continue_draining(self, now_s: float) -> None:
        """Take the roles down one after the other; kill what does not leave in time."""
        for role in DRAIN_ORDER:
            living = [child for child in self._of(role) if child.alive]
            if not living:
                continue
            if self._draining is not role:
                self._draining = role
                timeout_s = self._daemon.drain_timeout_s
                patience_s = COMMITTER_PATIENCE_S if role is Role.COMMITTER else timeout_s + DRAIN_MARGIN_S
                self._drain_deadline_s = now_s + patience_s
                for child in living:
                    self._drain_child(child, timeout_s)
            elif now_s >= self._drain_deadline_s:
                for child in living:
                    log.error("killing a child that does not leave", extra=fields(child=child.name))
                    child.kill()
            return
        self._phase = Phase.STOPPED

    def _drain_child(self, child: ChildProcess, timeout_s: float) -> None:
        started = child.state is not State.STARTING
        child.state = State.DRAINING
        if started and child.channel is not None:
            child.channel.send(Drain(timeout_s=timeout_s))
        else:
            child.kill()
        self._publish()

    def _abandon(self) -> None:
        """Whatever happened: leave no child behind, nor what they shared."""
        for child in self._children:
            if child.process is not None:
                child.kill()
                child.process.wait()
                child.buried(0, time.monotonic())
            child.close_pages()
        os.close(self._board_fd)
        for inbox, outbox in self._inboxes:
            inbox.close()
            outbox.close()
        if self._control is not None:
            self._control.close()
            self._control = None
