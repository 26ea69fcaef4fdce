"""The keyring's file: a head, how its content is protected, and the sealed content. FORMAT.md section "Keyring".

What the content says is secret as a whole, so this module only knows its frame; `crypto/providers/keyringfile.py` opens
it. Nothing here blocks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import msgspec

from rs3d.errors import FormatUnknown, RecordDamaged
from rs3d.kernels.crc import crc32c

MAGIC: Final = b"rs3dkeyr"
MAJOR: Final = 1
MINOR: Final = 0
HEAD: Final = struct.Struct(">8sHHIII")
CRC_BYTES: Final = 4
BODY_LIMIT_BYTES: Final = 4 * 1024 * 1024

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
    """The whole file."""
    fields = _Body(protection=file.protection, sealed=file.sealed)
    if file.scrypt is not None:
        fields.salt, fields.n, fields.r, fields.p = file.scrypt.salt, file.scrypt.n, file.scrypt.r, file.scrypt.p
    body = msgspec.msgpack.encode(fields)
    if len(body) > BODY_LIMIT_BYTES:
        raise ValueError(f"a keyring of {len(body)} bytes; the most is {BODY_LIMIT_BYTES}")
    front = HEAD.pack(MAGIC, MAJOR, MINOR, len(body), crc32c(body), 0)[:-CRC_BYTES]
    return front + crc32c(front).to_bytes(CRC_BYTES, "big") + body


def decode_keyring_file(raw: bytes, *, what: str) -> KeyringFile:
    """The reverse of `encode_keyring_file`; `what` names the file in errors.

    Raises:
        RecordDamaged: too short or long, another kind of file, a wrong CRC, not these fields, or scrypt beyond bounds.
        FormatUnknown: a later major version, or a protection that this version lacks.
    """
    if len(raw) < HEAD.size:
        raise RecordDamaged(what=what, reason=f"{len(raw)} bytes are too few for a keyring")
    magic, major, minor, body_bytes, body_crc, head_crc = HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise RecordDamaged(what=what, reason=f"offset 0: magic {magic!r} is not that of a keyring")
    if crc32c(raw[: HEAD.size - CRC_BYTES]) != head_crc:
        raise RecordDamaged(what=what, reason="head: the CRC32C differs")
    if major != MAJOR:
        raise FormatUnknown(what=what, reason=f"keyring version {major}.{minor}; this rs3d reads {MAJOR}.x")
    body = raw[HEAD.size :]
    if body_bytes > BODY_LIMIT_BYTES or len(body) != body_bytes or crc32c(body) != body_crc:
        raise RecordDamaged(what=what, reason=f"body: {len(body)} bytes of {body_bytes}, or its CRC32C differs")
    try:
        fields = msgspec.msgpack.decode(body, type=_Body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordDamaged(what=what, reason=f"body: {error}") from None
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
