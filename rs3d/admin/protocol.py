"""The administration protocol: one JSON object a line, a request and then events until a result or an error.

    → {"verb": "bucket create", "arguments": {"name": "photos"}}
    ← {"type": "progress", "what": "segments", "done": 3, "total": 8}
    ← {"type": "result", "value": {...}}
    ← {"type": "error", "error": "NoSuchBucket", "fields": {...}, "sentence": "...", "command": "rs3d bucket list"}

A connection carries one request after the other. Lines are bounded on both sides.
"""

from __future__ import annotations

from typing import Final

import msgspec

from rs3d.errors import ProtocolMismatch

MAXIMUM_LINE_BYTES: Final = 4 * 1024 * 1024
"""A `bucket list` of some ten thousand buckets; longer answers are pages."""

MAXIMUM_REQUEST_BYTES: Final = 64 * 1024

Scalar = str | int | bool | None
JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]


class AdminRequest(msgspec.Struct, frozen=True):
    """What a client asks."""

    verb: str
    arguments: dict[str, msgspec.Raw] = {}


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a long verb is; `total` 0 = unknown."""

    what: str
    done: int
    total: int = 0


class Row(msgspec.Struct, frozen=True, tag="row"):
    """One element of an answer that comes bit by bit, such as a trace."""

    value: msgspec.Raw


class Result(msgspec.Struct, frozen=True, tag="result"):
    """The end: it worked."""

    value: msgspec.Raw


class Failure(msgspec.Struct, frozen=True, tag="error"):
    """The end: it did not. `command` is what to run next, or empty."""

    error: str
    fields: dict[str, Scalar]
    """The error's fields, bytes as hex."""
    sentence: str
    command: str = ""


Event = Progress | Row | Result | Failure

_encoder = msgspec.json.Encoder()
_requests = msgspec.json.Decoder(AdminRequest)
_events = msgspec.json.Decoder(Event)


def encode_line(message: AdminRequest | Event) -> bytes:
    return _encoder.encode(message) + b"\n"


def raw(value: object) -> msgspec.Raw:
    """Any Struct, dataclass or plain value as a piece of JSON."""
    return msgspec.Raw(_encoder.encode(value))


def decode_request(line: bytes) -> AdminRequest:
    """Raises ProtocolMismatch when the line is not a request."""
    try:
        return _requests.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolMismatch(what=f"an administration request: {error}") from None


def decode_event(line: bytes) -> Event:
    """Raises ProtocolMismatch when the line is not an event."""
    try:
        decoded: Event = _events.decode(line)
        return decoded
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolMismatch(what=f"an administration answer: {error}") from None
