"""The usual request head as regular expressions: the twin of `rs3d.kernels.httphead`.

`parse_head` decides about a complete head exactly as the kernel does; a cut head is judged by its whole.
"""

from __future__ import annotations

import re

Parsed = tuple[str, bytes, tuple[tuple[bytes, bytes], ...], int]

_REQUEST_LINE = re.compile(rb"(GET|PUT|HEAD|POST|DELETE|OPTIONS) (/[!\"$-~]*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)[ \t]*")
_HOST = re.compile(rb"[A-Za-z0-9.\-]{1,255}(:[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,18}")


def parse_head(data: bytes) -> Parsed | None:
    """The head at the front of `data`, which holds its end; None where it is to be handed over."""
    raw, found, _ = data.partition(b"\r\n\r\n")
    if not found:
        return None
    line, *rest = raw.split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    if request is None or len(rest) > 64:
        return None
    fields: list[tuple[bytes, bytes]] = []
    for text in rest:
        field = _FIELD.fullmatch(text)
        if field is None:
            return None
        fields.append((field[1].lower(), field[2]))
    return (request[1].decode(), request[2], tuple(fields), len(raw) + 4) if _usual(fields) else None


def _usual(fields: list[tuple[bytes, bytes]]) -> bool:
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    hosts, lengths = values.get(b"host", []), values.get(b"content-length", [])
    return (
        len(hosts) == 1
        and _HOST.fullmatch(hosts[0]) is not None
        and len(lengths) <= 1
        and all(_LENGTH.fullmatch(length) for length in lengths)
        and not values.keys() & {b"transfer-encoding", b"upgrade"}
        and all(value.lower() in (b"keep-alive", b"close") for value in values.get(b"connection", []))
        and all(value.lower() == b"100-continue" for value in values.get(b"expect", []))
    )


def write_head(status: int, reason: bytes, headers: list[tuple[bytes, bytes]], ready: bytes) -> bytes:
    """A response head, unchecked."""
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return b"HTTP/1.1 " + str(status).encode() + b" " + reason + b"\r\n" + ready + lines + b"\r\n"
