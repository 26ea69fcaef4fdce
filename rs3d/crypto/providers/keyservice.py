"""One key service over HTTP: JSON requests on kept connections, in bounded time, with bounded repetition.

What Vault and AWS KMS have in common. Redirects are never followed (a request carries a token or a key), proxies of
the environment are not used, plain HTTP is for loopback addresses alone. For threads; several may call at once.
"""

from __future__ import annotations

import ipaddress
import random
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from rs3d.crypto.secretfiles import credential_path
from rs3d.errors import ConfigurationError, KeyProviderUnavailable

if TYPE_CHECKING:
    import httpx

LONGEST_ANSWER_BYTES: Final = 1024 * 1024
"""A page of a thousand key names is about 100 KB."""
ATTEMPTS: Final = 3
FIRST_PAUSE_S: Final = 0.05
_PASSING: Final = frozenset((429, 500, 502, 503, 504))
"""Statuses that another attempt may not meet."""
_CONNECTIONS: Final = 16

Headers = Sequence[tuple[str, str]]
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a key service listens, and how long it may take."""

    provider: str
    """The provider's name, for errors."""
    url: str
    """`https://HOST[:PORT]` without a path; `http://` for loopback addresses only."""
    ca_file: str = ""
    """PEM file or systemd credential of the authorities to trust instead of the system's; empty for the system's."""
    timeout_s: float = 5.0
    """For one call as a whole, repetitions included."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and the JSON object of the body; empty where the body is none."""

    status: int
    content: Json


class KeyService:
    """Calls of one endpoint. Close it when done."""

    def __init__(self, endpoint: Endpoint, environment: Mapping[str, str]) -> None:
        """Nothing is connected yet. Blocking: reads the CA file.

        Raises:
            ConfigurationError: the URL or the CA file cannot be used.
        """
        # Here and not above: most stores have no such provider, and the import costs a tenth of a second.
        import httpx

        self._endpoint = endpoint
        self._base = checked_url(endpoint.url, f"keys.providers.{endpoint.provider}")
        self._client: httpx.Client = httpx.Client(
            verify=_context(endpoint, environment),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        )

    @property
    def host(self) -> str:
        """Host and port as the Host header says them."""
        return urlsplit(self._base).netloc

    def call(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Callable[[], Headers],
        *,
        repeat: bool = True,
        is_passing: Callable[[Answer], bool] = lambda answer: False,
    ) -> Answer:
        """Send a request and read the answer, whatever its status. Blocks, `timeout_s` at most.

        Args:
            path: begins with a slash, percent-encoded.
            headers: asked for at each attempt, because signatures have a time.
            repeat: False where a second execution would do more than the first; then only a connection that could not
                be made is tried again.
            is_passing: whether an answer below 500 may be another one at the next attempt.

        Raises:
            KeyProviderUnavailable: no answer, or only failures, within the time; or an answer that is a redirect, too
                long, or not JSON.
        """
        import httpx

        deadline = time.monotonic() + self._endpoint.timeout_s
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                answer = self._attempt(method, path, body, headers(), deadline)
                if last or not repeat or not (answer.status in _PASSING or is_passing(answer)):
                    return answer
            except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
                may_repeat = repeat or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if last or not may_repeat:
                    raise self._unavailable(_told(error)) from None
            # Jitter, so that workers that failed together do not come back together.
            pause = pause_s * (0.5 + random.random())
            if time.monotonic() + pause >= deadline:
                raise self._unavailable(f"no answer within {self._endpoint.timeout_s:g} s")
            time.sleep(pause)
            pause_s *= 2
        raise self._unavailable("no attempt was made")

    def close(self) -> None:
        """Close the connections. May be repeated."""
        self._client.close()

    def _attempt(self, method: str, path: str, body: bytes, headers: Headers, deadline: float) -> Answer:
        import httpx

        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise self._unavailable(f"no answer within {self._endpoint.timeout_s:g} s")
        received = bytearray()
        with self._client.stream(
            method, self._base + path, content=body, headers=list(headers), timeout=httpx.Timeout(left_s)
        ) as response:
            if response.has_redirect_location or 300 <= response.status_code < 400:
                raise self._unavailable(f"status {response.status_code}: redirects are not followed")
            for piece in response.iter_bytes():
                received += piece
                if len(received) > LONGEST_ANSWER_BYTES:
                    raise self._unavailable(f"an answer of more than {LONGEST_ANSWER_BYTES} bytes")
                # The client's own timeout is for each read: a peer that drips would never meet it.
                if time.monotonic() >= deadline:
                    raise self._unavailable(f"no answer within {self._endpoint.timeout_s:g} s")
        return Answer(response.status_code, self._parsed(bytes(received), response.status_code))

    def _parsed(self, raw: bytes, status: int) -> Json:
        if not raw.strip():
            return {}
        try:
            return msgspec.json.decode(raw, type=Json)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            if status >= 400:  # a proxy's page; the status says enough
                return {}
            raise self._unavailable(f"status {status} with a body that is not a JSON object") from None

    def _unavailable(self, reason: str) -> KeyProviderUnavailable:
        return KeyProviderUnavailable(provider=self._endpoint.provider, reason=f"{self._base}: {reason}")


def checked_url(url: str, setting: str) -> str:
    """The URL without a slash at its end.

    Raises:
        ConfigurationError: not http(s), with a path, query, or user, or plain HTTP to anything but a loopback address.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigurationError(source=setting, key="url", reason=f"{url!r}: {error}") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ConfigurationError(source=setting, key="url", reason=f"{url!r} is not https://HOST or https://HOST:PORT")
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(source=setting, key="url", reason=f"{url!r}: only scheme, host and port belong here")
    if parts.scheme == "http" and not _is_loopback(host):
        reason = f"{url!r} would carry keys in the clear; use https (plain http is for loopback addresses)"
        raise ConfigurationError(source=setting, key="url", reason=reason)
    return f"{parts.scheme}://{parts.netloc}"


def check_seconds(source: str, key: str, value: float) -> None:
    """Raises ConfigurationError unless `value` is a time that a request can wait for."""
    if not 0.05 <= value <= 60:
        raise ConfigurationError(source=source, key=key, reason=f"{value:g} is not between 0.05 and 60 seconds")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _context(endpoint: Endpoint, environment: Mapping[str, str]) -> ssl.SSLContext:
    path = credential_path(endpoint.ca_file, environment) if endpoint.ca_file else None
    try:
        context = ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        setting = f"keys.providers.{endpoint.provider}"
        reason = f"cannot use {path}: {error}"
        raise ConfigurationError(source=setting, key="ca_file", reason=reason) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _told(error: Exception) -> str:
    """The error in a few words; its text never holds headers or bodies."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
