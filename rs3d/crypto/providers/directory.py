"""All key providers of a store: which one a key id means, and wrapping by whichever it is.

A key id is `PROVIDER:KEY` for a provider of the configuration, else a key of the default provider. Keys of remote
providers that were unwrapped are cached (`unwrapped.UnwrappedKeys`), and so is what is known of a key; those of local
ones are opened each time, so that a key that is disabled is disabled at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from rs3d.crypto.providers.keyring import Keyring
from rs3d.crypto.providers.protocol import KEY_ID_LIMIT_CHARACTERS, KeyDescription, KeyProvider
from rs3d.crypto.providers.unwrapped import CACHE_S, CACHED_KEYS, UnwrappedKeys, cache_name
from rs3d.errors import InvalidArgument, KeyDisabled, KeyNotFound, KeyProviderUnavailable, RecordDamaged
from rs3d.rio.keys import EncryptionKey

DEFAULT_KEY: Final = "aws/s3"
"""The key of requests that name none, as S3 calls it. A local keyring makes it when it is first wanted."""
_DESCRIPTIONS_LIMIT: Final = 1024


@dataclass(frozen=True, slots=True)
class KeyName:
    """A key of one provider. Both parts are texts that may be shown."""

    provider: str
    key_id: str


class KeyElsewhere(Exception):
    """Not an error: the key has to be fetched from a remote provider first. `fetch` blocks; then ask again."""

    def __init__(self, fetch: Callable[[], object]) -> None:
        super().__init__("the key has to be fetched")
        self.fetch = fetch


class KeyDirectory:
    """Providers by name. Safe among threads; owns providers and cache."""

    def __init__(
        self,
        providers: Mapping[str, KeyProvider],
        *,
        default_provider: str,
        default_key: str = DEFAULT_KEY,
        cached_keys: int = CACHED_KEYS,
        cache_s: float = CACHE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._providers = dict(providers)
        self._default = KeyName(default_provider, default_key)
        self._clock = clock
        self._cache_s = cache_s
        self._cache = UnwrappedKeys(cached_keys, cache_s, clock)
        self._described: dict[KeyName, tuple[float, KeyDescription]] = {}
        self._lock = threading.Lock()

    @property
    def providers(self) -> Mapping[str, KeyProvider]:
        return dict(self._providers)

    def find(self, key_id: str) -> KeyName:
        """What a client's key id means; empty = the default key.

        Raises:
            InvalidArgument: no provider takes such a text.
        """
        if not key_id:
            return self._default
        if len(key_id) > KEY_ID_LIMIT_CHARACTERS or not key_id.isprintable():
            reason = f"at most {KEY_ID_LIMIT_CHARACTERS} printable characters"
            raise InvalidArgument(name="key id", value=key_id[:KEY_ID_LIMIT_CHARACTERS], reason=reason)
        provider, colon, rest = key_id.partition(":")
        if colon and provider in self._providers:
            return KeyName(provider, rest)
        return KeyName(self._default.provider, key_id)

    def is_remote(self, name: KeyName) -> bool:
        """Whether calls for this key block, and belong in a thread. Raises KeyProviderUnavailable."""
        return self._provider(name).is_remote

    def describe(self, name: KeyName) -> KeyDescription:
        """A key that may wrap now. Blocks for a remote provider, unless it told of the key lately.

        Raises:
            KeyNotFound, KeyDisabled, KeyAccessDenied, KeyProviderUnavailable
        """
        provider = self._provider(name)
        found = self._recent(name) if provider.is_remote else None
        if found is None:
            found = self._ask(provider, name)
        if not found.is_enabled:
            raise KeyDisabled(provider=name.provider, key_id=name.key_id)
        return found

    def wrap(self, name: KeyName, key: EncryptionKey, context: bytes) -> bytes:
        """`key` wrapped by the newest version of a provider's key. Blocks for a remote provider.

        Raises: as `describe`.
        """
        provider = self._provider(name)
        wrapped = provider.wrap(name.key_id, key.reveal(), context)
        if provider.is_remote:
            self._cache.put(_cache_name(name, wrapped, context), key)
        return wrapped

    def unwrap(self, name: KeyName, wrapped: bytes, context: bytes) -> EncryptionKey:
        """The key that was wrapped. Never blocks.

        Raises:
            KeyElsewhere: it has to be fetched from a remote provider.
            RecordDamaged: it does not open. Others as `describe`.
        """
        provider = self._provider(name)
        if not provider.is_remote:
            return _as_key(provider.unwrap(name.key_id, wrapped, context))
        cached = self._cache.get(_cache_name(name, wrapped, context))
        if cached is None:
            raise KeyElsewhere(lambda: self.fetch(name, wrapped, context))
        return cached

    def fetch(self, name: KeyName, wrapped: bytes, context: bytes) -> EncryptionKey:
        """The same, asking the provider, and into the cache. Blocks for a remote provider."""
        provider = self._provider(name)
        key = _as_key(provider.unwrap(name.key_id, wrapped, context))
        if provider.is_remote:
            self._cache.put(_cache_name(name, wrapped, context), key)
        return key

    def forget(self) -> None:
        """Drop everything cached, so that the next use asks the providers."""
        self._cache.clear()
        with self._lock:
            self._described.clear()

    def close(self) -> None:
        """Close providers and cache. May be repeated."""
        self._cache.close()
        for provider in self._providers.values():
            provider.close()

    def _provider(self, name: KeyName) -> KeyProvider:
        found = self._providers.get(name.provider)
        if found is None:
            reason = f"it is not configured: add [keys.providers.{name.provider}]"
            raise KeyProviderUnavailable(provider=name.provider, reason=reason)
        return found

    def _ask(self, provider: KeyProvider, name: KeyName) -> KeyDescription:
        try:
            found = provider.describe(name.key_id)
        except KeyNotFound:
            if name != self._default or not isinstance(provider, Keyring):
                raise
            found = provider.make_if_missing(name.key_id)
        if provider.is_remote:
            with self._lock:
                if len(self._described) >= _DESCRIPTIONS_LIMIT:
                    self._described.clear()
                self._described[name] = self._clock() + self._cache_s, found
        return found

    def _recent(self, name: KeyName) -> KeyDescription | None:
        with self._lock:
            found = self._described.get(name)
        return found[1] if found is not None and found[0] > self._clock() else None


def _cache_name(name: KeyName, wrapped: bytes, context: bytes) -> bytes:
    return cache_name(name.provider.encode(), name.key_id.encode(), wrapped, context)


def _as_key(raw: bytes) -> EncryptionKey:
    try:
        return EncryptionKey(raw)
    except ValueError as error:
        raise RecordDamaged(what="a data key", reason=str(error)) from None
