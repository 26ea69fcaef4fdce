"""SigV4 for S3 with the standard library, written for reading: the twin of `rs3d.kernels.sigv4`."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote_from_bytes, unquote_to_bytes


def canonical_request(
    method: str,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    signed: tuple[bytes, ...],
    payload_hash: str,
    dropped: bytes = b"",
) -> bytes:
    """Six lines: method, path, query, headers (each with its newline), signed names, payload hash."""
    path, _, query = target.partition(b"?")
    lines = [
        method.encode(),
        quote_from_bytes(unquote_to_bytes(path), safe="/").encode(),
        b"&".join(name + b"=" + value for name, value in _parameters(query) if name != dropped or not dropped),
        b"".join(name + b":" + _joined(headers, name) + b"\n" for name in signed),
        b";".join(signed),
        payload_hash.encode(),
    ]
    return b"\n".join(lines)


def signature(secret: str, request: bytes, timestamp: str, date: str, region: str, service: str) -> str:
    """The signature over a canonical request."""
    scope = f"{date}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{hashlib.sha256(request).hexdigest()}"
    return hmac.new(signing_key(secret, date, region, service), text.encode(), "sha256").hexdigest()


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Four chained HMACs."""
    key = b"AWS4" + secret.encode()
    for piece in (date, region, service, "aws4_request"):
        key = hmac.new(key, piece.encode(), "sha256").digest()
    return key


def _parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    for piece in query.split(b"&"):
        if piece:
            name, _, value = piece.replace(b"+", b" ").partition(b"=")
            found.append((_encoded(name), _encoded(value)))
    return sorted(found)


def _encoded(raw: bytes) -> bytes:
    return quote_from_bytes(unquote_to_bytes(raw), safe="").encode()


def _joined(headers: list[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    return b",".join(b" ".join(value.split()) for name, value in headers if name == wanted)
