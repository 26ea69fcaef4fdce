"""A worker: one Trio loop that serves S3 on the shared listeners. Entry point of `python -m rs3d.daemon.worker`."""

from __future__ import annotations

import logging
import math
import os
import socket
import ssl
from dataclasses import dataclass
from typing import Final

import trio

from rs3d import kernels
from rs3d.app import metrics
from rs3d.app.layermetrics import LayerMetrics
from rs3d.app.listeners import S3, S3_TLS
from rs3d.app.observing import RequestRecord, WorkerObserver
from rs3d.app.sections import SCHEMA, LogConfig, ServerConfig
from rs3d.app.storeparts import NO_COMMITTER, StoreParts, open_parts
from rs3d.app.tlscertificates import load_certificates
from rs3d.clock import SystemClock
from rs3d.config.loading import from_tree
from rs3d.daemon.child import Child, attend, beat, ignore_message, run, settle_memory
from rs3d.daemon.control import (
    BlobSuspected,
    CommitterChannel,
    Drain,
    Message,
    Ready,
    Reload,
    Reloaded,
    TraceRecord,
    TraceSwitch,
    close_all,
)
from rs3d.engine import StorageEngine
from rs3d.engine.layerwork import LAYER_WORK
from rs3d.errors import ConfigurationError
from rs3d.http.balance import ConnectionBoard
from rs3d.http.handover import Handover
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import Request, Response
from rs3d.http.server import ServerControl, serve
from rs3d.http.shortcut import Shortcut
from rs3d.s3.application import Application, build_application
from rs3d.s3.configuration import S3Config
from rs3d.stores.blobs import LocalBlobStore
from rs3d.telemetry import logs
from rs3d.telemetry.metrics import MetricsPage
from rs3d.types.identifiers import BlobId
from rs3d.types.identities import UserRole

log = logging.getLogger("rs3d.daemon.worker")

ROOT_WAIT_S: Final = 10.0
"""How long a worker waits for root's key before it accepts connections; putting it in takes one commit."""
ROOT_POLL_S: Final = 0.02

_BOARD: Final = "connections:"
_INBOX: Final = "inbox"
_OUTBOX: Final = "outbox:"


@dataclass(slots=True)
class Serving:
    """What a reload replaces while requests run: each new request and connection looks here."""

    application: Application
    tls: ssl.SSLContext | None
    shortcut: Shortcut | None

    async def handle(self, request: Request) -> Response:
        return await self.application(request)

    def render(self, error: Exception, request: Request | None, request_id: str) -> Response:
        return self.application.render(error, request, request_id)


