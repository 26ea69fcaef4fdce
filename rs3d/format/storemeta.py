"""`store.meta`: what makes a directory a store. FORMAT.md section "store.meta". Nothing here blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from rs3d.errors import FormatUnknown, RecordDamaged
from rs3d.format.framedfile import HEAD as HEAD
from rs3d.format.framedfile import FileKind, decode_framed, encode_framed

MAGIC: Final = b"rs3dstor"
BODY_LIMIT_BYTES: Final = 64 * 1024
_KIND: Final = FileKind(name="store.meta", magic=MAGIC, major=1, minor=0, body_limit_bytes=BODY_LIMIT_BYTES)
STORE_ID_BYTES: Final = 16
CHECKPOINTS: Final = "catalog checkpoints"
"""After a power cut the catalog counts as of `catalog/checkpoint.meta`, not as it is."""
KNOWN_FEATURES: Final = frozenset({CHECKPOINTS})
"""Optional parts of the format that this version can read; a store that uses another is refused, naming it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMeta:
    """What store.meta says."""

    store_id: bytes
    """16 random bytes, in every log segment's header and in what is sealed under the master key."""
    created_ns: int
    map_bytes: int
    """Size of the catalog's map; changed offline only (`rs3d check --map-bytes`)."""
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
    fields = _Body(
        store_id=meta.store_id,
        created_ns=meta.created_ns,
        map_bytes=meta.map_bytes,
        master_key_id=meta.master_key_id,
        master_key_check=meta.master_key_check,
        features=list(meta.features),
    )
    return encode_framed(_KIND, fields)


def decode_store_meta(raw: bytes, *, what: str) -> StoreMeta:
    """The reverse of `encode_store_meta`; `what` names the file in errors.

    Raises:
        RecordDamaged: too short or long, another kind of file, a wrong CRC, or not the fields that FORMAT.md wants.
        FormatUnknown: a later major version, or features that this version lacks, by name.
    """
    fields = decode_framed(_KIND, raw, _Body, what=what)
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
