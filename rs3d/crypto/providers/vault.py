"""Keys in the transit engine of HashiCorp Vault or OpenBao: the service wraps and unwraps, its keys never leave it.

    wrapped = format 01 | key version, 4 bytes big-endian | the service's ciphertext
    what is sealed = format 01 | SHA-256 of the context | plaintext

The context goes along twice: as derivation context (keys with `derived = true`; the service ignores it for others) and
as associated data (AEAD keys; services older than the parameter ignore it). The digest inside makes the binding hold
whatever the service did with them. Source: the API documentation of the transit engine, of AppRole, and of tokens.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

import msgspec

from rs3d.clock import NANOSECONDS_PER_SECOND
from rs3d.crypto.providers.keyservice import Answer, Endpoint, KeyService, check_seconds, checked_url
from rs3d.crypto.providers.protocol import KeyDescription
from rs3d.crypto.providers.surroundings import Surroundings
from rs3d.crypto.providers.vaulttoken import TokenSource, check_sources
from rs3d.errors import (
    ConfigurationError,
    KeyAccessDenied,
    KeyDisabled,
    KeyNotFound,
    KeyProviderUnavailable,
    RecordDamaged,
)

FORMAT: Final = 1
WRAPPED_HEAD: Final = struct.Struct(">BI")
_DIGEST_BYTES: Final = 32
_LABEL: Final = b"rs3d data key v1\0"
"""Before every context: derivation needs one that is not empty."""
_NAME: Final = re.compile(r"\w(?:[\w.-]*\w)?\Z", re.ASCII)
"""What the engine allows as a key's name; anything else never reaches a URL."""
_MOUNT: Final = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*\Z", re.ASCII)
_CIPHERTEXT: Final = re.compile(r"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+=*)\Z", re.ASCII)
_SEALING_TYPES: Final = frozenset(("aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"))


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultSettings:
    """`[keys.providers.NAME]` with `type = "vault"`."""

    url: str
    """`https://HOST:PORT` of Vault or OpenBao; `http://` for loopback addresses only."""
    mount: str = "transit"
    """Where the transit engine is mounted."""
    namespace: str = ""
    """Namespace of the mount and of the login; empty for the root."""
    token_file: str = ""
    """File (0600) or systemd credential with a token; read again when the token is refused, so that an agent may
    renew it."""
    role_id: str = ""
    """AppRole to log in as, in place of a token; goes with secret_id_file."""
    secret_id_file: str = ""
    """File (0600) or systemd credential with the AppRole's secret id."""
    login_mount: str = "approle"
    """Where the AppRole method is mounted."""
    ca_file: str = ""
    """PEM file of the authorities that vouch for the service; empty for the system's."""
    timeout_s: float = 5.0
    """For one call as a whole, repetitions included."""

    def __post_init__(self) -> None:
        checked_url(self.url, "vault")
        check_seconds("vault", "timeout_s", self.timeout_s)
        for key, value in (("mount", self.mount), ("login_mount", self.login_mount)):
            if _MOUNT.match(value) is None:
                raise ConfigurationError(source="vault", key=key, reason=f"{value!r} is no path of a mount")
        if self.namespace and _MOUNT.match(self.namespace.strip("/")) is None:
            raise ConfigurationError(source="vault", key="namespace", reason=f"{self.namespace!r} is no namespace")
        check_sources(self.token_file, self.role_id, self.secret_id_file)


class _Key(msgspec.Struct, frozen=True):
    """What the engine tells of a key."""

    name: str
    type: str
    keys: dict[str, int | str | dict[str, object]] = {}
    latest_version: int = 1
    soft_deleted: bool = False
    supports_encryption: bool = True


