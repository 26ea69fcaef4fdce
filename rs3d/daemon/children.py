"""One child process as the supervisor keeps it: starting, watching, ending, and how long to wait before starting it
again."""

from __future__ import annotations

import enum
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Final

from rs3d.app.interpreter import own_environment, own_python
from rs3d.config.loading import Tree
from rs3d.daemon.control import Channel, ProcessRow, channel_pair
from rs3d.telemetry.metrics import create_page

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 15.0
"""Restarts double their pause from the first to the longest: a crash costs a blink, a crash loop no processor."""

SUSPICION_WINDOW_S: Final = 60.0
"""Two deaths as a damaged catalog causes them within this time mean that it is damaged (STORE.md 23)."""

CATALOG_FAULTS: Final = frozenset({signal.SIGBUS, signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""How whoever reads the catalog ends when its file is cut short or its disk cannot read it, and how liblmdb ends its
process on pages that lead astray, by accident or by an assertion."""

SETTLED_S: Final = 60.0
"""A child that ran for so long is forgiven its earlier crashes."""

FAILED_STARTS_TOLD: Final = 2
"""One start that fails may be chance, such as a kill meanwhile."""

START_PATIENCE_S: Final = 60.0
"""Between start and its first heartbeat: a cold Python on a busy disk takes some seconds."""
LONGEST_START_DOUBLINGS: Final = 4
"""Of that patience, after starts that were cut short: 16 minutes at most."""


class Role(enum.Enum):
    COMMITTER = "committer"
    WORKER = "worker"
    STEWARD = "steward"


class State(enum.Enum):
    DOWN = "down"
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What deaths say of the catalog."""

    reason: str = ""
    """Empty when nothing."""
    stops_writing: bool = False
    """Whether nothing more is to be committed. A worker handles what clients send: one who makes it crash must not make
    the store read-only, so that the catalog is only looked at then."""


@dataclass(slots=True)
class ChildProcess:
    """A place for a process: it outlives the processes that fill it, as do its pages of shared memory."""

    name: str
    role: Role
    metrics_fd: int
    horizon_fd: int | None = None
    state: State = State.DOWN
    process: subprocess.Popen[bytes] | None = None
    channel: Channel | None = None
    restarts: int = 0
    failures: int = 0
    started_at_s: float = 0.0
    started_unix_s: float = 0.0
    heard_at_s: float = 0.0
    has_beaten: bool = False
    slow_starts: int = 0
    """Processes in a row that were killed before their first sign of life."""
    failed_starts: int = 0
    """Processes in a row that ended before they served."""
    start_failure: str = ""
    """Why none serves, as the last one said; empty when it said nothing."""
    returncode: int = 0
    """Of the last process that ended."""
    has_start: bool = False
    """Whether it was sent its start message."""
    given_tree: Tree | None = None
    """The configuration that its start message held."""
    has_served: bool = False
    """Whether one of its processes has."""
    has_channel: bool = False
    """Whether it was given a channel to a committer, this one or an earlier one."""
    start_at_s: float | None = 0.0
    """When to start it next, on the monotonic clock; None = not at all."""
    deaths_by_signal: list[tuple[int, float]] = field(default_factory=list)
    epoch: int | None = None
    trouble: str = ""
    """What its heartbeat says is wrong with the store."""

    @classmethod
    def make(cls, name: str, role: Role, *, horizon_fd: int | None = None) -> ChildProcess:
        return cls(name=name, role=role, metrics_fd=create_page(), horizon_fd=horizon_fd)

    @property
    def alive(self) -> bool:
        return self.process is not None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def spawn(self, now_s: float) -> None:
        """Start the process, in a group of its own: Ctrl-C on a terminal is for the supervisor. Called from the main
        thread only."""
        channel, theirs = channel_pair()
        try:
            command = [*own_python(), f"rs3d.daemon.{self.role.value}"]
            command += ["--control", str(theirs.fileno()), "--parent", str(os.getpid())]
            self.process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                process_group=0,
                env=own_environment(os.environ),
            )
        except OSError:
            channel.close()
            raise
        finally:
            theirs.close()
        self.channel = channel
        self.state = State.STARTING
        self.started_at_s = self.heard_at_s = now_s
        self.started_unix_s = time.time()
        self.has_beaten = self.has_start = self.has_channel = False
        self.start_at_s = None

    def buried(self, returncode: int, now_s: float) -> None:
        """The process has been waited for: free what it held and plan its successor."""
        if self.channel is not None:
            self.channel.close()
        self.channel = None
        self.process = None
        self.has_beaten = self.has_start = self.has_channel = False
        self.trouble = ""
        if self.state is State.DRAINING:
            self.state = State.DOWN
            return
        if self.state is State.STARTING:
            self.failed_starts += 1
        self.state = State.DOWN
        self.returncode = returncode
        if returncode < 0:
            self.deaths_by_signal = [*self.deaths_by_signal[-7:], (-returncode, now_s)]
        if now_s - self.started_at_s >= SETTLED_S:
            self.failures = 0
        self.restarts += 1
        self.start_at_s = now_s + min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**self.failures)
        self.failures = min(self.failures + 1, 16)

    def serves(self) -> None:
        """It has said that it is ready."""
        if self.state is State.STARTING:
            self.state = State.SERVING
        self.has_served = True
        self.failed_starts, self.start_failure = 0, ""

    @property
    def cannot_start(self) -> str:
        """Why this place is empty, for whoever has to see to it; '' while a process serves, or nothing is wrong yet."""
        if self.start_failure:
            return f"{self.name} cannot start: {self.start_failure}"
        if self.failed_starts < FAILED_STARTS_TOLD:
            return ""
        ended = f"by {_signal_name(-self.returncode)}" if self.returncode < 0 else f"with status {self.returncode}"
        return f"{self.name} ended {self.failed_starts} times before it served, last {ended}; its log says more"

    def suspected_of_the_catalog(self) -> Suspicion:
        """What its last two deaths say of the catalog's pages."""
        deaths = [death for death in self.deaths_by_signal if death[0] in CATALOG_FAULTS][-2:]
        if len(deaths) < 2 or deaths[1][1] - deaths[0][1] > SUSPICION_WINDOW_S:
            return Suspicion()
        reason = f"{self.name} died twice as when it reads damaged pages, last by {_signal_name(deaths[1][0])}"
        by_the_map = all(number == signal.SIGBUS for number, _ in deaths)
        return Suspicion(reason, stops_writing=by_the_map or self.role is not Role.WORKER)

    def silent_for_s(self, now_s: float) -> float:
        return now_s - self.heard_at_s

    def is_overdue(self, now_s: float, heartbeat_timeout_s: float) -> bool:
        """Whether it has given no sign of life for too long.

        A start that was cut short gives its successor twice the time: on a machine so busy that a start takes longer,
        killing each again and again would keep the daemon down for as long as the load lasts.
        """
        start_patience_s = START_PATIENCE_S * 2 ** min(self.slow_starts, LONGEST_START_DOUBLINGS)
        patience_s = heartbeat_timeout_s if self.has_beaten else max(start_patience_s, heartbeat_timeout_s)
        return self.alive and self.silent_for_s(now_s) > patience_s

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)

    def close_pages(self) -> None:
        """The place is given up: close its shared memory. No process may live there any more."""
        os.close(self.metrics_fd)
        if self.horizon_fd is not None:
            os.close(self.horizon_fd)

    def row(self) -> ProcessRow:
        return ProcessRow(
            name=self.name,
            role=self.role.value,
            pid=self.pid,
            state=self.state.value,
            restarts=self.restarts,
            started_unix_s=self.started_unix_s if self.alive else 0.0,
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
