"""From a configuration to a running daemon: lock, store, keys, sockets, supervisor; and back again in reverse."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rs3d.app import rootcredentials
from rs3d.app.listeners import ADMIN, OPS, S3, S3_TLS, Listeners, inherited, open_tcp, open_unix
from rs3d.app.opening import MissingKey, OpenedStore, claim_store
from rs3d.app.rootcredentials import RootCredentials
from rs3d.app.sections import AdminConfig, LogConfig, OpsConfig, RootConfig, ServerConfig
from rs3d.app.tlscertificates import load_certificates
from rs3d.config.loading import Configuration
from rs3d.daemon.notify import Notifier
from rs3d.daemon.secrecy import keep_secrets
from rs3d.daemon.supervisor import Supervisor, SupervisorDeps
from rs3d.telemetry import logs

log = logging.getLogger(__name__)

ADMIN_SOCKET: Final = "admin.sock"


@dataclass(frozen=True, slots=True)
class Serving:
    """What the operator is told when the daemon serves."""

    root: Path
    s3: list[str]
    s3_tls: list[str]
    ops: list[str]
    admin: Path
    credentials: RootCredentials | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How `rs3d mini` and `rs3d serve` differ."""

    read_configuration: Callable[[], Configuration]
    missing_key: MissingKey
    root_credentials: Callable[[Path, Configuration], RootCredentials | None]
    """Given the storage root, after it is locked; may make a file."""
    on_serving: Callable[[Serving], None]


def configured_credentials(
    environment: MutableMapping[str, str], configuration: Configuration
) -> RootCredentials | None:
    """The root user's key from wherever it is configured, or None. Blocking. Raises ConfigurationError."""
    given = rootcredentials.from_environment(environment) or rootcredentials.from_credential(environment)
    path = configuration.get(RootConfig).credentials_file
    if given is None and path is not None:
        given = rootcredentials.from_file(path)
    return given


def run_daemon(launch: Launch, environment: MutableMapping[str, str]) -> None:
    """Serve until stopped. Blocking.

    Raises:
        Rs3dError: it cannot start, and why. Everything is given back.
    """
    configuration = launch.read_configuration()
    keep_secrets(configuration)
    log_config = configuration.get(LogConfig)
    logs.set_up("supervisor", level=log_config.level, form=log_config.format)
    notifier = Notifier.from_environment(environment)
    listeners = inherited(environment)
    try:
        load_certificates(
            configuration.get(ServerConfig), environment
        )  # wrong ones are found now, not by the first client
        store = claim_store(configuration, environment, missing_key=launch.missing_key, role="supervisor")
        with store.lock:
            _serve(launch, configuration, store, listeners, notifier)
    finally:
        listeners.close()


def _serve(
    launch: Launch, configuration: Configuration, store: OpenedStore, listeners: Listeners, notifier: Notifier
) -> None:
    credentials = launch.root_credentials(store.root, configuration)
    if credentials is not None:
        logs.hide(credentials.secret_key)
    admin_path = configuration.get(AdminConfig).socket or store.root / ADMIN_SOCKET
    _open_missing(configuration, listeners, admin_path)
    credentials_fd = _sealed_memory(credentials.text_with_source()) if credentials is not None else None
    serving = Serving(
        root=store.root,
        s3=listeners.addresses(S3),
        s3_tls=listeners.addresses(S3_TLS),
        ops=listeners.addresses(OPS),
        admin=admin_path,
        credentials=credentials,
    )
    supervisor = Supervisor(
        SupervisorDeps(
            configuration=configuration,
            listeners=listeners,
            notifier=notifier,
            root_credentials_fd=credentials_fd,
            read_configuration=launch.read_configuration,
            on_serving=lambda: launch.on_serving(serving),
        )
    )
    try:
        supervisor.run()
    finally:
        if credentials_fd is not None:
            os.close(credentials_fd)


def _open_missing(configuration: Configuration, listeners: Listeners, admin_path: Path) -> None:
    """Open every socket that systemd did not pass."""
    server = configuration.get(ServerConfig)
    # Where systemd passes either kind of S3 socket, it decides about both.
    passed = listeners.of(S3, S3_TLS)
    wanted = [(OPS, "ops.listen", configuration.get(OpsConfig).listen)]
    if not passed:
        wanted += [(S3, "server.listen", server.listen), (S3_TLS, "server.tls_listen", server.tls_listen)]
    for name, key, addresses in wanted:
        if not listeners.of(name):
            for address in addresses:
                for sock in open_tcp(address, key=key):
                    listeners.add(name, sock)
    if not listeners.of(ADMIN):
        listeners.add(ADMIN, open_unix(admin_path, key="admin.socket"))


def _sealed_memory(text: str) -> int:
    descriptor = os.memfd_create("rs3d-root", os.MFD_CLOEXEC)
    os.write(descriptor, text.encode())
    return descriptor


def read_sealed(descriptor: int) -> str:
    """What `_sealed_memory` holds; closes the descriptor."""
    with os.fdopen(descriptor, "rb") as file:
        return os.pread(file.fileno(), 4096, 0).decode()
