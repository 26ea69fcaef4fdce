"""The local keyring: keys in one private file beside the store, shared by all its processes.

    wrapped = 01 | version of the key u32 | nonce 12 | ciphertext | tag 16          (AES-256-GCM, random nonce)
    AAD     = "rs3d keyring wrap v1" | u32 length | name | version u32 | context

Every process looks at the file's identity before each use, so a key that one of them disables is disabled in all with
the next call. Random nonces are safe for 2^32 wraps of one version (NIST SP 800-38D, 8.3): rotate a key before. Calls
read a file of a few kilobytes at most, and only when it was replaced.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rs3d.crypto.privatefiles import locked, read_private, replace_private
from rs3d.crypto.providers.keyringfile import (
    FILE_LIMIT_BYTES,
    KEY_BYTES,
    NamedKey,
    Protection,
    UnderMasterKey,
    UnderPassphrase,
    decode_keyring,
    encode_keyring,
)
from rs3d.crypto.providers.protocol import KeyDescription
from rs3d.crypto.providers.surroundings import Surroundings
from rs3d.crypto.rotatingsealer import sealed_under
from rs3d.crypto.secret import Secret
from rs3d.errors import (
    ConfigurationError,
    InvalidArgument,
    KeyDisabled,
    KeyExists,
    KeyNotFound,
    KeyProviderUnavailable,
    MasterKeyWrong,
    RecordDamaged,
)
from rs3d.format.keyring import MASTER_KEY, decode_keyring_file

FILE_NAME: Final = "keyring"
"""In the store's directory, unless the configuration names another place."""
ACCOUNT: Final = "000000000000"
"""Stands for the account in canonical ids: there is none."""

_NAME = re.compile(r"(?!alias/)[A-Za-z0-9][A-Za-z0-9_.=+@/-]{0,127}\Z", re.ASCII)
_KEYS_LIMIT: Final = 4096
_VERSIONS_LIMIT: Final = 1000
_LABEL: Final = b"rs3d keyring wrap v1"
WRAPPED_HEAD: Final = struct.Struct(">BI12s")
"""In front of what a key wrapped. FORMAT.md section 8.1."""
_WRAPPED_VERSION: Final = 1
_PASSPHRASE_LIMIT_BYTES: Final = 1024
_PASSPHRASE_LEAST_BYTES: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyringSettings:
    """`type = "keyring"`: keys in a file of this machine."""

    file: Path | None = None
    """The file; default `keyring` in the storage root. Made with the first key. Mode 0600; without it, what its keys
    wrapped is lost: keep a copy."""
    passphrase_file: Path | None = None
    """A file (0600) or the name of a systemd credential with a passphrase that protects the keyring; without it the
    master key does."""

    def __post_init__(self) -> None:
        if self.file is not None and not self.file.is_absolute():
            raise ConfigurationError(source="keys.providers", key="file", reason="must be an absolute path")


def open_keyring(name: str, settings: KeyringSettings, surroundings: Surroundings) -> Keyring:
    """The keyring of a table of the configuration. Blocking.

    Raises:
        MasterKeyWrong: the passphrase cannot be read, or is shorter than 12 bytes.
    """
    protection: Protection = UnderMasterKey(surroundings.sealer)
    if settings.passphrase_file is not None:
        protection = UnderPassphrase(_read_passphrase(str(settings.passphrase_file)))
    path = str(settings.file) if settings.file is not None else os.path.join(surroundings.root, FILE_NAME)
    return Keyring(name, path, protection, surroundings.region)


def _read_passphrase(path: str) -> Secret:
    def refuse(reason: str) -> MasterKeyWrong:
        return MasterKeyWrong(source=path, reason=reason)

    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    is_credential = "/" not in path and directory is not None
    if is_credential:
        path = os.path.join(directory or "", path)
    raw = read_private(path, _PASSPHRASE_LIMIT_BYTES, refuse, any_mode=is_credential).rstrip(b"\r\n")
    if len(raw) < _PASSPHRASE_LEAST_BYTES:
        raise refuse(f"a passphrase of {len(raw)} bytes; the least is {_PASSPHRASE_LEAST_BYTES}")
    return Secret(raw)


