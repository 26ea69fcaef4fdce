"""What every child process does alike: its entry, its heartbeat, its attention to the supervisor.

A child whose supervisor is gone must not live on (STORE.md 9): the kernel is asked for SIGKILL at the parent's
death, and the
end of the control channel ends the process too.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import trio

from rs3d import __version__
from rs3d.app.sections import SCHEMA, LogConfig
from rs3d.config.loading import Configuration, from_tree
from rs3d.daemon.control import (
    Channel,
    Failed,
    Heartbeat,
    Hello,
    Message,
    Start,
    close_all,
)
from rs3d.daemon.secrecy import keep_secrets
from rs3d.errors import ProtocolMismatch, Rs3dError, to_wire
from rs3d.kernels import posix
from rs3d.telemetry import logs

log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S: Final = 2.0
"""Five of them fit into the default patience of the supervisor."""

START_PATIENCE_S: Final = 30.0
"""The supervisor answers a hello at once; longer means that it is no longer there."""

EXIT_ORPHANED: Final = 70
EXIT_CANNOT_START: Final = 78
"""EX_CONFIG of sysexits.h: starting again will not help."""


@dataclass(slots=True)
class Child:
    """A started child: its channel, its configuration, and the descriptors it was given, by name."""

    role: str
    name: str
    channel: Channel
    configuration: Configuration
    descriptors: dict[str, list[int]]
    process_names: list[str]
    epochs: list[int]
    is_successor: bool = False

    def take(self, name: str) -> int:
        """The only descriptor called `name`; the caller's from now on.

        Raises:
            ProtocolMismatch: there is not exactly one.
        """
        found = self.descriptors.pop(name, [])
        if len(found) != 1:
            raise ProtocolMismatch(what=f"{self.name} was given {len(found)} descriptors called {name!r}")
        return found[0]

    def take_listeners(self, name: str) -> list[socket.socket]:
        """The listening sockets called `name`."""
        return [socket.socket(fileno=descriptor) for descriptor in self.descriptors.pop(f"listener:{name}", [])]


def enter(role: str) -> Child:
    """Become the child `role`: say hello on the inherited channel, wait for the start message, set up logging.

    Blocking: until the supervisor has answered.
    """
    parser = argparse.ArgumentParser(prog=f"python -m rs3d.daemon.{role}", description="Started by rs3d alone.")
    parser.add_argument("--control", type=int, required=True, help="inherited SEQPACKET socket of the supervisor")
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor")
    arguments = parser.parse_args()
    posix.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != arguments.parent:  # it died before the kernel was asked
        sys.exit(EXIT_ORPHANED)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal's hang-up is the supervisor's business
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=arguments.control))
    os.set_inheritable(channel.fileno(), False)
    channel.send(Hello(role=role, build=__version__, pid=os.getpid()))
    start, attached = _await_start(channel)
    descriptors: dict[str, list[int]] = {}
    for name, descriptor in zip(start.descriptors, attached, strict=True):
        descriptors.setdefault(name, []).append(descriptor)
    configuration = from_tree(SCHEMA, start.tree)
    keep_secrets(configuration)
    log_config = configuration.get(LogConfig)
    logs.set_up(start.name, level=log_config.level, form=log_config.format)
    return Child(
        role=role,
        name=start.name,
        channel=channel,
        configuration=configuration,
        descriptors=descriptors,
        process_names=start.process_names,
        epochs=start.epochs,
        is_successor=start.is_successor,
    )


def _await_start(channel: Channel) -> tuple[Start, list[int]]:
    if not select.select([channel], [], [], START_PATIENCE_S)[0]:
        sys.exit(EXIT_ORPHANED)
    try:
        received = channel.receive()
    except EOFError:
        sys.exit(EXIT_ORPHANED)
    if received is None or not isinstance(received[0], Start) or len(received[0].descriptors) != len(received[1]):
        raise ProtocolMismatch(what="the supervisor's first message is not a start")
    return received[0], received[1]


def run(role: str, main: Callable[[Child], None]) -> NoReturn:
    """Run a child from its entry to its exit. Errors that name a cause go to the supervisor, which tells the
    operator."""
    child = enter(role)
    try:
        main(child)
    except (Rs3dError, BaseExceptionGroup) as failure:
        error = named_cause(failure)
        if error is None:
            raise
        log.error("cannot go on: %s", error)
        name, fields = to_wire(error)
        child.channel.send(Failed(error=name, fields=dict(fields)))
        sys.exit(EXIT_CANNOT_START)
    sys.exit(0)


def settle_memory() -> None:
    """Leave what was loaded so far, modules above all, out of later collections of cycles: it stays for as long as the
    process lives, and walking over it takes some 17 ms, whoever waits. To be called once, when all is ready."""
    gc.collect()
    gc.freeze()


def named_cause(failure: BaseException) -> Rs3dError | None:
    """The error that names what is wrong, in whatever nurseries wrapped around it; None when something else is in
    there."""
    if isinstance(failure, BaseExceptionGroup):
        causes = [named_cause(inner) for inner in failure.exceptions]
        return causes[0] if causes and all(causes) else None
    return failure if isinstance(failure, Rs3dError) else None


def leave_orphaned() -> NoReturn:
    """End at once, without any clean-up: the supervisor is gone, and its successor may be waiting for our locks."""
    os._exit(EXIT_ORPHANED)


async def beat(channel: Channel) -> None:
    """Send heartbeats until cancelled: one that is late shows that the loop is stuck."""
    while True:
        channel.send(Heartbeat())
        await trio.sleep(HEARTBEAT_INTERVAL_S)


async def attend(channel: Channel, handle: Callable[[Message, list[int]], None]) -> None:
    """Pass every message of the supervisor to `handle`, with its descriptors, until cancelled. Ends the process with
    its supervisor."""
    while True:
        await trio.lowlevel.wait_readable(channel.fileno())
        try:
            received = channel.receive()
        except EOFError:
            leave_orphaned()
        except ProtocolMismatch as error:
            log.error("control channel: %s", error)
            continue
        if received is not None:
            handle(*received)


def ignore_message(message: Message, descriptors: list[int]) -> None:
    """What a handler does with messages that are not for its role."""
    close_all(descriptors)
    log.warning("unexpected control message %s", type(message).__name__)
