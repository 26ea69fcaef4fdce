"""Keys in a PKCS#11 token (an HSM, a smart card, SoftHSM): the token seals with AES-GCM, its keys never leave it.

    wrapped = format 01 | length of the CKA_ID | CKA_ID | nonce, 12 random bytes | ciphertext | tag, 16 bytes

A key is every AES secret key of one label; its versions are told apart by CKA_ID, read as a number, and the largest one
wraps. Rotation generates the next. One lock serialises all calls of a module: it is initialised without promises about
threads. Source: PKCS#11 v3.0 (CKM_AES_GCM, CKM_AES_KEY_GEN).

The package python-pkcs11 is imported at the first call; without it, and without the module, calls say so.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from rs3d.crypto.providers.hsmtoken import HsmToken
from rs3d.crypto.providers.protocol import KEY_ID_LIMIT_CHARACTERS, KeyDescription
from rs3d.crypto.providers.surroundings import Surroundings
from rs3d.errors import ConfigurationError, KeyDisabled, KeyNotFound, RecordDamaged

if TYPE_CHECKING:
    import pkcs11

FORMAT: Final = 1
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_ID_LIMIT_BYTES: Final = 64
WRAPPED_HEAD: Final = struct.Struct(">BB")
_LABEL: Final = b"rs3d data key v1\0"
_KEYS_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11Settings:
    """`[keys.providers.NAME]` with `type = "pkcs11"`."""

    module: str
    """Path of the vendor's PKCS#11 library."""
    token: str
    """Label of the token."""
    pin_file: str
    """File (0600) or systemd credential with the user's PIN."""

    def __post_init__(self) -> None:
        for key in ("module", "token", "pin_file"):
            if not getattr(self, key):
                raise ConfigurationError(source="pkcs11", key=key, reason="must be set")
        if not os.path.isabs(self.module):
            raise ConfigurationError(source="pkcs11", key="module", reason=f"{self.module!r} is not an absolute path")


class Pkcs11Provider:
    """`KeyProvider` by a token. Blocks in every call; for threads."""

    kind = "pkcs11"
    is_remote = True

    def __init__(self, name: str, settings: Pkcs11Settings, region: str, environment: Mapping[str, str]) -> None:
        """Loads nothing yet."""
        self.name = name
        self._token = HsmToken(name, settings.module, settings.token, settings.pin_file, environment)
        self._prefix = f"arn:aws:kms:{region}:{name}:key/"

    # -- KeyProvider -------------------------------------------------------------------------------------------------

    def check(self) -> str:
        def ask(session: pkcs11.Session) -> str:
            session.token.slot.get_token()  # fails where the token went away
            return f"token {session.token.label}, {session.token.model}"

        return self._token.run(ask)

    def describe(self, key_id: str) -> KeyDescription:
        label = self._label(key_id)
        return self._token.run(lambda session: self._description(label, self._versions(session, label, key_id)))

    def wrap(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
        label = self._label(key_id)

        def seal(session: pkcs11.Session) -> bytes:
            newest = self._newest(self._versions(session, label, key_id), key_id)
            nonce = os.urandom(_NONCE_BYTES)
            sealed = newest.key.encrypt(plaintext, mechanism=_gcm(), mechanism_param=_parameters(nonce, context))
            return WRAPPED_HEAD.pack(FORMAT, len(newest.id)) + newest.id + nonce + bytes(sealed)

        return self._token.run(seal)

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        label = self._label(key_id)

        def open_it(session: pkcs11.Session) -> bytes:
            versions = self._versions(session, label, key_id)
            identifier, nonce, sealed = _parse(wrapped, key_id)
            found = next((version for version in versions if version.id == identifier), None)
            if found is None:
                raise _damaged(key_id, f"the token has no version {identifier.hex()} of the key")
            self._require(found, key_id)
            return _decrypt(found.key, nonce, context, sealed, key_id)

        return self._token.run(open_it)

    def rotate(self, key_id: str) -> KeyDescription:
        label = self._label(key_id)

        def add(session: pkcs11.Session) -> KeyDescription:
            versions = self._versions(session, label, key_id)
            newest = self._newest(versions, key_id)
            make_version(session, label, newest.number + 1)
            return self._description(label, self._versions(session, label, key_id))

        return self._token.run(add, write=True)

    def list_keys(self) -> list[KeyDescription]:
        def find(session: pkcs11.Session) -> list[KeyDescription]:
            labels: dict[str, list[_Version]] = {}
            for version in _search(session, None):
                labels.setdefault(version.label, []).append(version)
            return [self._description(label, _sorted(labels[label])) for label in sorted(labels)]

        return self._token.run(find)

    def close(self) -> None:
        self._token.close()

    # -- keys --------------------------------------------------------------------------------------------------------

    def _label(self, key_id: str) -> str:
        label = key_id.removeprefix(self._prefix)
        if not label or len(label) > KEY_ID_LIMIT_CHARACTERS or not label.isprintable():
            raise KeyNotFound(provider=self.name, key_id=key_id)
        return label

    def _versions(self, session: pkcs11.Session, label: str, key_id: str) -> list[_Version]:
        found = _sorted(_search(session, label))
        if not found:
            # A token that went away may look like an empty one; this fails if it did.
            session.token.slot.get_token()
            raise KeyNotFound(provider=self.name, key_id=key_id)
        return found

    def _newest(self, versions: list[_Version], key_id: str) -> _Version:
        newest = versions[-1]
        if len(versions) > 1 and versions[-2].number == newest.number:
            reason = f"ambiguous: two objects of the token have the CKA_ID {newest.id.hex()}"
            raise KeyDisabled(provider=self.name, key_id=key_id, reason=reason)
        self._require(newest, key_id)
        return newest

    def _require(self, version: _Version, key_id: str) -> None:
        if not version.is_enabled:
            reason = "disabled (its CKA_ENCRYPT or CKA_DECRYPT is false)"
            raise KeyDisabled(provider=self.name, key_id=key_id, reason=reason)

    def _description(self, label: str, versions: list[_Version]) -> KeyDescription:
        return KeyDescription(label, self._prefix + label, versions[-1].is_enabled, len(versions))


class _SealingKey(Protocol):
    """What the package's classes of keys do, and its type stubs do not say."""

    def encrypt(self, data: bytes, *, mechanism: object, mechanism_param: object) -> bytes: ...

    def decrypt(self, data: bytes, *, mechanism: object, mechanism_param: object) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Version:
    """One AES key object of the token."""

    key: _SealingKey
    label: str
    id: bytes
    is_enabled: bool

    @property
    def number(self) -> int:
        return int.from_bytes(self.id, "big")


def open_pkcs11(name: str, settings: Pkcs11Settings, surroundings: Surroundings) -> Pkcs11Provider:
    """For the registry."""
    return Pkcs11Provider(name, settings, surroundings.region, os.environ)


def make_version(session: pkcs11.Session, label: str, number: int) -> None:
    """Generate an AES-256 key in the token that cannot leave it. The session must be writable."""
    from pkcs11 import Attribute, KeyType, MechanismFlag

    session.generate_key(
        KeyType.AES,
        256,
        id=number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big"),
        label=label,
        store=True,
        capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
        template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )


def _search(session: pkcs11.Session, label: str | None) -> list[_Version]:
    from pkcs11 import Attribute, KeyType, ObjectClass

    wanted: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES}
    if label is not None:
        wanted[Attribute.LABEL] = label
    found: list[_Version] = []
    for key in session.get_objects(wanted):
        identifier = bytes(key[Attribute.ID])
        if len(identifier) <= _ID_LIMIT_BYTES and len(found) < _KEYS_LIMIT:
            is_enabled = bool(key[Attribute.ENCRYPT]) and bool(key[Attribute.DECRYPT])
            found.append(_Version(cast("_SealingKey", key), str(key[Attribute.LABEL]), identifier, is_enabled))
    return found


