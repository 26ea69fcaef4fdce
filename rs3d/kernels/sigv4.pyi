"""SigV4 for S3 in one call: canonical request, string to sign and HMAC-SHA256, straight from a request's raw pieces.

The canonicalisation is that of `rs3d.access.canonical`, byte for byte, for its first reading of the path. What is out
of the ordinary is not decided here: `signature` and `canonical_request` answer None, `proves` answers False, and the
Python code, which also words the errors, has the last word. Out of the ordinary are: a target that is not in
origin-form, path or query beyond 16 KiB, more than 64 query parameters or 128 headers, a signed header that is missing,
control characters in a signed value.

Loop-safe: one to two microseconds a request; holds the GIL. Variants `shani` and `scalar`; `RS3D_KERNEL_SIGV4` demands
one. Source: S3 API reference, "Authenticating Requests (AWS Signature Version 4)"; FIPS 180-4; RFC 2104.
Oracle: `tests/oracles/sigv4.py`.
"""

from collections.abc import Iterable

def canonical_request(
    method: str,
    target: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    signed: tuple[bytes, ...],
    payload_hash: str,
    *,
    dropped: bytes = b"",
) -> bytes | None:
    """The canonical request.

    Args:
        method: as sent.
        target: the raw request target, beginning with a slash.
        headers: as received, names in lower case; repeated names are joined by commas.
        signed: names in lower case, in the order in which they are signed.
        payload_hash: the value of x-amz-content-sha256.
        dropped: a query parameter that was not signed (`X-Amz-Signature` of a presigned URL).

    Returns:
        The text, or None where Python has to look.

    Raises:
        ValueError: a method or hash is absurdly long.
    """

def signature(
    signing_key: bytes,
    method: str,
    target: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    signed: tuple[bytes, ...],
    payload_hash: str,
    timestamp: str,
    date: str,
    region: str,
    service: str,
    *,
    dropped: bytes = b"",
) -> str | None:
    """The signature of a request: 64 lower-case hexadecimal digits, or None where Python has to look.

    Args:
        signing_key: of the scope, as `signing_key` derives it.
        timestamp: `YYYYMMDDThhmmssZ`.
        date, region, service: the credential scope.
        others: as for `canonical_request`.

    Raises:
        ValueError: the key has more than 64 bytes, or a text is absurdly long.
    """

def proves(
    claimed: str,
    signing_key: bytes,
    method: str,
    target: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    signed: tuple[bytes, ...],
    payload_hash: str,
    timestamp: str,
    date: str,
    region: str,
    service: str,
    *,
    dropped: bytes = b"",
) -> bool:
    """Whether the claimed signature is the request's, compared in constant time.

    False means *not proven here*: ask the Python code, which knows the second reading of a path and what to answer.
    """

def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The 32-byte key of a secret for a scope: four chained HMACs, about a microsecond."""

def variant() -> str:
    """The variant in use."""

def variants() -> tuple[str, ...]:
    """The variants that this machine can run, widest first."""

def use_variant(name: str) -> None:
    """Use another variant from now on, in the whole process: for tests and benchmarks.

    Raises:
        ValueError: there is no such variant.
        RuntimeError: this machine cannot run it.
    """

def selftest() -> int:
    """An example of the S3 API reference in every runnable variant. Returns the number of checks; well under 1 ms.

    Raises:
        RuntimeError: an answer is wrong.
    """
