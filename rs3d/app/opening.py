"""Opening a store for a daemon: its directory, its lock, its master key, and its making when there is none."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rs3d.app.sections import KeysConfig, StorageConfig
from rs3d.clock import SystemClock
from rs3d.config.loading import Configuration
from rs3d.crypto.masterkey import CREDENTIAL_NAME, CREDENTIALS_VARIABLE, MasterKey
from rs3d.errors import ConfigurationError, MasterKeyWrong
from rs3d.format.storemeta import StoreMeta
from rs3d.stores.layoutmeta import create_store, open_store, store_exists
from rs3d.stores.lock import LockMode, LockRange, StoreLock


class MissingKey(enum.Enum):
    """What to do when a *new* store has no master key yet. An existing store never gets one made."""

    REFUSE = "refuse"
    MAKE = "make"


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """A store this process may serve: the `daemon` lock is held until `lock` is released."""

    root: Path
    lock: StoreLock
    meta: StoreMeta


def storage_root(configuration: Configuration) -> Path:
    """Raises ConfigurationError when `[storage] root` is not set."""
    root = configuration.get(StorageConfig).root
    if root is None:
        raise ConfigurationError(source="configuration", key="storage.root", reason="must be set")
    return root.absolute()


def master_key(configuration: Configuration, environment: Mapping[str, str]) -> MasterKey:
    """The store's master key, from the systemd credential or from `[keys] master_file`. Blocking.

    Raises:
        MasterKeyWrong: there is neither, or it is unreadable; none is ever invented.
    """
    directory = environment.get(CREDENTIALS_VARIABLE)
    if directory and Path(directory, CREDENTIAL_NAME).exists():
        return MasterKey.from_credential()
    path = configuration.get(KeysConfig).master_file
    if path is None:
        reason = f"not set; set it to a file made by `openssl rand -hex 32`, or give the credential {CREDENTIAL_NAME}"
        raise MasterKeyWrong(source="[keys] master_file", reason=reason)
    return MasterKey.from_file(str(path))


def master_key_file(configuration: Configuration, environment: Mapping[str, str]) -> str:
    """The key file that a rotation may change.

    Raises:
        MasterKeyWrong: the key is a systemd credential, which this process cannot change.
    """
    directory = environment.get(CREDENTIALS_VARIABLE)
    path = configuration.get(KeysConfig).master_file
    if (directory and Path(directory, CREDENTIAL_NAME).exists()) or path is None:
        reason = "cannot be changed from here: put the new key's line before the old one in it, and restart the daemon"
        raise MasterKeyWrong(source=f"credential {CREDENTIAL_NAME}", reason=reason)
    return str(path)


def claim_store(
    configuration: Configuration, environment: Mapping[str, str], *, missing_key: MissingKey, role: str
) -> OpenedStore:
    """Lock the store for this daemon, making directory and store if there is nothing yet. Blocking.

    Raises:
        StoreBusy: another daemon has it; names the holder.
        MasterKeyWrong, FormatUnknown, StoreDamaged, ConfigurationError: it cannot be served as it is.
    """
    root = storage_root(configuration)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot make {root}: {error.strerror}"
        raise ConfigurationError(source="configuration", key="storage.root", reason=reason) from error
    lock = StoreLock.acquire(str(root), LockRange.DAEMON, LockMode.EXCLUSIVE, role)
    try:
        return OpenedStore(root, lock, _open_or_create(root, configuration, environment, missing_key))
    except BaseException:
        lock.release()
        raise


def _open_or_create(
    root: Path, configuration: Configuration, environment: Mapping[str, str], missing_key: MissingKey
) -> StoreMeta:
    exists = store_exists(str(root))
    path = configuration.get(KeysConfig).master_file
    if not exists and missing_key is MissingKey.MAKE and path is not None and not os.path.lexists(path):
        MasterKey.generate().write(str(path))
    key = master_key(configuration, environment)
    if exists:
        return open_store(str(root), key)
    map_bytes = configuration.get(StorageConfig).map_bytes
    return create_store(str(root), key, clock=SystemClock(), map_bytes=map_bytes)
