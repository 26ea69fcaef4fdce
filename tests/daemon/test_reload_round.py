"""A reload ends, whatever becomes of the children: systemd waits for the READY=1 that follows RELOADING=1."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from rs3d.app.listeners import Listeners
from rs3d.app.sections import SCHEMA
from rs3d.config.loading import load
from rs3d.daemon.children import ChildProcess, State
from rs3d.daemon.control import Channel, Drain, Hello, Message, Ready, Reload, Start, channel_pair, close_all
from rs3d.daemon.notify import Notifier
from rs3d.daemon.reloadround import PATIENCE_S, ReloadRound
from rs3d.daemon.supervisor import Supervisor, SupervisorDeps

MOST_TURNS = 500
"""A supervisor that has not ended after so many turns is stopped, so that its test fails instead of hanging."""


def ask(number: signal.Signals) -> None:
    """Signal the supervisor, which runs in this thread."""
    signal.raise_signal(number)


class Heard(Notifier):
    """Keeps what systemd would be told. Its watchdog makes the supervisor look around every few milliseconds."""

    def __init__(self) -> None:
        super().__init__("unused", watchdog_s=0.005)
        self.states: list[str] = []
        self.turns = 0
        self.on_turn: Callable[[], None] = lambda: None
        self.on_ready: Callable[[], None] = lambda: None
        """Called at the end of the first reload."""

    def send(self, **states: str) -> None:
        if "WATCHDOG" in states:
            self.turns += 1
            self.on_turn()
            if self.turns == MOST_TURNS:
                ask(signal.SIGTERM)
            return
        self.states.append(next(iter(states)))
        if "READY" in states and self.states.count("READY") == 2:
            self.on_ready()


class FakeProcess:
    """A child that says hello and that it serves, and leaves when it is told to."""

    def __init__(self, sock: Channel, *, serves: bool) -> None:
        self.pid = 1
        self.told: list[Message] = []
        self.returncode: int | None = None
        self._channel = sock
        sock.send(Hello(role="", build="", pid=1))
        if serves:
            sock.send(Ready())

    def poll(self) -> int | None:
        while self.returncode is None and (received := self._channel.receive()) is not None:
            close_all(received[1])
            self.told.append(received[0])
            if isinstance(received[0], Drain):
                self.returncode = 0
        return self.returncode

    def serve(self) -> None:
        self._channel.send(Ready())

    def send_signal(self, number: int) -> None:
        self.returncode = -number

    def wait(self) -> None:
        """Only of children that a supervisor leaves behind in a hurry."""

    def close(self) -> None:
        self._channel.close()


class Daemon:
    """A supervisor over fake children."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notifier = Heard()
        self.processes: list[FakeProcess] = []
        self.on_spawn: Callable[[], None] = lambda: None
        self.successors_serve = True
        self.on_serving: Callable[[], None] = lambda: None
        self.wanted = load(SCHEMA, environment={"RS3D_DAEMON__WORKERS": "1"})
        monkeypatch.setattr(ChildProcess, "spawn", lambda child, now_s: self._spawn(child, now_s))
        deps = SupervisorDeps(
            configuration=self.wanted,
            listeners=Listeners(),
            notifier=self.notifier,
            root_credentials_fd=None,
            read_configuration=lambda: self.wanted,
            on_serving=lambda: self.on_serving(),
        )
        self.supervisor = Supervisor(deps)

    def _spawn(self, child: ChildProcess, now_s: float) -> None:
        child.channel, theirs = channel_pair()
        process = FakeProcess(Channel(theirs), serves=len(self.processes) < 3 or self.successors_serve)
        child.process = process  # type: ignore[assignment]
        child.state = State.STARTING
        child.started_at_s = child.heard_at_s = now_s
        child.start_at_s = None
        self.processes.append(process)
        self.on_spawn()

    def kill_all(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    made = Daemon(monkeypatch)
    yield made
    for process in made.processes:
        process.close()


def test_a_reload_ends_when_the_children_it_waits_for_die(daemon: Daemon) -> None:
    def reload_and_die() -> None:
        ask(signal.SIGHUP)
        daemon.kill_all()

    daemon.on_serving = reload_and_die
    daemon.notifier.on_ready = lambda: ask(signal.SIGTERM)
    daemon.supervisor.run()
    assert daemon.notifier.states == ["READY", "RELOADING", "READY", "STOPPING"]
    assert daemon.notifier.turns < MOST_TURNS


def test_a_reload_ends_when_no_child_serves_that_it_could_wait_for(daemon: Daemon) -> None:
    def reload_once_all_are_starting_again() -> None:
        if len(daemon.processes) == 6:
            ask(signal.SIGHUP)

    daemon.successors_serve = False
    daemon.on_serving = daemon.kill_all
    daemon.on_spawn = reload_once_all_are_starting_again
    daemon.notifier.on_ready = lambda: ask(signal.SIGTERM)
    daemon.supervisor.run()
    assert daemon.notifier.states == ["READY", "RELOADING", "READY", "STOPPING"]
    assert daemon.notifier.turns < MOST_TURNS


def test_a_daemon_that_stops_in_the_midst_of_a_reload_is_not_called_ready_any_more(daemon: Daemon) -> None:
    def reload_and_stop() -> None:
        ask(signal.SIGHUP)
        ask(signal.SIGTERM)

    daemon.on_serving = reload_and_stop
    daemon.supervisor.run()
    assert daemon.notifier.states == ["READY", "RELOADING", "STOPPING"]


def test_a_child_that_is_starting_during_a_reload_is_given_the_new_configuration_as_well(daemon: Daemon) -> None:
    def reload_once_they_have_their_start() -> None:
        successors = daemon.processes[3:]
        if len(successors) == 3 and all(any(isinstance(m, Start) for m in p.told) for p in successors):
            daemon.notifier.on_turn = lambda: None
            daemon.wanted = load(SCHEMA, environment={"RS3D_DAEMON__WORKERS": "1", "RS3D_LOG__LEVEL": "debug"})
            ask(signal.SIGHUP)

    def serve_then_stop() -> None:
        daemon.notifier.on_turn = stop_when_all_were_told
        for process in daemon.processes[3:]:
            process.serve()

    def stop_when_all_were_told() -> None:
        if all(any(isinstance(m, Reload) for m in process.told) for process in daemon.processes[3:]):
            ask(signal.SIGTERM)

    daemon.successors_serve = False
    daemon.on_serving = daemon.kill_all
    daemon.notifier.on_turn = reload_once_they_have_their_start
    daemon.notifier.on_ready = serve_then_stop
    daemon.supervisor.run()
    assert daemon.notifier.turns < MOST_TURNS
    told = [m for process in daemon.processes[3:] for m in process.told if isinstance(m, Reload)]
    assert [message.tree["log"]["level"] for message in told] == ["debug"] * 3


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_a_reload_ends_with_the_last_answer_and_once(heard: Heard) -> None:
    reload = ReloadRound(heard)
    reload.begin()
    reload.expect(["worker-0", "steward"], 100.0)
    reload.settle("worker-0")
    assert heard.states == ["RELOADING"]
    for name in ("steward", "steward", "worker-0"):
        reload.settle(name)
    assert heard.states == ["RELOADING", "READY"]


def test_a_child_that_does_not_answer_is_waited_for_a_while_only(heard: Heard) -> None:
    reload = ReloadRound(heard)
    reload.begin()
    reload.expect(["worker-0"], 100.0)
    reload.look_at_the_clock(99.9 + PATIENCE_S)
    assert heard.states == ["RELOADING"]
    for now_s in (100.0 + PATIENCE_S, 101.0 + PATIENCE_S):
        reload.look_at_the_clock(now_s)
    reload.settle("worker-0")
    assert heard.states == ["RELOADING", "READY"]


def test_a_refused_reload_ends_one_that_is_under_way(heard: Heard) -> None:
    reload = ReloadRound(heard)
    reload.begin()
    reload.expect(["worker-0"], 100.0)
    reload.begin()
    reload.refuse("no such setting")
    reload.settle("worker-0")
    reload.look_at_the_clock(1000.0)
    assert heard.states == ["RELOADING", "RELOADING", "READY"]
