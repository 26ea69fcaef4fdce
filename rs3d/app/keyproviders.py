"""The key providers of the configuration, opened for one process."""

from __future__ import annotations

import re
from typing import Final

from rs3d.app.sections import LOCAL_PROVIDER, PROVIDERS, KeysConfig
from rs3d.config.loading import Configuration
from rs3d.crypto.providers.directory import KeyDirectory
from rs3d.crypto.providers.keyring import KeyringSettings
from rs3d.crypto.providers.protocol import KeyProvider
from rs3d.crypto.providers.registry import open_provider
from rs3d.crypto.providers.surroundings import Sealing, Surroundings
from rs3d.errors import ConfigurationError
from rs3d.s3.configuration import S3Config

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z", re.ASCII)
_RESERVED: Final = frozenset({"arn", "alias"})
"""How key ids of KMS begin: a provider of this name would take them for its own."""


def open_key_directory(configuration: Configuration, root: str, sealer: Sealing) -> KeyDirectory:
    """All providers; blocks on small files only, as no server is asked yet.

    Raises:
        ConfigurationError: a name cannot be a provider's, or `[keys] provider` names none.
        OperatorError: a provider can never work as it is configured.
    """
    keys = configuration.get(KeysConfig)
    settings: dict[str, object] = {LOCAL_PROVIDER: KeyringSettings()}
    settings.update(configuration.family(PROVIDERS))
    for name in settings:
        if _NAME.match(name) is None or name in _RESERVED:
            reason = "a provider's name has 1 to 32 of a-z, 0-9, _ and -, begins with a letter, and is not arn or alias"
            raise ConfigurationError(source="configuration", key=f"{PROVIDERS}.{name}", reason=reason)
    if keys.provider not in settings:
        reason = f"there is no table [{PROVIDERS}.{keys.provider}]"
        raise ConfigurationError(source=configuration.source("keys.provider"), key="keys.provider", reason=reason)
    surroundings = Surroundings(root, configuration.get(S3Config).region, sealer)
    opened: dict[str, KeyProvider] = {}
    try:
        for name, given in settings.items():
            opened[name] = open_provider(name, given, surroundings)
    except BaseException:
        for provider in opened.values():
            provider.close()
        raise
    return KeyDirectory(
        opened,
        default_provider=keys.provider,
        default_key=keys.default_key,
        cached_keys=keys.cached_keys,
        cache_s=keys.cache_s,
    )