class Worker:
    """The state of one worker process."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._configuration = child.configuration
        page = MetricsPage(child.take("metrics"))
        log_config = self._configuration.get(LogConfig)
        instruments = page.install(metrics.WORKER_FAMILIES)
        self._observer = WorkerObserver(instruments, log_requests=log_config.requests)
        self._layers = LayerMetrics(instruments, LAYER_WORK)
        self._board = _board(child)
        self._control = ServerControl(self._board)
        self._serving: Serving | None = None
        self._parts: StoreParts | None = None
        self._committer_arrived, self._committers = trio.open_memory_channel[int](math.inf)
        self._drain: Drain | None = None
        self._drain_asked = trio.Event()

    async def run(self) -> None:
        """Serve until drained."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat, self._child.channel)
            nursery.start_soon(attend, self._child.channel, self._handle)
            nursery.start_soon(self._layers.run)
            horizon = self._child.take("horizon")
            async with open_parts(self._configuration, self._committers, horizon, self._child.name) as parts:
                self._parts = parts
                self._layers.decoded = parts.engine.decoded_bodies
                self._layers.lookups = parts.engine.lookups
                self._report_damage(parts.blobs)
                nursery.start_soon(parts.engine.let_files_go)
                await self._serve()
            nursery.cancel_scope.cancel()

    async def _serve(self) -> None:
        if self._parts is None:
            return
        server = self._configuration.get(ServerConfig)
        application = self._application()
        self._serving = Serving(application, load_certificates(server, os.environ), self._shortcut(application))
        await self._wait_for_root()
        plain = self._listeners(S3)
        encrypted = self._listeners(S3_TLS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve_on, plain, False)
            if encrypted:
                nursery.start_soon(self._serve_on, encrypted, True)
            settle_memory()
            self._child.channel.send(Ready())
            await self._drain_asked.wait()
            timeout_s = self._drain.timeout_s if self._drain is not None else 0.0
            await self._control.drain(timeout_s)

    async def _wait_for_root(self) -> None:
        """At a store's first start the steward puts root's key in; whoever came before that would be told that there is
        no such key. Bounded, because a store may be served without a root user."""
        if self._parts is None:
            return
        engine = self._parts.engine
        with trio.move_on_after(ROOT_WAIT_S):
            # Another process puts it in, so there is no event to wait for.
            while not _has_root(engine):  # noqa: ASYNC110
                await trio.sleep(ROOT_POLL_S)

    async def _serve_on(self, listeners: list[trio.socket.SocketType], encrypted: bool) -> None:
        serving, parts = self._serving, self._parts
        if serving is None or parts is None:
            return
        await serve(
            listeners,
            serving.handle,
            limits=self._configuration.get(HttpLimits),
            tls=(lambda: serving.tls) if encrypted else None,
            render=serving.render,
            control=self._control,
            observer=self._observer,
            find_shortcut=lambda: serving.shortcut,
            companions=() if encrypted else (parts.committer.read_by, parts.engine.read_arrivals_by),
            handover=None if encrypted else self._handover(),
        )

    def _handover(self) -> Handover | None:
        """This worker's inbox, and those of the others; None when it is the only worker."""
        child, board = self._child, self._board
        outboxes = {
            int(name.removeprefix(_OUTBOX)): socket.socket(fileno=child.take(name))
            for name in list(child.descriptors)
            if name.startswith(_OUTBOX)
        }
        if not outboxes:
            return None
        inbox = socket.socket(fileno=child.take(_INBOX))
        return Handover(board, inbox, outboxes, self._configuration.get(HttpLimits).connections)

    def _listeners(self, name: str) -> list[trio.socket.SocketType]:
        return [trio.socket.from_stdlib_socket(sock) for sock in self._child.take_listeners(name)]

    def _application(self) -> Application:
        if self._parts is None:
            raise RuntimeError("the store is not open")
        return build_application(
            engine=self._parts.engine, config=self._configuration.get(S3Config), clock=SystemClock()
        )

    def _shortcut(self, application: Application) -> Shortcut | None:
        return application.shortcut(self._configuration.get(HttpLimits))

    # ------------------------------------------------------------------------------------------------ the supervisor

    def _handle(self, message: Message, descriptors: list[int]) -> None:
        if isinstance(message, CommitterChannel) and len(descriptors) <= 1:
            self._committer_arrived.send_nowait(descriptors[0] if descriptors else NO_COMMITTER)
        elif isinstance(message, Drain):
            self._drain = message
            self._drain_asked.set()
        elif isinstance(message, Reload):
            self._child.channel.send(Reloaded(refused=self._reload(message)))
        elif isinstance(message, TraceSwitch):
            self._observer.trace = self._send_trace if message.on else None
        else:
            ignore_message(message, descriptors)
            return
        if not isinstance(message, CommitterChannel):
            close_all(descriptors)

    def _reload(self, message: Reload) -> str:
        if self._serving is None:
            return "still starting"
        try:
            configuration = from_tree(SCHEMA, message.tree)
            tls = load_certificates(configuration.get(ServerConfig), os.environ)
        except ConfigurationError as error:
            return str(error)
        self._configuration = configuration
        log_config = configuration.get(LogConfig)
        logs.set_up(self._child.name, level=log_config.level, form=log_config.format)
        self._observer.log_requests = log_config.requests
        self._serving.tls = tls
        application = self._serving.application = self._application()
        self._serving.shortcut = self._shortcut(application)
        return ""

    def _report_damage(self, blobs: LocalBlobStore) -> None:
        """Blobs found damaged by a request are looked at by the steward, also when parity mended what was asked for."""
        token = trio.lowlevel.current_trio_token()

        def suspect(blob: BlobId, reason: str) -> None:
            message = BlobSuspected(blob=blob.text(), reason=reason[:500])
            token.run_sync_soon(self._child.channel.send, message)

        blobs.on_damage = suspect

    def _send_trace(self, record: RequestRecord) -> None:
        self._child.channel.send(
            TraceRecord(
                unix_s=record.unix_s,
                process=self._child.name,
                request_id=record.request_id,
                peer=record.peer,
                method=record.method,
                path=record.path,
                status=record.status,
                bytes_in=record.bytes_in,
                bytes_out=record.bytes_out,
                duration_us=record.duration_us,
            )
        )


def _has_root(engine: StorageEngine) -> bool:
    return any(user.role is UserRole.ROOT and engine.access_keys(user.name) for user in engine.users())


def _board(child: Child) -> ConnectionBoard:
    """This worker's place among those that share its listeners; the descriptor's name tells which it is."""
    name = next((name for name in child.descriptors if name.startswith(_BOARD)), _BOARD)
    descriptor = child.take(name)
    try:
        return ConnectionBoard(descriptor, int(name.removeprefix(_BOARD)))
    finally:
        os.close(descriptor)


def main(child: Child) -> None:
    kernels.selftest()
    worker = Worker(child)
    trio.run(worker.run)


if __name__ == "__main__":
    run("worker", main)