class VaultProvider:
    """`KeyProvider` by a transit engine. Blocks in every call but `close`; for threads."""

    kind = "vault"
    is_remote = True

    def __init__(self, name: str, settings: VaultSettings, region: str, environment: Mapping[str, str]) -> None:
        """Speaks to nobody yet.

        Raises:
            ConfigurationError: the CA file cannot be used.
        """
        self.name = name
        self._prefix = f"arn:aws:kms:{region}:{name}:key/"
        endpoint = Endpoint(name, settings.url, settings.ca_file, settings.timeout_s)
        self._service = KeyService(endpoint, environment)
        self._mount = settings.mount
        self._namespace = settings.namespace.strip("/")
        self._token = TokenSource(name, settings.token_file, settings.role_id, settings.secret_id_file, environment)
        self._login_path = f"/v1/auth/{settings.login_mount}/login"

    # -- KeyProvider -------------------------------------------------------------------------------------------------

    def check(self) -> str:
        answer = self._call("GET", "auth/token/lookup-self")
        if answer.status >= 400:
            raise self._refusal(answer, "*")
        left_s = _data(answer).get("ttl")
        lasting = f"for {left_s} s" if isinstance(left_s, int) and left_s > 0 else "without end"
        return f"a token of {self._token.origin}, valid {lasting}"

    def describe(self, key_id: str) -> KeyDescription:
        return self._description(self._read(self._key_name(key_id), key_id))

    def wrap(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
        name = self._key_name(key_id)
        # Encrypting with the name of a key that is not there *makes* one, where the token's policy allows it.
        key = self._read(name, key_id)
        reason = _unusable(key)
        if reason:
            raise KeyDisabled(provider=self.name, key_id=key_id, reason=reason)
        sealed = bytes((FORMAT,)) + _digest(context) + plaintext
        content = self._operate("encrypt", name, key_id, {"plaintext": _base64(sealed), **_bound(context)})
        found = _CIPHERTEXT.match(_text(content, "ciphertext"))
        if found is None:
            raise self._senseless("an encryption without a ciphertext")
        return WRAPPED_HEAD.pack(FORMAT, int(found[1])) + base64.b64decode(found[2])

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        name = self._key_name(key_id)
        if len(wrapped) <= WRAPPED_HEAD.size or wrapped[0] != FORMAT:
            # Which of the two is wrong matters to who reads the error: the key goes first.
            self._read(name, key_id)
            raise _damaged(key_id, f"{len(wrapped)} bytes that are no wrapped key of format {FORMAT}")
        _, version = WRAPPED_HEAD.unpack_from(wrapped)
        ciphertext = f"vault:v{version}:{_base64(wrapped[WRAPPED_HEAD.size :])}"
        content = self._operate("decrypt", name, key_id, {"ciphertext": ciphertext, **_bound(context)})
        try:
            opened = base64.b64decode(_text(content, "plaintext"), validate=True)
        except binascii.Error:
            raise self._senseless("a decryption without a plaintext") from None
        head, plaintext = opened[: 1 + _DIGEST_BYTES], opened[1 + _DIGEST_BYTES :]
        if not hmac.compare_digest(head, bytes((FORMAT,)) + _digest(context)):
            raise _damaged(key_id, "it opens, but belongs to another context")
        return plaintext

    def rotate(self, key_id: str) -> KeyDescription:
        name = self._key_name(key_id)
        self._read(name, key_id)
        answer = self._call("POST", f"{self._mount}/keys/{name}/rotate", {}, repeat=False)
        if answer.status >= 400:
            raise self._refusal(answer, key_id)
        return self._description(self._read(name, key_id))

    def list_keys(self) -> list[KeyDescription]:
        answer = self._call("GET", f"{self._mount}/keys?list=true")
        if answer.status == 404:  # no key yet, or no such mount: the service does not tell which
            return []
        if answer.status >= 400:
            raise self._refusal(answer, "*")
        names = _data(answer).get("keys")
        if not isinstance(names, list):
            raise self._senseless("a list without keys")
        found = []
        for name in sorted(str(name) for name in names):
            try:
                found.append(self.describe(name))
            except (KeyNotFound, KeyAccessDenied):
                continue  # removed meanwhile, or not for this store
        return found

    def close(self) -> None:
        self._token.forget()
        self._service.close()

    # -- calls -------------------------------------------------------------------------------------------------------

    def _key_name(self, key_id: str) -> str:
        name = key_id.removeprefix(self._prefix)
        if _NAME.match(name) is None:
            raise KeyNotFound(provider=self.name, key_id=key_id)
        return name

    def _read(self, name: str, key_id: str) -> _Key:
        answer = self._call("GET", f"{self._mount}/keys/{name}")
        if answer.status >= 400:
            raise self._refusal(answer, key_id)
        try:
            return msgspec.convert(_data(answer), _Key)
        except msgspec.ValidationError as error:
            raise self._senseless(f"a key that {error}") from None

    def _description(self, key: _Key) -> KeyDescription:
        return KeyDescription(
            key_id=key.name,
            canonical_id=self._prefix + key.name,
            is_enabled=not _unusable(key),
            version=key.latest_version,
            created_ns=_created_ns(key),
        )

    def _operate(self, operation: str, name: str, key_id: str, fields: dict[str, str]) -> dict[str, object]:
        answer = self._call("POST", f"{self._mount}/{operation}/{name}", fields)
        if answer.status >= 400:
            raise self._refusal(answer, key_id)
        return _data(answer)

    def _call(self, method: str, path: str, fields: dict[str, str] | None = None, *, repeat: bool = True) -> Answer:
        """One request with a token. A token that is refused is got anew, once: it may have been replaced or expired."""
        token = self._token.current(self._log_in)
        answer = self._send(method, path, fields, token, repeat)
        if answer.status == 403 and not self._is_known(token):
            fresh = self._token.after_refusal(token, self._log_in)
            if fresh != token:
                answer = self._send(method, path, fields, fresh, repeat)
        return answer

    def _is_known(self, token: str) -> bool:
        """Whether the service knows the token, so that a refusal was its policy's word. Saves a login for each
        request that a policy refuses."""
        return self._send("GET", "auth/token/lookup-self", None, token, True).status == 200

    def _send(self, method: str, path: str, fields: dict[str, str] | None, token: str, repeat: bool) -> Answer:
        body = b"" if fields is None else msgspec.json.encode(fields)
        headers = [("X-Vault-Token", token), *self._common_headers()]
        answer = self._service.call(method, f"/v1/{quote(path, safe='/?=')}", body, lambda: headers, repeat=repeat)
        if answer.status >= 500 or answer.status == 429:
            raise self._unavailable(answer)
        return answer

    def _log_in(self, role_id: str, secret_id: str) -> tuple[str, int]:
        """A token by AppRole and how many seconds it lives (0 = for ever)."""
        body = msgspec.json.encode({"role_id": role_id, "secret_id": secret_id})
        answer = self._service.call("POST", self._login_path, body, self._common_headers)
        if answer.status >= 500 or answer.status == 429:
            raise self._unavailable(answer)
        auth = answer.content.get("auth")
        if answer.status >= 400 or not isinstance(auth, dict):
            reason = f"the login by AppRole is refused ({_errors(answer) or answer.status})"
            raise KeyAccessDenied(provider=self.name, key_id="*", reason=reason)
        token, lease_s = auth.get("client_token"), auth.get("lease_duration")
        if not isinstance(token, str) or not isinstance(lease_s, int):
            raise self._senseless("a login without a token")
        return token, lease_s

    def _common_headers(self) -> list[tuple[str, str]]:
        headers = [("X-Vault-Request", "true"), ("Content-Type", "application/json")]
        return [*headers, ("X-Vault-Namespace", self._namespace)] if self._namespace else headers

    # -- errors ------------------------------------------------------------------------------------------------------

    def _refusal(self, answer: Answer, key_id: str) -> Exception:
        said = _errors(answer)
        if answer.status == 404 or "encryption key not found" in said:
            return KeyNotFound(provider=self.name, key_id=key_id)
        if answer.status == 403:
            reason = f"permission denied with the token of {self._token.origin}"
            return KeyAccessDenied(provider=self.name, key_id=key_id, reason=reason)
        if "soft-deleted" in said:
            return KeyDisabled(provider=self.name, key_id=key_id, reason="soft-deleted")
        if "disallowed by policy" in said:
            return KeyDisabled(provider=self.name, key_id=key_id, reason="of a version below min_decryption_version")
        if answer.status == 400:
            return _damaged(key_id, said or "refused")
        return self._senseless(f"status {answer.status}")

    def _unavailable(self, answer: Answer) -> KeyProviderUnavailable:
        return KeyProviderUnavailable(provider=self.name, reason=f"status {answer.status} {_errors(answer)}".strip())

    def _senseless(self, what: str) -> KeyProviderUnavailable:
        return KeyProviderUnavailable(provider=self.name, reason=f"its answer makes no sense: {what}")


def open_vault(name: str, settings: VaultSettings, surroundings: Surroundings) -> VaultProvider:
    """For the registry."""
    return VaultProvider(name, settings, surroundings.region, os.environ)


def _unusable(key: _Key) -> str:
    """Why the key cannot wrap; empty when it can."""
    if key.soft_deleted:
        return "soft-deleted"
    if not key.supports_encryption or key.type not in _SEALING_TYPES:
        return f"of type {key.type}, which does not seal with a context"
    return ""


def _created_ns(key: _Key) -> int:
    """Of the first version that is left; 0 where the engine tells in no way that is known here."""
    first = key.keys.get(min(key.keys, key=int, default=""), 0)
    if isinstance(first, int):
        return first * NANOSECONDS_PER_SECOND
    try:
        return int(datetime.fromisoformat(str(first)).timestamp()) * NANOSECONDS_PER_SECOND
    except ValueError:
        return 0


def _bound(context: bytes) -> dict[str, str]:
    encoded = _base64(_LABEL + context)
    return {"context": encoded, "associated_data": encoded}


def _digest(context: bytes) -> bytes:
    return hashlib.sha256(_LABEL + context).digest()


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _data(answer: Answer) -> dict[str, object]:
    data = answer.content.get("data")
    return data if isinstance(data, dict) else {}


def _text(content: dict[str, object], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) else ""


def _errors(answer: Answer) -> str:
    """What the service says; its sentences hold neither keys nor tokens."""
    said = answer.content.get("errors")
    return "; ".join(str(text) for text in said)[:300] if isinstance(said, list) else ""


def _damaged(key_id: str, reason: str) -> RecordDamaged:
    return RecordDamaged(what=f"a data key wrapped by {key_id!r}", reason=reason)
