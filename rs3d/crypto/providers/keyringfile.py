"""The content of a keyring's file: named keys with their versions, opened, changed and sealed again.

    content (msgpack) = {"keys": [{"name", "enabled", "created_ns", "imported", "versions": [[made_ns, 32 bytes], …]}]}

sealed as a whole, so that names, states and order cannot be changed either. Under the master key it is a sealed secret
with the purpose `keyring`; under a passphrase it is `version 1 | nonce 12 | AES-256-GCM` with scrypt's key, AAD
`rs3d keyring v1`. Blocking where it says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt as ScryptFunction

from rs3d.crypto.providers.surroundings import Sealing
from rs3d.crypto.secret import Secret
from rs3d.errors import MasterKeyWrong, RecordDamaged
from rs3d.format.keyring import (
    BODY_LIMIT_BYTES,
    HEAD,
    MASTER_KEY,
    PASSPHRASE,
    SCRYPT_SALT_BYTES,
    KeyringFile,
    Scrypt,
    decode_keyring_file,
    encode_keyring_file,
)

FILE_LIMIT_BYTES: Final = HEAD.size + BODY_LIMIT_BYTES
KEY_BYTES: Final = 32
_PURPOSE: Final = "keyring"
_AAD: Final = b"rs3d keyring v1"
_SEALED_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12


class NamedKey(msgspec.Struct, kw_only=True, frozen=True):
    """One key with all its versions, the newest last; version n is at n - 1. Its repr holds no key."""

    name: str
    enabled: bool
    created_ns: int
    imported: bool = False
    versions: list[tuple[int, bytes]]

    def __repr__(self) -> str:
        return f"NamedKey({self.name!r}, {len(self.versions)} versions)"


class _Content(msgspec.Struct, kw_only=True):
    keys: list[NamedKey]


class Protection(Protocol):
    """How the content is sealed."""

    def close_file(self, content: bytes) -> KeyringFile: ...

    def open_file(self, file: KeyringFile, what: str) -> bytes:
        """Raises MasterKeyWrong or RecordDamaged."""
        ...


@dataclass(frozen=True, slots=True)
class UnderMasterKey:
    """Sealed like any other secret of the store."""

    sealer: Sealing

    def close_file(self, content: bytes) -> KeyringFile:
        return KeyringFile(MASTER_KEY, self.sealer.seal(_PURPOSE, b"", content))

    def open_file(self, file: KeyringFile, what: str) -> bytes:
        if file.protection != MASTER_KEY:
            raise MasterKeyWrong(source=what, reason="the keyring is protected by a passphrase: set passphrase_file")
        return self.sealer.unseal(_PURPOSE, b"", file.sealed)


COST: Final = Scrypt(b"", n=1 << 15, r=8, p=3)
"""32 MiB and some 0.2 s, once a process: OWASP's recommendation of 2024 among those with less memory."""


class UnderPassphrase:
    """Sealed under scrypt of a passphrase. The derived key is kept, so that only another salt costs anew."""

    def __init__(self, passphrase: Secret, cost: Scrypt = COST) -> None:
        self._passphrase = passphrase
        self._scrypt = replace(cost, salt=os.urandom(SCRYPT_SALT_BYTES))
        self._derived: tuple[Scrypt, AESGCM] | None = None

    def close_file(self, content: bytes) -> KeyringFile:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _SEALED_VERSION + nonce + self._cipher(self._scrypt).encrypt(nonce, content, _AAD)
        return KeyringFile(PASSPHRASE, sealed, self._scrypt)

    def open_file(self, file: KeyringFile, what: str) -> bytes:
        if file.protection != PASSPHRASE or file.scrypt is None:
            raise MasterKeyWrong(source=what, reason="the keyring is protected by the master key: no passphrase_file")
        self._scrypt = file.scrypt
        version, nonce, sealed = file.sealed[:1], file.sealed[1 : 1 + _NONCE_BYTES], file.sealed[1 + _NONCE_BYTES :]
        if version != _SEALED_VERSION or len(nonce) != _NONCE_BYTES:
            raise RecordDamaged(what=what, reason="its content is not sealed as version 1")
        try:
            return self._cipher(file.scrypt).decrypt(nonce, sealed, _AAD)
        except InvalidTag:
            raise MasterKeyWrong(source=what, reason="the passphrase does not open it, or it was changed") from None

    def _cipher(self, wanted: Scrypt) -> AESGCM:
        if self._derived is None or self._derived[0] != wanted:
            made = ScryptFunction(salt=wanted.salt, length=KEY_BYTES, n=wanted.n, r=wanted.r, p=wanted.p)
            self._derived = wanted, AESGCM(made.derive(self._passphrase.reveal()))
        return self._derived[1]


def encode_keyring(keys: dict[str, NamedKey], protection: Protection) -> bytes:
    """The whole file."""
    content = msgspec.msgpack.encode(_Content(keys=[keys[name] for name in sorted(keys)]))
    return encode_keyring_file(protection.close_file(content))


def decode_keyring(raw: bytes, protection: Protection, *, what: str) -> dict[str, NamedKey]:
    """The keys by name.

    Raises:
        RecordDamaged, FormatUnknown: the file is not what was written.
        MasterKeyWrong: another master key or passphrase opens it.
    """
    content = protection.open_file(decode_keyring_file(raw, what=what), what)
    try:
        keys = msgspec.msgpack.decode(content, type=_Content).keys
    except (msgspec.MsgspecError, ValueError):
        raise RecordDamaged(what=what, reason="its content is not a list of keys") from None
    for key in keys:
        if not key.versions or any(len(raw_key) != KEY_BYTES for _, raw_key in key.versions):
            raise RecordDamaged(what=what, reason=f"key {key.name!r} has no version, or one that is no key")
    return {key.name: key for key in keys}
