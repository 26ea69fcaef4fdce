"""Small files that are read and replaced as a whole: a head with two CRCs, and a msgpack body. FORMAT.md sections
"store.meta" and "Keyring". Nothing here blocks."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from rs3d.errors import FormatUnknown, RecordDamaged
from rs3d.kernels.crc import crc32c

HEAD: Final = struct.Struct(">8sHHIII")
"""magic, major, minor, body bytes, body crc, head crc."""
CRC_BYTES: Final = 4

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class FileKind:
    """What tells one kind of such a file from another."""

    name: str
    magic: bytes
    major: int
    minor: int
    body_limit_bytes: int


def encode_framed(kind: FileKind, fields: msgspec.Struct) -> bytes:
    """The whole file.

    Raises:
        ValueError: its body would be too long.
    """
    body = msgspec.msgpack.encode(fields)
    if len(body) > kind.body_limit_bytes:
        raise ValueError(f"a {kind.name} of {len(body)} bytes; the most is {kind.body_limit_bytes}")
    front = HEAD.pack(kind.magic, kind.major, kind.minor, len(body), crc32c(body), 0)[:-CRC_BYTES]
    return front + crc32c(front).to_bytes(CRC_BYTES, "big") + body


def decode_framed(kind: FileKind, raw: bytes, fields: type[T], *, what: str) -> T:
    """The body's fields; `what` names the file in errors.

    Raises:
        RecordDamaged: too short or long, another kind of file, a wrong CRC, or not these fields.
        FormatUnknown: a later major version.
    """
    if len(raw) < HEAD.size:
        raise RecordDamaged(what=what, reason=f"{len(raw)} bytes are too few for a {kind.name}")
    magic, major, minor, body_bytes, body_crc, head_crc = HEAD.unpack_from(raw)
    if magic != kind.magic:
        raise RecordDamaged(what=what, reason=f"offset 0: magic {magic!r} is not that of a {kind.name}")
    if crc32c(raw[: HEAD.size - CRC_BYTES]) != head_crc:
        raise RecordDamaged(what=what, reason="head: the CRC32C differs")
    if major != kind.major:
        reason = f"{kind.name} version {major}.{minor}; this rs3d reads {kind.major}.x"
        raise FormatUnknown(what=what, reason=reason)
    body = raw[HEAD.size :]
    if body_bytes > kind.body_limit_bytes or len(body) != body_bytes or crc32c(body) != body_crc:
        raise RecordDamaged(what=what, reason=f"body: {len(body)} bytes of {body_bytes}, or its CRC32C differs")
    try:
        return msgspec.msgpack.decode(body, type=fields)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordDamaged(what=what, reason=f"body: {error}") from None
