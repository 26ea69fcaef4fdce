"""An inlined payload that fails its CRC, restored from the parity that its recipe may have. Pure; on the rare path."""

from __future__ import annotations

import msgspec

from rs3d.errors import DamageError, FormatUnknown
from rs3d.format.record import HEAD_BYTES, RecordKind, decode_head
from rs3d.format.recordbodies import decode_version, inline_of
from rs3d.kernels.crc import crc32c
from rs3d.rio.mending import mend_stored
from rs3d.rio.parity import corrects


def mend_payload(head_and_body: bytes | memoryview, payload: bytes) -> bytes | None:
    """The payload as it was written, proven by the record's payload CRC; None where that cannot be had.

    Args:
        head_and_body: of the record, already checked.
        payload: what was read: as long as the head says, or shorter where the file ends or could not be read.
    """
    head = decode_head(bytes(head_and_body[:HEAD_BYTES]))
    if head is None or head.kind != RecordKind.VERSION_PUT:
        return None
    try:
        body = decode_version(memoryview(head_and_body)[HEAD_BYTES:])
    except (msgspec.MsgspecError, ValueError):
        return None
    if body.inline is None:
        return None
    recipe = inline_of(body.inline).recipe
    if not corrects(recipe):
        return None
    restored = bytearray(payload.ljust(head.payload_bytes, b"\0"))

    def read(offset: int, buffer: memoryview) -> bool:
        buffer[:] = restored[offset : offset + len(buffer)]
        return True

    def write(offset: int, stored: bytes) -> None:
        restored[offset : offset + len(stored)] = stored

    try:
        mend_stored(recipe, len(restored), read, write)
    except (DamageError, FormatUnknown):
        return None
    return bytes(restored) if crc32c(restored) == head.payload_crc else None
