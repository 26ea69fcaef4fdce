"""The committer: the only writer of log and catalog. Entry point of `python -m rs3d.daemon.committer`.

The main thread is the service's loop, which may sit in a sync for long; a thread of its own sends heartbeats that
say so,
and hears the supervisor (STORE.md 9).
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading

from rs3d import kernels
from rs3d.app import metrics
from rs3d.app.opening import storage_root
from rs3d.app.sections import SCHEMA, LogConfig
from rs3d.config.loading import from_tree
from rs3d.daemon.child import Child, leave_orphaned, run, settle_memory
from rs3d.daemon.control import AcceptClock, Drain, Heartbeat, Ready, Reload, Reloaded, StopWriting, close_all
from rs3d.errors import ConfigurationError, ProtocolMismatch
from rs3d.stores.ballast import SpaceConfig
from rs3d.stores.committeropen import CommitterSettings, OpenedCommitter, open_committer
from rs3d.stores.committerservice import CommitterService
from rs3d.stores.layoutmeta import read_store_meta
from rs3d.stores.lock import LockMode, LockRange, StoreLock
from rs3d.telemetry import logs
from rs3d.telemetry.logs import fields
from rs3d.telemetry.metrics import MetricsPage

log = logging.getLogger("rs3d.daemon.committer")

BEAT_INTERVAL_S = 1.0
"""Heartbeats, and how old the committer's metrics may be."""


class Attendant:
    """The thread beside the service: heartbeats out, the supervisor's messages in, metrics up to date."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._service: CommitterService | None = None
        self._opened: OpenedCommitter | None = None
        instruments = MetricsPage(child.take("metrics")).install(metrics.COMMITTER_FAMILIES)
        self._committed = instruments[metrics.COMMITTED_OPERATIONS.name]
        self._batches = instruments[metrics.COMMIT_BATCHES.name]
        self._counted = (0, 0)
        self._thread = threading.Thread(target=self._attend, name="rs3d-attendant", daemon=True)
        self._stopped = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it: one that still runs while the interpreter takes itself apart ends in a
        traceback on a clean stop. Afterwards there are no heartbeats."""
        os.eventfd_write(self._stopped, 1)
        self._thread.join()
        os.close(self._stopped)

    def watch(self, service: CommitterService, opened: OpenedCommitter) -> None:
        """From now on the service is running."""
        self._opened = opened
        self._service = service

    def _attend(self) -> None:
        channel = self._child.channel.fileno()
        while True:
            service = self._service
            busy = "sync" if service is not None and service.syncing else ""
            self._child.channel.send(Heartbeat(busy=busy, trouble=self._trouble()))
            self._count()
            readable, _, _ = select.select([channel, self._stopped], [], [], BEAT_INTERVAL_S)
            if self._stopped in readable:
                return
            if readable:
                self._hear()

    def _hear(self) -> None:
        try:
            received = self._child.channel.receive()
        except EOFError:
            leave_orphaned()
        except ProtocolMismatch as error:
            log.error("control channel: %s", error)
            return
        if received is None:
            return
        message, descriptors = received
        close_all(descriptors)
        if isinstance(message, Drain) and self._service is not None:
            self._service.stop()
        elif isinstance(message, AcceptClock) and self._opened is not None:
            self._opened.core.clock.accept()
        elif isinstance(message, StopWriting) and self._opened is not None:
            self._opened.core.read_only = message.reason
        elif isinstance(message, Reload):
            self._child.channel.send(Reloaded(refused=self._reload(message)))

    def _trouble(self) -> str:
        """What keeps the committer from doing all of its work."""
        if self._opened is None:
            return ""
        core = self._opened.core
        if core.read_only is not None:
            return f"the store is read-only: {core.read_only}"
        if core.clock.is_suspect:
            return "the wall clock stepped; object locks stay until it is accepted: rs3d clock accept"
        return ""

    def _reload(self, message: Reload) -> str:
        try:
            config = from_tree(SCHEMA, message.tree).get(LogConfig)
        except ConfigurationError as error:
            return str(error)
        logs.set_up(self._child.name, level=config.level, form=config.format)
        return ""

    def _count(self) -> None:
        if self._opened is None:
            return
        core = self._opened.core
        now = (core.committed, core.batches)
        self._committed.add(now[0] - self._counted[0])
        self._batches.add(now[1] - self._counted[1])
        self._counted = now


def main(child: Child) -> None:
    attendant = Attendant(child)
    attendant.start()
    try:
        _commit(child, attendant)
    finally:
        attendant.stop()


def _commit(child: Child, attendant: Attendant) -> None:
    kernels.selftest()
    root = str(storage_root(child.configuration))
    # The lock comes before the first look at the log's tail, and goes with the process (STORE.md 9).
    with StoreLock.acquire(root, LockRange.WRITER, LockMode.EXCLUSIVE, child.name):
        meta = read_store_meta(root)
        space = child.configuration.get(SpaceConfig)
        settings = CommitterSettings(
            store_id=meta.store_id,
            map_bytes=meta.map_bytes,
            reserve_bytes=space.minimum_free_bytes,
            ballast_bytes=space.ballast_bytes,
            is_successor=child.is_successor,
        )
        opened = open_committer(root, settings)
        log.info(
            "opened",
            extra=fields(applied=opened.recovered.applied, dropped_bytes=opened.recovered.dropped_bytes),
        )
        control = socket.socket(fileno=child.take("committer control"))
        service = CommitterService(opened.core, control)
        service.close_stale_epochs(frozenset(child.epochs))
        attendant.watch(service, opened)
        settle_memory()
        child.channel.send(Ready())
        service.serve()
        service.close()
        opened.close()


if __name__ == "__main__":
    run("committer", main)
