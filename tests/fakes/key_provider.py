"""A keyring behind an imagined network: remote, counted, and away when a test wants it to be."""

from __future__ import annotations

from rs3d.crypto.providers.keyring import Keyring
from rs3d.crypto.providers.protocol import KeyDescription
from rs3d.errors import KeyProviderUnavailable


class RemoteKeyring:
    """A `KeyProvider` that answers like the keyring it is given, as long as `is_away` is not set."""

    kind = "fake"
    is_remote = True

    def __init__(self, keyring: Keyring, name: str = "remote") -> None:
        self.name = name
        self.keyring = keyring
        self.is_away = False
        self.calls: list[str] = []

    def check(self) -> str:
        self._ask("check")
        return "imagined"

    def describe(self, key_id: str) -> KeyDescription:
        self._ask("describe")
        return self.keyring.describe(key_id)

    def wrap(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
        self._ask("wrap")
        return self.keyring.wrap(key_id, plaintext, context)

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        self._ask("unwrap")
        return self.keyring.unwrap(key_id, wrapped, context)

    def rotate(self, key_id: str) -> KeyDescription:
        self._ask("rotate")
        return self.keyring.rotate(key_id)

    def list_keys(self) -> list[KeyDescription]:
        self._ask("list")
        return self.keyring.list_keys()

    def close(self) -> None:
        self.keyring.close()

    def _ask(self, call: str) -> None:
        self.calls.append(call)
        if self.is_away:
            raise KeyProviderUnavailable(provider=self.name, reason="no answer within 1 s")
