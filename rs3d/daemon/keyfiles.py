"""The files of keys that a store needs to be opened again, read as they lie on the disk: for the scrub.

A running daemon has read them long ago, so a bit that is flipped in one would show at the next start only, when the
copy may be gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from rs3d.app import rootcredentials
from rs3d.app.opening import master_key, storage_root
from rs3d.config.loading import Configuration
from rs3d.crypto.providers.keyring import Keyring
from rs3d.engine import StorageEngine
from rs3d.errors import ConfigurationError, FormatUnknown, MasterKeyWrong, Rs3dError, StoreDamaged
from rs3d.stores.layoutmeta import read_store_meta


def damaged_key_files(
    configuration: Configuration, environment: Mapping[str, str], engine: StorageEngine, credentials_source: str
) -> list[tuple[str, str]]:
    """Master key, keyrings and root credentials that could not be used by the next start, and why. Blocks: reads some
    kilobytes.

    Args:
        credentials_source: where the root credentials in use came from; nothing is looked at unless it is a path.
    """
    return [
        *_master_key(configuration, environment),
        *_keyrings(engine),
        *_root_credentials(credentials_source, engine),
    ]


def _master_key(configuration: Configuration, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    try:
        meta = read_store_meta(str(storage_root(configuration)))
    except (StoreDamaged, FormatUnknown, OSError):
        return []  # a finding of its own
    try:
        key = master_key(configuration, environment)
    except MasterKeyWrong as error:
        return [(error.source, error.reason)]
    try:
        key.require(meta.store_id, meta.master_key_id, meta.master_key_check)
    except MasterKeyWrong as error:
        return [(error.source, error.reason)]
    finally:
        key.wipe()
    return []


def _keyrings(engine: StorageEngine) -> list[tuple[str, str]]:
    found = []
    for provider in engine.key_directory.providers.values():
        if isinstance(provider, Keyring):
            try:
                provider.check_file()
            except Rs3dError as error:
                found.append((provider.path, str(error)))
    return found


def _root_credentials(source: str, engine: StorageEngine) -> list[tuple[str, str]]:
    if not source.startswith("/"):
        return []
    try:
        given = rootcredentials.from_file(Path(source))
    except ConfigurationError as error:
        return [(source, error.reason)]
    known = engine.credentials(given.access_key)
    if known is None or not secrets.compare_digest(known.secret.encode(), given.secret_key.encode()):
        return [(source, "it does not hold the key that the store was started with")]
    return []
