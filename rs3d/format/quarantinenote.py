"""The note beside files in quarantine: what, why and when. FORMAT.md section "Quarantine note".

A line of text that names the format, then one JSON object, so that it can be read without rs3d. Nothing here blocks.
"""

from __future__ import annotations

from typing import Final

import msgspec

from rs3d.errors import RecordDamaged

FIRST_LINE: Final = b"rs3d quarantine note 1\n"
NOTE_LIMIT_BYTES: Final = 64 * 1024


class QuarantineNote(msgspec.Struct, frozen=True, kw_only=True):
    """What a note says. `files` are names in quarantine/."""

    blob: str
    reason: str
    moved_ns: int
    files: tuple[str, ...]


def encode_note(note: QuarantineNote) -> bytes:
    """The whole file."""
    return FIRST_LINE + msgspec.json.format(msgspec.json.encode(note), indent=2) + b"\n"


def decode_note(raw: bytes, *, what: str) -> QuarantineNote:
    """The reverse of `encode_note`.

    Raises:
        RecordDamaged: not a note, too long, or not the fields of one.
    """
    if len(raw) > NOTE_LIMIT_BYTES or not raw.startswith(FIRST_LINE):
        raise RecordDamaged(what=what, reason="it is not a quarantine note")
    try:
        return msgspec.json.decode(raw[len(FIRST_LINE) :], type=QuarantineNote)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordDamaged(what=what, reason=f"quarantine note: {error}") from None