def _sorted(versions: list[_Version]) -> list[_Version]:
    return sorted(versions, key=lambda version: version.number)


def _decrypt(key: _SealingKey, nonce: bytes, context: bytes, sealed: bytes, key_id: str) -> bytes:
    """The plaintext.

    Raises:
        RecordDamaged: it does not open although the key works.
        PKCS11Error: the key does not work either.
    """
    from pkcs11.exceptions import EncryptedDataInvalid, PKCS11Error

    try:
        return bytes(key.decrypt(sealed, mechanism=_gcm(), mechanism_param=_parameters(nonce, context)))
    except EncryptedDataInvalid:
        reason = "it does not open"
    except PKCS11Error as error:
        # Tokens have their own words for a wrong tag, some as vague as GeneralError: see whether something else opens.
        probe, probe_nonce = os.urandom(_TAG_BYTES), os.urandom(_NONCE_BYTES)
        parameters = _parameters(probe_nonce, b"")
        made = key.encrypt(probe, mechanism=_gcm(), mechanism_param=parameters)
        if bytes(key.decrypt(bytes(made), mechanism=_gcm(), mechanism_param=parameters)) != probe:
            raise
        reason = f"it does not open ({type(error).__name__})"
    raise _damaged(key_id, reason)


def _gcm() -> pkcs11.Mechanism:
    from pkcs11 import Mechanism

    return Mechanism.AES_GCM


def _parameters(nonce: bytes, context: bytes) -> pkcs11.GCMParams:
    from pkcs11 import GCMParams

    return GCMParams(nonce, aad=_LABEL + context, tag_bits=8 * _TAG_BYTES)


def _parse(wrapped: bytes, key_id: str) -> tuple[bytes, bytes, bytes]:
    """CKA_ID, nonce, and ciphertext with its tag."""
    if len(wrapped) < WRAPPED_HEAD.size or wrapped[0] != FORMAT:
        raise _damaged(key_id, f"{len(wrapped)} bytes that are no wrapped key of format {FORMAT}")
    body = wrapped[WRAPPED_HEAD.size :]
    identifier, rest = body[: wrapped[1]], body[wrapped[1] :]
    nonce, sealed = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
    if len(sealed) <= _TAG_BYTES:
        raise _damaged(key_id, f"it is cut to {len(wrapped)} bytes")
    return identifier, nonce, sealed


def _damaged(key_id: str, reason: str) -> RecordDamaged:
    return RecordDamaged(what=f"a data key wrapped by {key_id!r}", reason=reason)