class Keyring:
    """The keys of one file. A `KeyProvider` that also makes, imports, disables and enables keys."""

    kind = "keyring"
    is_remote = False

    def __init__(self, name: str, path: str, protection: Protection, region: str) -> None:
        """Reads nothing yet: a store opens while its keyring is away, and what needs it is refused."""
        self.name = name
        self.path = path
        self._protection = protection
        self._prefix = f"arn:aws:kms:{region}:{ACCOUNT}:"
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int, int, int], dict[str, NamedKey]] | None = None
        self._ciphers: dict[tuple[str, int], tuple[bytes, AESGCM]] = {}

    # -- the interface of providers ----------------------------------------------------------------------------------

    def check(self) -> str:
        return f"{len(self.list_keys())} keys in {self.path}"

    def describe(self, key_id: str) -> KeyDescription:
        return self._described(self._find(key_id))

    def wrap(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
        key = self._usable(key_id)
        version, nonce = len(key.versions), os.urandom(12)
        sealed = self._cipher(key, version).encrypt(nonce, plaintext, _aad(key.name, version, context))
        return WRAPPED_HEAD.pack(_WRAPPED_VERSION, version, nonce) + sealed

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        key = self._usable(key_id)
        what = f"data key wrapped by {key.name!r}"
        if len(wrapped) < WRAPPED_HEAD.size:
            raise RecordDamaged(what=what, reason=f"{len(wrapped)} bytes are too few")
        layout, version, nonce = WRAPPED_HEAD.unpack_from(wrapped)
        if layout != _WRAPPED_VERSION or not 1 <= version <= len(key.versions):
            raise RecordDamaged(what=what, reason=f"layout {layout}, key version {version} of {len(key.versions)}")
        try:
            return self._cipher(key, version).decrypt(
                nonce, wrapped[WRAPPED_HEAD.size :], _aad(key.name, version, context)
            )
        except InvalidTag:
            raise RecordDamaged(what=what, reason="it does not open: changed, or of another key or object") from None

    def rotate(self, key_id: str) -> KeyDescription:
        name = self._name_of(key_id)
        made = time.time_ns()

        def change(keys: dict[str, NamedKey]) -> None:
            key = self._in(keys, name)
            if key.imported:
                reason = "it was imported: import a key under another name, as its owner knows its bytes"
                raise InvalidArgument(name="key", value=name, reason=reason)
            if len(key.versions) >= _VERSIONS_LIMIT:
                raise InvalidArgument(name="key", value=name, reason=f"has {_VERSIONS_LIMIT} versions, the most")
            fresh = (made, os.urandom(KEY_BYTES))
            keys[name] = msgspec.structs.replace(key, versions=[*key.versions, fresh])

        return self._described(self._change(change)[name])

    def list_keys(self) -> list[KeyDescription]:
        keys = self._keys()
        return [self._described(keys[name]) for name in sorted(keys)]

    def close(self) -> None:
        with self._lock:
            self._ciphers.clear()
            self._read = None

    # -- keys of one's own -------------------------------------------------------------------------------------------

    def create(self, name: str, imported: bytes | None = None) -> KeyDescription:
        """Make a key, of random bytes or (BYOK) of `imported`. Durable when it returns. Blocking.

        Raises:
            InvalidArgument: the name or the bytes are no key's. KeyExists: it is there already.
            KeyProviderUnavailable: the file cannot be written.
        """
        if _NAME.match(name) is None:
            reason = "1 to 128 letters, digits and _ . = + @ / -, beginning with a letter or digit, not with alias/"
            raise InvalidArgument(name="key", value=name, reason=reason)
        if imported is not None and (len(imported) != KEY_BYTES or len(set(imported)) == 1):
            reason = f"an imported key has {KEY_BYTES} bytes that are not all alike; this has {len(imported)}"
            raise InvalidArgument(name="key", value=name, reason=reason)
        made = time.time_ns()

        def change(keys: dict[str, NamedKey]) -> None:
            if name in keys:
                raise KeyExists(provider=self.name, key_id=name)
            if len(keys) >= _KEYS_LIMIT:
                raise InvalidArgument(name="key", value=name, reason=f"the keyring holds {_KEYS_LIMIT}, the most")
            first = (made, os.urandom(KEY_BYTES) if imported is None else imported)
            keys[name] = NamedKey(
                name=name, enabled=True, created_ns=made, imported=imported is not None, versions=[first]
            )

        return self._described(self._change(change)[name])

    def make_if_missing(self, name: str) -> KeyDescription:
        """The key, made when there is none yet. Blocking.

        Raises: as `create`, but KeyExists.
        """
        try:
            return self.create(name)
        except KeyExists:
            return self.describe(name)

    def set_enabled(self, key_id: str, enabled: bool) -> KeyDescription:
        """Let a key be used, or no longer. Durable, and true in all processes, when it returns. Blocking.

        Raises:
            KeyNotFound, KeyProviderUnavailable
        """
        name = self._name_of(key_id)

        def change(keys: dict[str, NamedKey]) -> None:
            keys[name] = msgspec.structs.replace(self._in(keys, name), enabled=enabled)

        return self._described(self._change(change)[name])

    def check_file(self) -> None:
        """Read the file as it lies on the disk, whatever is known of it. Blocking.

        Raises:
            KeyProviderUnavailable, MasterKeyWrong, RecordDamaged
        """
        if os.path.lexists(self.path):
            self._load()

    def seal_again_if_older(self, key_id: bytes) -> bool:
        """Write the file anew where it is sealed under another master key than `key_id`, the current one. Blocking.

        Raises:
            KeyProviderUnavailable, MasterKeyWrong
        """
        if not os.path.lexists(self.path):
            return False
        file = decode_keyring_file(read_private(self.path, FILE_LIMIT_BYTES, self._unavailable), what=self.path)
        if file.protection != MASTER_KEY or sealed_under(file.sealed) == key_id:
            return False
        self._change(lambda keys: None)
        return True

    # -- the file ----------------------------------------------------------------------------------------------------

    def _keys(self) -> dict[str, NamedKey]:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unavailable(f"cannot be looked at: {error.strerror}") from None
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        with self._lock:
            if self._read is None or self._read[0] != identity:
                # Read after the look: a file replaced in between is read again with the next call.
                self._read = identity, self._load()
                self._ciphers.clear()
            return self._read[1]

    def _load(self) -> dict[str, NamedKey]:
        raw = read_private(self.path, FILE_LIMIT_BYTES, self._unavailable)
        return decode_keyring(raw, self._protection, what=self.path)

    def _change(self, change: Callable[[dict[str, NamedKey]], None]) -> dict[str, NamedKey]:
        try:
            with locked(self.path):
                keys = self._load() if os.path.lexists(self.path) else {}
                change(keys)
                replace_private(self.path, encode_keyring(keys, self._protection))
            return keys
        except OSError as error:
            raise self._unavailable(f"cannot be written: {error.strerror}") from error

    def _unavailable(self, reason: str) -> KeyProviderUnavailable:
        return KeyProviderUnavailable(provider=self.name, reason=f"{self.path} {reason}")

    # -- keys --------------------------------------------------------------------------------------------------------

    def _name_of(self, key_id: str) -> str:
        rest = key_id.removeprefix(self._prefix)
        if rest != key_id:
            return rest.removeprefix("key/").removeprefix("alias/")
        return key_id.removeprefix("alias/")

    def _find(self, key_id: str) -> NamedKey:
        found = self._keys().get(self._name_of(key_id))
        if found is None:
            raise KeyNotFound(provider=self.name, key_id=key_id)
        return found

    def _in(self, keys: dict[str, NamedKey], name: str) -> NamedKey:
        if name not in keys:
            raise KeyNotFound(provider=self.name, key_id=name)
        return keys[name]

    def _usable(self, key_id: str) -> NamedKey:
        key = self._find(key_id)
        if not key.enabled:
            raise KeyDisabled(provider=self.name, key_id=key_id)
        return key

    def _described(self, key: NamedKey) -> KeyDescription:
        canonical = f"{self._prefix}key/{key.name}"
        return KeyDescription(key.name, canonical, key.enabled, len(key.versions), key.created_ns)

    def _cipher(self, key: NamedKey, version: int) -> AESGCM:
        raw = key.versions[version - 1][1]
        found = self._ciphers.get((key.name, version))
        if found is None or found[0] is not raw:
            found = self._ciphers[key.name, version] = raw, AESGCM(raw)
        return found[1]


def _aad(name: str, version: int, context: bytes) -> bytes:
    encoded = name.encode()
    return _LABEL + struct.pack(">I", len(encoded)) + encoded + struct.pack(">I", version) + context


def parse_key_material(raw: bytes) -> bytes:
    """The 32 bytes of a key to import: as they are, as 64 hex digits, or as base64.

    Raises:
        InvalidArgument
    """
    if len(raw) == KEY_BYTES:
        return raw
    text = raw.strip()
    try:
        found = (
            bytes.fromhex(text.decode("ascii")) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
        )
    except (ValueError, binascii.Error):
        found = b""
    if len(found) != KEY_BYTES:
        reason = f"{len(raw)} bytes that are neither 32 raw bytes, 64 hex digits nor 32 bytes in base64"
        raise InvalidArgument(name="key material", value="", reason=reason)
    return found
