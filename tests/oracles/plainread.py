"""The twin of `rs3d.kernels.plainread`: the same subset, put together from the code that every other request walks."""

from __future__ import annotations

import re

from rs3d.access.authorization import find_claim
from rs3d.access.sigv4 import derive_signing_key, verify
from rs3d.errors import Rs3dError
from rs3d.http.heads import read_head
from rs3d.http.limits import HttpLimits
from rs3d.http.refusals import HttpRefusal

DECIDING = {b"host", b"authorization", b"x-amz-date", b"x-amz-content-sha256", b"x-amz-checksum-mode"}
INERT = {
    b"user-agent",
    b"accept",
    b"accept-encoding",
    b"accept-language",
    b"content-type",
    b"content-length",
    b"connection",
    b"x-amz-user-agent",
    b"amz-sdk-request",
    b"amz-sdk-invocation-id",
}


def read(raw: bytes, access_key: str, secret: str, now_s: int) -> tuple[bool, bytes, int, bool, bytes] | None:
    """(is HEAD, target, length, checksums asked for, Host) of a plain read by that key, or None."""
    try:
        found = read_head(bytearray(raw), memoryview(raw), 0, len(raw), HttpLimits())
        if found is None:
            return None
        head, stop = found
        claim = find_claim(head.target, head.headers, now_ns=now_s * 10**9)
        if claim is None or claim.access_key != access_key:
            return None
        verify(claim, head.method, head.target, head.headers, derive_signing_key(secret, claim.scope))
    except (Rs3dError, HttpRefusal):
        return None
    if head.method not in ("GET", "HEAD") or not re.fullmatch(rb"[A-Za-z0-9\-._~/]+", head.target):
        return None
    names = [name for name, _ in head.headers]
    if any(name not in DECIDING | INERT for name in names) or head.version != (1, 1):
        return None
    if any(names.count(name) > 1 for name in DECIDING | {b"x-amz-user-agent"}):
        return None
    if any(names.count(name) > 1 and name in claim.signed_headers for name in names):
        return None
    if (head.get(b"content-length") or b"0") != b"0" or (head.get(b"connection") or b"keep-alive").lower() == b"close":
        return None
    if head.get(b"x-amz-date") is None or (head.get(b"x-amz-checksum-mode") or b"ENABLED") != b"ENABLED":
        return None
    if not re.fullmatch(r"UNSIGNED-PAYLOAD|[0-9a-f]{64}", claim.payload_hash):
        return None
    return head.method == "HEAD", head.target, stop, b"x-amz-checksum-mode" in names, head.get(b"host") or b""
