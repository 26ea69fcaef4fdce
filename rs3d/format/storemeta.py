"""`store.meta`: what makes a directory a store. FORMAT.md section "store.meta". Nothing here blocks."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import msgspec

from rs3d.errors import FormatUnknown, RecordDamaged
from rs3d.kernels.crc import crc32c

MAGIC: Final = b"rs3dstor"
MAJOR: Final = 1
MINOR: Final = 0
HEAD: Final = struct.Struct(">8sHHIII")
CRC_BYTES: Final = 4
BODY_LIMIT_BYTES: Final = 64 * 1024
STORE_ID_BYTES: Final = 16
KNOWN_FEATURES: Final[frozenset[str]] = frozenset()
"""Optional parts of the format that this version can read; a store that uses another is refused, naming it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMeta:
    """What store.meta says."""

    store_id: bytes
    """16 random bytes, in every log segment's header and in what is sealed under the master key."""
    created_ns: int
    map_bytes: int
    """Size of the catalog's map; changed offline only."""
    master_key_id: str
    master_key_check: bytes
    """Proves the master key without revealing it (crypto/masterkey.py)."""
    features: tuple[str, ...] = ()


class _Body(msgspec.Struct, kw_only=True):
    store_id: bytes
    created_ns: int
    map_bytes: int
    master_key_id: str
    master_key_check: bytes
    features: list[str]


def encode_store_meta(meta: StoreMeta) -> bytes:
    """The whole file."""
    if len(meta.store_id) != STORE_ID_BYTES:
        raise ValueError(f"a store id has {STORE_ID_BYTES} bytes, not {len(meta.store_id)}")
    body = msgspec.msgpack.encode(
        _Body(
            store_id=meta.store_id,
            created_ns=meta.created_ns,
            map_bytes=meta.map_bytes,
            master_key_id=meta.master_key_id,
            master_key_check=meta.master_key_check,
            features=list(meta.features),
        )
    )
    front = HEAD.pack(MAGIC, MAJOR, MINOR, len(body), crc32c(body), 0)[:-CRC_BYTES]
    return front + crc32c(front).to_bytes(CRC_BYTES, "big") + body


def decode_store_meta(raw: bytes, *, what: str) -> StoreMeta:
    """The reverse of `encode_store_meta`; `what` names the file in errors.

    Raises:
        RecordDamaged: too short or long, another kind of file, a wrong CRC, or not the fields that FORMAT.md wants.
        FormatUnknown: a later major version, or features that this version lacks, by name.
    """
    if len(raw) < HEAD.size:
        raise RecordDamaged(what=what, reason=f"{len(raw)} bytes are too few for store.meta")
    magic, major, minor, body_bytes, body_crc, head_crc = HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise RecordDamaged(what=what, reason=f"offset 0: magic {magic!r} is not that of a store")
    if crc32c(raw[: HEAD.size - CRC_BYTES]) != head_crc:
        raise RecordDamaged(what=what, reason="head: the CRC32C differs")
    if major != MAJOR:
        raise FormatUnknown(what=what, reason=f"layout version {major}.{minor}; this rs3d reads {MAJOR}.x")
    body = raw[HEAD.size :]
    if body_bytes > BODY_LIMIT_BYTES or len(body) != body_bytes or crc32c(body) != body_crc:
        raise RecordDamaged(what=what, reason=f"body: {len(body)} bytes of {body_bytes}, or its CRC32C differs")
    try:
        fields = msgspec.msgpack.decode(body, type=_Body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordDamaged(what=what, reason=f"body: {error}") from None
    missing = sorted(set(fields.features) - KNOWN_FEATURES)
    if missing:
        raise FormatUnknown(what=what, reason=f"the store uses {', '.join(missing)}, which this rs3d lacks")
    if len(fields.store_id) != STORE_ID_BYTES:
        raise RecordDamaged(what=what, reason=f"body: a store id of {len(fields.store_id)} bytes")
    return StoreMeta(
        store_id=fields.store_id,
        created_ns=fields.created_ns,
        map_bytes=fields.map_bytes,
        master_key_id=fields.master_key_id,
        master_key_check=fields.master_key_check,
        features=tuple(fields.features),
    )
