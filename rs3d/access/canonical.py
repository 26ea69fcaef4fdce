"""The canonical request of SigV4 for S3: the one text of a request that both sides hash.

Source: S3 API reference, *Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk*.
S3 differs from other AWS services: the path is encoded once, and neither `//` nor `..` is normalised. Everything here
works on what stood on the wire, so that no proxy or parser between can change what was signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias
from urllib.parse import quote_from_bytes, unquote_to_bytes

HeaderFields: TypeAlias = Sequence[tuple[bytes, bytes]]
"""A request's header fields as received: (lower-case name, value), in order, repeated names allowed."""

QueryParameters: TypeAlias = list[tuple[bytes, bytes]]
"""A query string's parameters, decoded, in order of appearance."""

# RFC 3986 2.3: what is never encoded. The path keeps its slashes as well.
_PLAIN_PATH = re.compile(rb"[A-Za-z0-9\-._~/]*")
_PLAIN_PARAMETER = re.compile(rb"[A-Za-z0-9\-._~]*")


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request target, both raw. The absolute form (RFC 9112 3.2.2) loses scheme and authority."""
    if target[:1] != b"/":
        _, found, rest = target.partition(b"://")
        if found:
            slash = rest.find(b"/")
            question = rest.find(b"?")
            if slash < 0 or 0 <= question < slash:
                target = b"/" + (rest[question:] if question >= 0 else b"")
            else:
                target = rest[slash:]
    path, _, query = target.partition(b"?")
    return path or b"/", query


def canonical_paths(path: bytes) -> tuple[bytes, ...]:
    """The canonical forms that a signer may have meant by this raw path, S3's own first.

    S3 decodes the path and encodes it again. A signer that encodes otherwise (`%2F` inside a key, lower-case escapes)
    signed what it sent; that form names the same bytes and is accepted as well. One element in the usual case.
    """
    if _PLAIN_PATH.fullmatch(path):
        return (path,)
    encoded = quote_from_bytes(unquote_to_bytes(path), safe="/").encode("ascii")
    return (encoded,) if encoded == path else (encoded, path)


def parse_query(query: bytes) -> QueryParameters:
    """Decoded parameters of a raw query string; `+` is a space, as S3 and HTML forms read it.

    A parameter without `=` has an empty value. Empty pieces (`a=1&&b=2`) are dropped.
    """
    if not query:
        return []
    pieces = [piece.partition(b"=") for piece in query.split(b"&") if piece]
    if b"%" not in query and b"+" not in query:
        return [(name, value) for name, _, value in pieces]
    return [(_decode(name), _decode(value)) for name, _, value in pieces]


def canonical_query(parameters: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Decoded parameters, encoded by SigV4's rules and sorted by encoded name, then value."""
    encoded = sorted([(_encode(name), _encode(value)) for name, value in parameters])
    return b"&".join([name + b"=" + value for name, value in encoded])


def canonical_value(value: bytes) -> bytes:
    """A header value without spaces around it and with inner runs of spaces folded to one."""
    if b"  " in value or b"\t" in value:
        return b" ".join(value.split())
    return value.strip()


def canonical_headers(headers: HeaderFields, signed: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """The canonical header block and the names in `signed` that the request does not have.

    Args:
        headers: as received.
        signed: lower-case names, in ascending order.

    Returns:
        The block, a line for each name in `signed`'s order, repeated fields joined by commas; and the names missing.
    """
    sent = dict(headers)
    if len(sent) == len(headers) and sent.keys() >= set(signed):
        block = b"".join([name + b":" + sent[name] + b"\n" for name in signed])
        # The usual request has nothing to fold: looking at the whole block once is cheaper than at each value.
        if not (b"  " in block or b": " in block or b" \n" in block or b"\t" in block):
            return block, []
    values: dict[bytes, bytes] = {}
    for name in signed:
        folded = [canonical_value(value) for field, value in headers if field == name]
        if folded:
            values[name] = b",".join(folded)
    missing = [name for name in signed if name not in values]
    return b"".join([name + b":" + values.get(name, b"") + b"\n" for name in signed]), missing


def canonical_request(
    method: str, path: bytes, query: bytes, header_block: bytes, signed: Sequence[bytes], payload_hash: bytes
) -> bytes:
    """The canonical request from its canonical pieces; `payload_hash` is the value of x-amz-content-sha256."""
    return b"\n".join((method.encode("ascii"), path, query, header_block, b";".join(signed), payload_hash))


def _decode(raw: bytes) -> bytes:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    return unquote_to_bytes(raw) if b"%" in raw else raw


def _encode(decoded: bytes) -> bytes:
    if _PLAIN_PARAMETER.fullmatch(decoded):
        return decoded
    return quote_from_bytes(decoded, safe="").encode("ascii")
