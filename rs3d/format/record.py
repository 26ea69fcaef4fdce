"""Log records: a fixed head, a msgpack body, an optional payload. FORMAT.md section "Log record".

The head's CRC32C is seeded with the segment's nonce and covers the CRC of the record before it, so bytes of another
store, an older life of a disk block, or a client's payload never pass for a record of this segment (STORE.md 2). The
payload has a CRC of its own: HEAD reads head and body only.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from rs3d.kernels.crc import crc32c
from rs3d.types.identifiers import Sequence

RECORD_MAGIC: Final = 0x52334C52
"""`R3LR`. A zero here is the untouched rest of a preallocated segment."""

RECORD_ALIGNMENT: Final = 8
HEAD: Final = struct.Struct(">IIIHHQIIII")
"""magic, crc, previous crc, kind, flags, sequence, body bytes, payload bytes, payload crc, reserved."""

HEAD_BYTES: Final = HEAD.size
MAXIMUM_BODY_BYTES: Final = 4 << 20
MAXIMUM_PAYLOAD_BYTES: Final = 16 << 20
CHECKED_FROM: Final = 8
"""The CRC covers the record from here to the end of the body."""

_MAGIC_AND_CRC = struct.Struct(">II")
_CHECKED_HEAD = struct.Struct(">IHHQIIII")
"""HEAD in two pieces: the second is what the CRC of the first covers."""


class RecordKind(IntEnum):
    """What a record does. Numbers are for ever; FORMAT.md lists the body of each."""

    VERSION_PUT = 1
    VERSION_PATCHED = 2
    VERSION_REMOVED = 3
    MARKER_PUT = 4
    UPLOAD_OPENED = 5
    PART_PUT = 6
    UPLOAD_COMPLETED = 7
    UPLOAD_ABORTED = 8
    BUCKET_PUT = 9
    BUCKET_REMOVED = 10
    USER_PUT = 11
    USER_REMOVED = 12
    ACCESS_KEY_PUT = 13
    ACCESS_KEY_REMOVED = 14
    EPOCH_OPENED = 15
    EPOCH_CLOSED = 16
    SEGMENT_OPENED = 17
    SET_MEMBERS_FREED = 18
    CURSOR_MOVED = 19
    SETTING_PUT = 20
    SEGMENTS_REPLACED = 21
    SEGMENT_SWEPT = 22
    SET_KEPT = 23
    CHUNKS_PINNED = 24
    CHUNKS_FREED = 25
    CHUNKS_MOVED = 26
    SEGMENT_SEALED = 0xFFFF


class RecordHead(NamedTuple):
    crc: int
    previous_crc: int
    kind: int
    sequence: Sequence
    body_bytes: int
    payload_bytes: int
    payload_crc: int

    @property
    def total_bytes(self) -> int:
        """From this record to the next, padding included."""
        return record_bytes(self.body_bytes, self.payload_bytes)


def record_bytes(body_bytes: int, payload_bytes: int) -> int:
    """Length of a record with its padding."""
    return (HEAD_BYTES + body_bytes + payload_bytes + RECORD_ALIGNMENT - 1) & -RECORD_ALIGNMENT


def append_record(
    buffer: bytearray,
    *,
    seed: int,
    previous_crc: int,
    kind: int,
    sequence: int,
    body: bytes,
    payload: bytes | memoryview = b"",
) -> int:
    """Append a whole record, padding included, to `buffer`.

    Args:
        seed: the segment's (`logsegment.crc_seed`).
        previous_crc: of the record before it in this segment, 0 for the first.

    Returns:
        The record's CRC, for the next.
    """
    payload_bytes = len(payload)
    body_bytes = len(body)
    payload_crc = crc32c(payload) if payload_bytes else 0
    checked = _CHECKED_HEAD.pack(previous_crc, kind, 0, sequence, body_bytes, payload_bytes, payload_crc, 0)
    crc = crc32c(body, crc32c(checked, seed))
    buffer += _MAGIC_AND_CRC.pack(RECORD_MAGIC, crc)
    buffer += checked
    buffer += body
    if payload_bytes:
        buffer += payload
    padding = -(HEAD_BYTES + body_bytes + payload_bytes) % RECORD_ALIGNMENT
    if padding:
        buffer += b"\0" * padding
    return crc


def decode_head(raw: bytes | memoryview, offset: int = 0) -> RecordHead | None:
    """The head at `offset` of `raw`, unchecked but for magic and bounds; None when there is none."""
    if len(raw) - offset < HEAD_BYTES:
        return None
    magic, crc, previous_crc, kind, flags, sequence, body_bytes, payload_bytes, payload_crc, _ = HEAD.unpack_from(
        raw, offset
    )
    if magic != RECORD_MAGIC or flags or body_bytes > MAXIMUM_BODY_BYTES or payload_bytes > MAXIMUM_PAYLOAD_BYTES:
        return None
    return RecordHead(crc, previous_crc, kind, Sequence(sequence), body_bytes, payload_bytes, payload_crc)


def is_valid(head: RecordHead, raw: bytes | memoryview, seed: int) -> bool:
    """Whether the record that `raw` begins with (head and body at least) has the CRC that its head says."""
    end = HEAD_BYTES + head.body_bytes
    return len(raw) >= end and crc32c(memoryview(raw)[CHECKED_FROM:end], seed) == head.crc
