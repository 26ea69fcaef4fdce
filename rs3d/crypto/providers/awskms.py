"""Keys in AWS KMS, or in whatever speaks its JSON protocol: the service wraps and unwraps, its keys never leave it.

    wrapped = format 01 | CiphertextBlob

Requests are signed with SigV4. The context travels as the encryption context `rs3d`, which the service authenticates
(and writes into its audit log: it holds digests, nothing of the client's). Source: AWS KMS API reference; AWS JSON 1.1
protocol.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from rs3d.access.signing import SigningIdentity, sign_request
from rs3d.clock import NANOSECONDS_PER_SECOND, Clock, SystemClock
from rs3d.crypto.providers.keyservice import Answer, Endpoint, Headers, KeyService, check_seconds, checked_url
from rs3d.crypto.providers.protocol import KEY_ID_LIMIT_CHARACTERS, KeyDescription
from rs3d.crypto.providers.surroundings import Surroundings
from rs3d.crypto.secretfiles import read_secret_file
from rs3d.errors import (
    ConfigurationError,
    KeyAccessDenied,
    KeyDisabled,
    KeyNotFound,
    KeyProviderUnavailable,
    NotImplementedHere,
    RecordDamaged,
)

FORMAT: Final = 1
_SERVICE: Final = "kms"
_TARGET: Final = "TrentService."
_CONTEXT_NAME: Final = "rs3d"
_REGION: Final = re.compile(r"[a-z0-9-]{1,32}\Z", re.ASCII)
_KEY_ID: Final = re.compile(rf"[A-Za-z0-9:/_-]{{1,{KEY_ID_LIMIT_CHARACTERS}}}\Z", re.ASCII)
_PAGE_KEYS: Final = 1000

_NOT_THERE: Final = frozenset(("NotFoundException", "InvalidArnException"))
_NOT_USABLE: Final = frozenset(("DisabledException", "KMSInvalidStateException", "InvalidKeyUsageException"))
_DAMAGED: Final = frozenset(("InvalidCiphertextException", "IncorrectKeyException"))
_DENIED: Final = frozenset(
    (
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorizedException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    )
)
_PASSING: Final = frozenset(
    (
        "DependencyTimeoutException",
        "KMSInternalException",
        "KeyUnavailableException",
        "LimitExceededException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKmsSettings:
    """`[keys.providers.NAME]` with `type = "aws-kms"`."""

    region: str
    """Region of the keys, which is part of the signature."""
    credentials_file: str
    """File (0600) or systemd credential with `access_key = …`, `secret_key = …` and, for temporary ones,
    `session_token = …`; read at every call, so that they may be replaced."""
    url: str = ""
    """Another endpoint than AWS's for the region: `https://HOST:PORT`; `http://` for loopback addresses only."""
    ca_file: str = ""
    """PEM file of the authorities that vouch for the service; empty for the system's."""
    timeout_s: float = 5.0
    """For one call as a whole, repetitions included."""

    def __post_init__(self) -> None:
        if _REGION.match(self.region) is None:
            raise ConfigurationError(source="aws-kms", key="region", reason=f"{self.region!r} is no region")
        if not self.credentials_file:
            raise ConfigurationError(source="aws-kms", key="credentials_file", reason="must be set")
        checked_url(self.endpoint_url(), "aws-kms")
        check_seconds("aws-kms", "timeout_s", self.timeout_s)

    def endpoint_url(self) -> str:
        """The configured endpoint, or AWS's own for the region."""
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return self.url or f"https://kms.{self.region}.{suffix}"


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """What requests are signed with."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


class _Key(msgspec.Struct, frozen=True, rename="pascal"):
    """KeyMetadata."""

    key_id: str
    arn: str
    key_state: str = "Enabled"
    key_usage: str = "ENCRYPT_DECRYPT"
    key_spec: str = "SYMMETRIC_DEFAULT"
    creation_date: float = 0.0


class AwsKmsProvider:
    """`KeyProvider` by the KMS protocol. Blocks in every call but `close`; for threads."""

    kind = "aws-kms"
    is_remote = True

    def __init__(
        self, name: str, settings: AwsKmsSettings, environment: Mapping[str, str], clock: Clock | None = None
    ) -> None:
        """Speaks to nobody yet.

        Raises:
            ConfigurationError: the CA file cannot be used.
        """
        self.name = name
        endpoint = Endpoint(name, settings.endpoint_url(), settings.ca_file, settings.timeout_s)
        self._service = KeyService(endpoint, environment)
        self._region = settings.region
        self._credentials_file = settings.credentials_file
        self._environment = environment
        self._clock = clock or SystemClock()

    # -- KeyProvider -------------------------------------------------------------------------------------------------

    def check(self) -> str:
        self._call("ListKeys", "*", {"Limit": 1})
        return f"region {self._region} at {self._service.host}"

    def describe(self, key_id: str) -> KeyDescription:
        content = self._call("DescribeKey", key_id, {"KeyId": self._checked(key_id)})
        try:
            key = msgspec.convert(content.get("KeyMetadata"), _Key)
        except msgspec.ValidationError as error:
            raise self._senseless(f"a key that {error}") from None
        is_sealing = key.key_usage == "ENCRYPT_DECRYPT" and key.key_spec == "SYMMETRIC_DEFAULT"
        return KeyDescription(
            key_id=key.key_id,
            canonical_id=key.arn,
            is_enabled=is_sealing and key.key_state == "Enabled",
            created_ns=int(key.creation_date) * NANOSECONDS_PER_SECOND,
        )

    def wrap(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
        fields = {"KeyId": self._checked(key_id), "Plaintext": _base64(plaintext), "EncryptionContext": _named(context)}
        return bytes((FORMAT,)) + self._bytes(self._call("Encrypt", key_id, fields), "CiphertextBlob")

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        checked = self._checked(key_id)
        if len(wrapped) < 2 or wrapped[0] != FORMAT:
            self.describe(key_id)  # which of the two is wrong matters to who reads the error: the key goes first
            raise _damaged(key_id, f"{len(wrapped)} bytes that are no wrapped key of format {FORMAT}")
        fields = {"KeyId": checked, "CiphertextBlob": _base64(wrapped[1:]), "EncryptionContext": _named(context)}
        return self._bytes(self._call("Decrypt", key_id, fields), "Plaintext")

    def rotate(self, key_id: str) -> KeyDescription:
        # The operation takes no alias.
        found = self.describe(key_id)
        self._call("RotateKeyOnDemand", key_id, {"KeyId": found.key_id}, repeat=False)
        return self.describe(found.key_id)

    def list_keys(self) -> list[KeyDescription]:
        names: list[str] = []
        marker: dict[str, object] = {}
        while True:
            content = self._call("ListKeys", "*", {"Limit": _PAGE_KEYS, **marker})
            page = content.get("Keys")
            if not isinstance(page, list):
                raise self._senseless("a list without keys")
            names += [str(key.get("KeyId")) for key in page if isinstance(key, dict)]
            following = content.get("NextMarker")
            if not content.get("Truncated") or not isinstance(following, str):
                break
            marker = {"Marker": following}
        return [self.describe(name) for name in sorted(names)]

    def close(self) -> None:
        self._service.close()

    # -- calls -------------------------------------------------------------------------------------------------------

    def _checked(self, key_id: str) -> str:
        if _KEY_ID.match(key_id) is None:
            raise KeyNotFound(provider=self.name, key_id=key_id)
        return key_id

    def _call(
        self, operation: str, key_id: str, fields: Mapping[str, object], *, repeat: bool = True
    ) -> dict[str, object]:
        body = msgspec.json.encode(fields)
        credentials = self._credentials()

        def headers() -> Headers:
            return self._signed(operation, body, credentials)

        answer = self._service.call("POST", "/", body, headers, repeat=repeat, is_passing=_is_passing)
        if answer.status == 200:
            return answer.content
        raise self._refusal(operation, answer, key_id)

    def _signed(self, operation: str, body: bytes, credentials: AwsCredentials) -> Headers:
        headers = [
            (b"host", self._service.host.encode("ascii")),
            (b"content-type", b"application/x-amz-json-1.1"),
            (b"x-amz-target", f"{_TARGET}{operation}".encode()),
        ]
        if credentials.session_token:
            headers.append((b"x-amz-security-token", credentials.session_token.encode("ascii")))
        signed = sign_request(
            SigningIdentity(credentials.access_key, credentials.secret_key, self._region, _SERVICE),
            "POST",
            b"/",
            headers,
            payload_hash=hashlib.sha256(body).hexdigest(),
            now_ns=self._clock.wall_ns(),
        )
        return [(name.decode("ascii"), value.decode("ascii")) for name, value in signed.headers]

    def _credentials(self) -> AwsCredentials:
        setting = f"keys.providers.{self.name}.credentials_file"
        try:
            secret = read_secret_file(self._credentials_file, setting, self._environment)
            try:
                return parse_credentials(secret.reveal().decode("ascii"), self._credentials_file, setting)
            finally:
                secret.wipe()
        except UnicodeDecodeError:
            reason = f"{self._credentials_file}: {setting}: it is not ASCII"
        except ConfigurationError as error:
            reason = str(error)
        raise KeyAccessDenied(provider=self.name, key_id="*", reason=reason)

    def _bytes(self, content: Mapping[str, object], name: str) -> bytes:
        value = content.get(name)
        try:
            if isinstance(value, str) and value:
                return base64.b64decode(value, validate=True)
        except binascii.Error:
            pass
        raise self._senseless(f"no {name}")

    # -- errors ------------------------------------------------------------------------------------------------------

    def _refusal(self, operation: str, answer: Answer, key_id: str) -> Exception:
        kind, said = _kind(answer), _message(answer)
        if kind in _NOT_THERE:
            return KeyNotFound(provider=self.name, key_id=key_id)
        if kind in _NOT_USABLE:
            return KeyDisabled(provider=self.name, key_id=key_id, reason=_reason(kind, said))
        if kind in _DAMAGED:
            return _damaged(key_id, kind)
        if kind == "UnsupportedOperationException":
            return NotImplementedHere(what=f"{operation} for key {key_id!r} of key provider {self.name!r}")
        if kind in _DENIED or answer.status in (401, 403):
            reason = f"{operation}: {kind or answer.status}".strip()
            return KeyAccessDenied(provider=self.name, key_id=key_id, reason=reason)
        return KeyProviderUnavailable(provider=self.name, reason=f"{operation}: status {answer.status} {kind}".strip())

    def _senseless(self, what: str) -> KeyProviderUnavailable:
        return KeyProviderUnavailable(provider=self.name, reason=f"its answer makes no sense: {what}")


def open_aws_kms(name: str, settings: AwsKmsSettings, surroundings: Surroundings) -> AwsKmsProvider:
    """For the registry."""
    return AwsKmsProvider(name, settings, os.environ)


def parse_credentials(text: str, source: str, setting: str) -> AwsCredentials:
    """Credentials from a file's content.

    Raises:
        ConfigurationError: a line that is none of the three values, one twice, or one that lacks. Shows no value.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, value = (part.strip() for part in line.partition("="))
        if not separator or name not in ("access_key", "secret_key", "session_token") or name in values or not value:
            reason = "holds lines access_key = …, secret_key = … and at most session_token = …, each once"
            raise ConfigurationError(source=source, key=setting, reason=reason)
        values[name] = value
    if "access_key" not in values or "secret_key" not in values:
        raise ConfigurationError(source=source, key=setting, reason="lacks access_key or secret_key")
    return AwsCredentials(values["access_key"], values["secret_key"], values.get("session_token", ""))


def _is_passing(answer: Answer) -> bool:
    """Failures of the service that it reports with status 400."""
    return _kind(answer) in _PASSING


def _kind(answer: Answer) -> str:
    """The error's name; services write it with or without a namespace and a URL."""
    value = answer.content.get("__type")
    return value.rpartition("#")[2].partition(":")[0] if isinstance(value, str) else ""


def _message(answer: Answer) -> str:
    value = answer.content.get("message") or answer.content.get("Message")
    return value if isinstance(value, str) else ""


def _reason(kind: str, said: str) -> str:
    if kind == "DisabledException":
        return "disabled"
    if kind == "InvalidKeyUsageException":
        return "of a kind that does not seal with a context"
    return "pending deletion" if "pending deletion" in said else f"in a state that forbids it ({kind})"


def _named(context: bytes) -> dict[str, str]:
    return {_CONTEXT_NAME: f"1:{_base64(context)}"}


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _damaged(key_id: str, reason: str) -> RecordDamaged:
    return RecordDamaged(what=f"a data key wrapped by {key_id!r}", reason=reason)
