"""Which key providers there are, and how one is made from its table `[keys.providers.NAME]`.

A body of `KeyProvider` adds one row: the value of `type`, the dataclass of its other settings, and how it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rs3d.crypto.providers.awskms import AwsKmsSettings, open_aws_kms
from rs3d.crypto.providers.directory import KeyDirectory
from rs3d.crypto.providers.hsm import Pkcs11Settings, open_pkcs11
from rs3d.crypto.providers.keyring import KeyringSettings, open_keyring
from rs3d.crypto.providers.protocol import KeyProvider
from rs3d.crypto.providers.surroundings import Sealing, Surroundings
from rs3d.crypto.providers.vault import VaultSettings, open_vault


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """One value of `type`."""

    settings: type
    """A frozen dataclass; its `__post_init__` raises ConfigurationError for values that cannot be."""
    open: Callable[[str, Any, Surroundings], KeyProvider]
    """Makes the provider from its name, its settings and its surroundings; does not speak to a server yet, so that a
    store opens while its provider is away. Raises an OperatorError for what will never work."""


KINDS: Final[dict[str, ProviderKind]] = {
    "keyring": ProviderKind(KeyringSettings, open_keyring),
    "vault": ProviderKind(VaultSettings, open_vault),
    "aws-kms": ProviderKind(AwsKmsSettings, open_aws_kms),
    "pkcs11": ProviderKind(Pkcs11Settings, open_pkcs11),
}


def settings_by_type() -> Mapping[str, type]:
    """The dataclass of each `type`, for the schema of the configuration."""
    return {kind: row.settings for kind, row in KINDS.items()}


def open_provider(name: str, settings: object, surroundings: Surroundings) -> KeyProvider:
    """The provider that a table of the configuration describes.

    Args:
        name: the table's last part.
        settings: an object of the dataclass of its type.

    Raises:
        OperatorError: it can never work as it is configured.
    """
    for row in KINDS.values():
        if type(settings) is row.settings:
            return row.open(name, settings, surroundings)
    raise TypeError(f"no kind of key provider has settings of {type(settings).__name__}")


def local_directory(root: str, region: str, sealer: Sealing) -> KeyDirectory:
    """A directory with the store's own keyring as its only provider, as a library opens a store."""
    keyring = open_provider("local", KeyringSettings(), Surroundings(root, region, sealer))
    return KeyDirectory({"local": keyring}, default_provider="local")
