"""The twin of `rs3d.kernels.plainrequest`: the same subset, by the code that every other request walks."""

from __future__ import annotations

import re
from base64 import b64encode

from rs3d.access.authorization import find_claim
from rs3d.access.sigv4 import derive_signing_key, verify
from rs3d.errors import Rs3dError
from rs3d.http.heads import read_head
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import Head
from rs3d.http.refusals import HttpRefusal
from rs3d.s3.checksums import declared_checksums, header_name, requested_algorithm

SDK_ALGORITHM = b"x-amz-sdk-checksum-algorithm"
CHECKSUMS = {
    b"x-amz-checksum-crc32": 1,
    b"x-amz-checksum-crc32c": 2,
    b"x-amz-checksum-crc64nvme": 3,
    b"x-amz-checksum-sha256": 5,
}
"""With their codes in `rs3d.format.rows`."""

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
    *CHECKSUMS,
    SDK_ALGORITHM,
    b"expect",
}

PART = re.compile(rb"([A-Za-z0-9\-._~/]+)\?partNumber=([1-9][0-9]{0,3}|10000)&uploadId=([A-Za-z0-9\-._~]+)")

ONCE = {*DECIDING, *CHECKSUMS, SDK_ALGORITHM, b"expect"}
ONCE |= {b"x-amz-user-agent", b"content-type", b"content-length", b"connection"}


def read(raw: bytes, access_key: str, secret: str, now_s: int) -> tuple[bool, bytes, int, bool, bytes] | None:
    """(is HEAD, target, length, checksums asked for, Host) of a plain read by that key, or None."""
    found = _proven(raw, access_key, secret, now_s)
    if found is None:
        return None
    head, stop, names = found
    if (
        head.method not in ("GET", "HEAD")
        or PART.fullmatch(head.target)
        or (head.get(b"content-length") or b"0") != b"0"
    ):
        return None
    if {SDK_ALGORITHM, b"expect", *CHECKSUMS} & set(names):
        return None
    return head.method == "HEAD", head.target, stop, b"x-amz-checksum-mode" in names, head.get(b"host") or b""


def write(
    raw: bytes, access_key: str, secret: str, now_s: int
) -> tuple[bool, bytes, int, int, bytes | None, bytes, bytes, tuple[int, bytes] | None, bytes | None, bool] | None:
    """(is DELETE, path, end of the head, end of the body, Content-Type, x-amz-content-sha256, Host, part, checksum,
    expects 100 Continue) of a plain write by that key, or None."""
    found = _proven(raw, access_key, secret, now_s)
    if found is None:
        return None
    head, stop, names = found
    length, kind = head.get(b"content-length"), head.get(b"content-type")
    if head.method not in ("PUT", "DELETE") or b"x-amz-checksum-mode" in names:
        return None
    if head.method == "DELETE" and ((length or b"0") != b"0" or kind is not None):
        return None
    if head.method == "PUT" and (length is None or not re.fullmatch(rb"0|[1-9][0-9]{0,8}", length)):
        return None
    end = stop + int(length or b"0")
    if kind is not None and not re.fullmatch(rb"[ -~]+", kind):
        return None
    checksum = None
    if SDK_ALGORITHM in names or CHECKSUMS.keys() & set(names):
        checksum = checksum_in(head)
        if checksum is None or head.method == "DELETE":
            return None
    expects = head.get(b"expect")
    if expects is not None and (expects.lower() != b"100-continue" or head.method == "DELETE"):
        return None
    declared = head.get(b"x-amz-content-sha256") or b""
    path, part = head.target, PART.fullmatch(head.target)
    if part is not None:
        if head.method == "DELETE":
            return None
        path = part[1]
    told = None if part is None else (int(part[2]), part[3])
    return (
        head.method == "DELETE",
        path,
        stop,
        end,
        kind,
        declared,
        head.get(b"host") or b"",
        told,
        checksum,
        expects is not None,
    )


def checksum_in(head: Head) -> bytes | None:
    """Code and digest, 33 bytes, of the only one that a head brings; None where it brings no such or is wrong."""
    try:
        declared = declared_checksums(head)
        algorithm = requested_algorithm(head, declared)
    except Rs3dError:
        return None
    if not declared or (head.get(SDK_ALGORITHM) or algorithm.encode()).upper() != algorithm.encode():
        return None
    name, value = header_name(algorithm), declared[0].value
    if head.get(name) != b64encode(value):
        return None
    return bytes((CHECKSUMS[name],)) + value.ljust(32, bytes(1))


def _proven(raw: bytes, access_key: str, secret: str, now_s: int) -> tuple[Head, int, list[bytes]] | None:
    """A head of the subset that is signed by that key, its length and the names of its fields."""
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
    if not re.fullmatch(rb"[A-Za-z0-9\-._~/]+", head.target) and not PART.fullmatch(head.target):
        return None
    names = [name for name, _ in head.headers]
    if any(name not in DECIDING | INERT for name in names) or head.version != (1, 1):
        return None
    if any(names.count(name) > 1 for name in ONCE):
        return None
    if any(names.count(name) > 1 and name in claim.signed_headers for name in names):
        return None
    if (head.get(b"connection") or b"keep-alive").lower() == b"close":
        return None
    if head.get(b"x-amz-date") is None or (head.get(b"x-amz-checksum-mode") or b"ENABLED") != b"ENABLED":
        return None
    if not re.fullmatch(r"UNSIGNED-PAYLOAD|[0-9a-f]{64}", claim.payload_hash):
        return None
    return head, stop, names
