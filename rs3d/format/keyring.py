"""The keyring's file: a head, how its content is protected, and the sealed content. FORMAT.md section "Keyring".

What the content says is secret as a whole, so this module only knows its frame; `crypto/providers/keyringfile.py` opens
it. Nothing here blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from rs3d.errors import FormatUnknown, RecordDamaged
from rs3d.format.framedfile import HEAD as HEAD
from rs3d.format.framedfile import FileKind, decode_framed, encode_framed

MAGIC: Final = b"rs3dkeyr"
BODY_LIMIT_BYTES: Final = 4 * 1024 * 1024
_KIND: Final = FileKind(name="keyring", magic=MAGIC, major=1, minor=0, body_limit_bytes=BODY_LIMIT_BYTES)

MASTER_KEY: Final = "master-key"
"""The content is a secret sealed under the store's master key."""
PASSPHRASE: Final = "passphrase"
"""The content is sealed under a key that scrypt makes of a passphrase."""

SCRYPT_SALT_BYTES: Final = 16
_SCRYPT_LIMITS: Final = {"n": 1 << 20, "r": 32, "p": 16}
"""Most that a file may ask for: 4 GiB of memory would be asked for by a forged one otherwise."""


@dataclass(frozen=True, slots=True)
class Scrypt:
    """How a passphrase becomes a key (RFC 7914)."""

    salt: bytes
    n: int
    r: int
    p: int


@dataclass(frozen=True, slots=True)
class KeyringFile:
    """What the file holds. `scrypt` exactly for protection by a passphrase."""

    protection: str
    sealed: bytes
    scrypt: Scrypt | None = None


class _Body(msgspec.Struct, kw_only=True):
    protection: str
    sealed: bytes
    salt: bytes = b""
    n: int = 0
    r: int = 0
    p: int = 0


def encode_keyring_file(file: KeyringFile) -> bytes:
    """The whole file. Raises ValueError when it would be longer than BODY_LIMIT_BYTES."""
    fields = _Body(protection=file.protection, sealed=file.sealed)
    if file.scrypt is not None:
        fields.salt, fields.n, fields.r, fields.p = file.scrypt.salt, file.scrypt.n, file.scrypt.r, file.scrypt.p
    return encode_framed(_KIND, fields)


def decode_keyring_file(raw: bytes, *, what: str) -> KeyringFile:
    """The reverse of `encode_keyring_file`; `what` names the file in errors.

    Raises:
        RecordDamaged: too short or long, another kind of file, a wrong CRC, not these fields, or scrypt beyond bounds.
        FormatUnknown: a later major version, or a protection that this version lacks.
    """
    fields = decode_framed(_KIND, raw, _Body, what=what)
    if fields.protection == MASTER_KEY:
        return KeyringFile(MASTER_KEY, fields.sealed)
    if fields.protection != PASSPHRASE:
        raise FormatUnknown(what=what, reason=f"protection {fields.protection!r}, which this rs3d lacks")
    for name, most in _SCRYPT_LIMITS.items():
        value = getattr(fields, name)
        if not 1 <= value <= most or (name == "n" and value & (value - 1)):
            raise RecordDamaged(what=what, reason=f"scrypt {name} = {value}")
    if len(fields.salt) != SCRYPT_SALT_BYTES:
        raise RecordDamaged(what=what, reason=f"a salt of {len(fields.salt)} bytes")
    return KeyringFile(PASSPHRASE, fields.sealed, Scrypt(fields.salt, fields.n, fields.r, fields.p))
