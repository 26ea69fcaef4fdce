"""The token that rs3d shows to Vault: from a file, or by AppRole; kept until it is refused or nearly over.

The token is replaced by whoever finds it refused; others that fail with the same old one take the new. Source: the API
documentation of AppRole and of tokens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from rs3d.crypto.secret import Secret
from rs3d.crypto.secretfiles import read_secret_file
from rs3d.errors import ConfigurationError, KeyAccessDenied

LogIn = Callable[[str, str], tuple[str, int]]
"""From role id and secret id to a token and its lifetime in seconds, 0 for ever."""

_USED_SHARE: Final = 0.8
"""Of its lifetime, a token is used so long: the rest is for calls under way and for clocks that differ."""


def check_sources(token_file: str, role_id: str, secret_id_file: str) -> None:
    """Raises ConfigurationError unless there is exactly one way to a token."""
    if bool(role_id) != bool(secret_id_file):
        missing, given = ("secret_id_file", "role_id") if role_id else ("role_id", "secret_id_file")
        raise ConfigurationError(source="vault", key=missing, reason=f"goes with {given}")
    if bool(token_file) == bool(role_id):
        reason = "give either token_file, or role_id with secret_id_file"
        raise ConfigurationError(source="vault", key="token_file", reason=reason)


class TokenSource:
    """One way to a token. For threads."""

    def __init__(
        self, provider: str, token_file: str, role_id: str, secret_id_file: str, environment: Mapping[str, str]
    ) -> None:
        self._provider = provider
        self._file = token_file or secret_id_file
        self._setting = f"keys.providers.{provider}.{'token_file' if token_file else 'secret_id_file'}"
        self._role_id = role_id
        self._environment = environment
        self._lock = threading.Lock()
        self._token: Secret | None = None
        self._over_at = float("inf")
        self.origin = f"AppRole {role_id}" if role_id else token_file
        """Where the token comes from, for messages."""

    def current(self, log_in: LogIn) -> str:
        """The token to use now. Blocks when it has to be got.

        Raises:
            KeyAccessDenied: the file cannot be read, or the login is refused.
        """
        with self._lock:
            if self._token is None or time.monotonic() >= self._over_at:
                self._renew(log_in)
            return self._revealed()

    def after_refusal(self, refused: str, log_in: LogIn) -> str:
        """A token to try after `refused` was: another's newer one, or one that is got now. Errors as `current`."""
        with self._lock:
            if self._token is None or self._revealed() == refused:
                self._renew(log_in)
            return self._revealed()

    def forget(self) -> None:
        """Wipe the token; the next call gets it anew."""
        with self._lock:
            if self._token is not None:
                self._token.wipe()
            self._token = None

    def _renew(self, log_in: LogIn) -> None:
        try:
            secret = read_secret_file(self._file, self._setting, self._environment)
        except ConfigurationError as error:
            raise KeyAccessDenied(provider=self._provider, key_id="*", reason=str(error)) from None
        lease_s = 0
        if self._role_id:
            token, lease_s = log_in(self._role_id, secret.reveal().decode("latin-1"))
            secret.wipe()
            secret = Secret(token.encode("latin-1", "replace"))
        if self._token is not None:
            self._token.wipe()
        self._token = secret
        self._over_at = time.monotonic() + lease_s * _USED_SHARE if lease_s > 0 else float("inf")

    def _revealed(self) -> str:
        return "" if self._token is None else self._token.reveal().decode("latin-1")
