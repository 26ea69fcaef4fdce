"""One PKCS#11 token, logged in: opened when it is needed, opened again when it went away, one call at a time.

A PIN that was refused is not tried again until its file says another: tokens lock themselves after a few wrong ones.
Source: PKCS#11 v3.0, sections on C_Initialize, C_Login and sessions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from rs3d.crypto.providers.hsmmodule import module_at
from rs3d.crypto.secret import Secret
from rs3d.crypto.secretfiles import read_secret_file
from rs3d.errors import (
    ConfigurationError,
    KeyAccessDenied,
    KeyProviderUnavailable,
    NotImplementedHere,
)

if TYPE_CHECKING:
    import pkcs11

T = TypeVar("T")

_ATTEMPTS: Final = 2
"""The second with a new session: the token may have been away, or another user of it may have logged this one out."""


class HsmToken:
    """A token by its label, for one provider. For threads."""

    def __init__(self, provider: str, module: str, label: str, pin_file: str, environment: Mapping[str, str]) -> None:
        """Loads nothing yet."""
        self._module = module_at(module)
        self._provider = provider
        self._label = label
        self._pin_file = pin_file
        self._environment = environment
        self._session: pkcs11.Session | None = None
        self._generation = 0
        self._is_writable = False
        self._refused_pin: Secret | None = None

    def run(self, call: Callable[[pkcs11.Session], T], *, write: bool = False) -> T:
        """What `call` returns for a session that is logged in. Blocks, as long as the module does.

        Args:
            call: may be made twice, the second time with everything new, if the first failed by the token's fault.
            write: whether it makes objects.

        Raises:
            NotImplementedHere: the package python-pkcs11 is not installed.
            KeyAccessDenied: the PIN is refused, was refused before, or cannot be read.
            KeyProviderUnavailable: no such module or token, or it fails.
            What `call` raises and is not the package's.
        """
        require_package(self._provider)
        return self._module.call(lambda: self._run(call, write))

    def close(self) -> None:
        """Log out. May be repeated."""
        self._module.call(self._close)

    # -- in the module's thread --------------------------------------------------------------------------------------

    def _run(self, call: Callable[[pkcs11.Session], T], write: bool) -> T:
        import pkcs11

        for attempt in range(1, _ATTEMPTS + 1):
            try:
                if attempt > 1:
                    self._module.initialise_again()
                return call(self._opened(write))
            except pkcs11.exceptions.PKCS11Error as error:
                self._drop()
                self._check_pin(error)
                if attempt == _ATTEMPTS:
                    raise self._unavailable(_told(error)) from None
        raise self._unavailable("no attempt was made")

    def _close(self) -> None:
        self._drop()
        if self._refused_pin is not None:
            self._refused_pin.wipe()
            self._refused_pin = None

    def _opened(self, write: bool) -> pkcs11.Session:
        import pkcs11

        is_current = self._generation == self._module.generation
        if self._session is not None and is_current and (self._is_writable or not write):
            return self._session
        self._drop()
        pin = self._pin()
        try:
            token = self._token()
            try:
                self._session = token.open(rw=write, user_pin=pin.reveal().decode("utf-8", "replace"))
            except pkcs11.exceptions.UserAlreadyLoggedIn:
                # Another provider of this process uses the same token; the login is the token's, not the session's.
                self._session = token.open(rw=write)
            except _pin_refusals():
                with pin.view() as refused:
                    self._refused_pin = Secret(refused)
                raise
        finally:
            pin.wipe()
        self._is_writable, self._generation = write, self._module.generation
        return self._session

    def _token(self) -> pkcs11.Token:
        import pkcs11

        try:
            library = self._module.load()
        except (pkcs11.exceptions.PKCS11Error, OSError) as error:
            raise self._unavailable(f"{self._module.path} cannot be loaded: {_told(error)}") from None
        try:
            return library.get_token(token_label=self._label)
        except pkcs11.exceptions.NoSuchToken:
            # Many modules know only the tokens that were there when they were initialised.
            self._module.initialise_again()
            try:
                return library.get_token(token_label=self._label)
            except pkcs11.exceptions.NoSuchToken:
                raise self._unavailable(f"{self._module.path} has no token {self._label!r}") from None

    def _pin(self) -> Secret:
        setting = f"keys.providers.{self._provider}.pin_file"
        try:
            pin = read_secret_file(self._pin_file, setting, self._environment)
        except ConfigurationError as error:
            raise KeyAccessDenied(provider=self._provider, key_id="*", reason=str(error)) from None
        if self._refused_pin == pin:
            reason = f"the PIN in {self._pin_file} was refused and is not tried again, because tokens lock themselves"
            raise KeyAccessDenied(provider=self._provider, key_id="*", reason=reason)
        return pin

    def _check_pin(self, error: Exception) -> None:
        if isinstance(error, _pin_refusals()):
            reason = f"token {self._label!r}: {_told(error)}"
            raise KeyAccessDenied(provider=self._provider, key_id="*", reason=reason) from None

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is None or self._generation != self._module.generation:
            return
        import pkcs11

        # A session that is gone cannot be closed, and need not be.
        with contextlib.suppress(pkcs11.exceptions.PKCS11Error):
            session.close()

    def _unavailable(self, reason: str) -> KeyProviderUnavailable:
        return KeyProviderUnavailable(provider=self._provider, reason=reason)


def require_package(provider: str) -> None:
    """Raises NotImplementedHere, with what to install, when python-pkcs11 is absent."""
    try:
        import pkcs11  # noqa: F401
    except ImportError:
        what = f"key provider {provider!r} (PKCS#11) without the package python-pkcs11 (pip install python-pkcs11)"
        raise NotImplementedHere(what=what) from None


def _pin_refusals() -> tuple[type[Exception], ...]:
    from pkcs11 import exceptions

    return (
        exceptions.PinExpired,
        exceptions.PinIncorrect,
        exceptions.PinInvalid,
        exceptions.PinLenRange,
        exceptions.PinLocked,
        exceptions.UserPinNotInitialized,
    )


def _told(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()
