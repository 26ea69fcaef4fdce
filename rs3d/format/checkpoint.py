"""`catalog/checkpoint.meta`: which commit of the catalog survives a power cut. FORMAT.md section "Checkpoint".

Two slots that say the same, written one after the other and each synced: while a cut may tear one, the other holds, and
a bit that flips in one later is in the other as it was. Nothing here blocks.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from rs3d.errors import RecordDamaged
from rs3d.format.lmdbpages import META_BYTES
from rs3d.kernels.crc import crc32c

MAGIC: Final = b"rs3dckpt"
SLOT_BYTES: Final = 4096
"""A slot has a page for itself, so that writing one never touches the other."""
SLOTS: Final = 2
FILE_BYTES: Final = SLOTS * SLOT_BYTES
SLOT: Final = struct.Struct(">8sQB1xH152sI")
_CRC: Final = struct.Struct(">I")
NO_META: Final = bytes(META_BYTES)


class CheckpointState(IntEnum):
    """How a catalog's file is to be read by whoever opens it."""

    EMPTY = 1
    """Nothing of it counts: it is being made from the log."""
    OPEN = 2
    """The commit of the checkpoint is durable, later ones may be in any state."""
    CLOSED = 3
    """The commit of the checkpoint is the last one, and durable."""


class Checkpoint(NamedTuple):
    """One slot."""

    number: int
    """Counts up from 1; the higher one of two is the newer."""
    state: CheckpointState
    meta: bytes
    """The META_BYTES of liblmdb's page that names the commit; zeros when EMPTY."""


def encode_slot(checkpoint: Checkpoint) -> bytes:
    """The SLOT_BYTES of a slot."""
    raw = SLOT.pack(MAGIC, checkpoint.number, checkpoint.state, META_BYTES, checkpoint.meta, 0)
    raw = raw[: -_CRC.size]
    return (raw + _CRC.pack(crc32c(raw))).ljust(SLOT_BYTES, b"\0")


def decode_slot(raw: memoryview) -> Checkpoint | None:
    """The reverse; None when its CRC does not hold (a write that a cut tore) or nothing was ever written there."""
    if len(raw) < SLOT.size:
        return None
    magic, number, state, meta_bytes, meta, crc = SLOT.unpack_from(raw)
    known = magic == MAGIC and meta_bytes == META_BYTES and state in tuple(CheckpointState)
    if not known or crc != crc32c(bytes(raw[: SLOT.size - _CRC.size])):
        return None
    return Checkpoint(number, CheckpointState(state), meta)


def decode_checkpoint(raw: memoryview, *, what: str) -> Checkpoint:
    """The newest of a file's slots; `what` names the file in errors.

    Raises:
        RecordDamaged: none of them holds.
    """
    found = [decode_slot(raw[at : at + SLOT_BYTES]) for at in range(0, FILE_BYTES, SLOT_BYTES)]
    slots = [slot for slot in found if slot is not None]
    if not slots:
        raise RecordDamaged(what=what, reason="neither of its slots holds")
    return max(slots)
