"""The signer's side of SigV4, header authorization and presigned URLs, for the CLI, outbound calls and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rs3d.access.canonical import (
    HeaderFields,
    canonical_headers,
    canonical_paths,
    canonical_query,
    canonical_request,
    parse_query,
    split_target,
)
from rs3d.access.sigv4 import (
    ALGORITHM,
    SERVICE,
    UNSIGNED_PAYLOAD,
    CredentialScope,
    derive_signing_key,
    signature_of,
    string_to_sign,
)
from rs3d.access.timestamps import format_basic
from rs3d.clock import NANOSECONDS_PER_SECOND

# What proxies on the way change or drop; signing it would break the request.
_NEVER_SIGNED = frozenset(
    (b"authorization", b"connection", b"expect", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"user-agent")
)


@dataclass(frozen=True, slots=True)
class SigningIdentity:
    """An access key with its secret, and the region and service its requests are signed for."""

    access_key: str
    secret: str = field(repr=False)
    region: str = "us-east-1"
    service: str = SERVICE


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The headers to send, and what a `ChunkSigner` continues from."""

    headers: list[tuple[bytes, bytes]]
    signature: str
    timestamp: str
    scope: CredentialScope
    signing_key: bytes = field(repr=False)


def sign_request(
    identity: SigningIdentity,
    method: str,
    target: bytes,
    headers: HeaderFields,
    *,
    payload_hash: str,
    now_ns: int,
) -> SignedRequest:
    """Sign a request in its Authorization header.

    Args:
        identity: who signs.
        method: upper case.
        target: path and query as they will be sent, already percent-encoded.
        headers: lower-case names, `host` included; nothing else of SigV4.
        payload_hash: hex SHA-256 of the body, `UNSIGNED-PAYLOAD`, or a STREAMING-… word.
        now_ns: wall clock.

    Returns:
        The headers with x-amz-date, x-amz-content-sha256 and authorization added.
    """
    timestamp, scope = _moment(identity, now_ns)
    complete = [
        *headers,
        (b"x-amz-date", timestamp.encode()),
        (b"x-amz-content-sha256", payload_hash.encode()),
    ]
    signed = sorted({name for name, _ in complete} - _NEVER_SIGNED)
    path, query = split_target(target)
    key = derive_signing_key(identity.secret, scope)
    signature = _sign(key, timestamp, scope, method, path, parse_query(query), complete, signed, payload_hash)
    authorization = (
        f"{ALGORITHM} Credential={identity.access_key}/{scope}, "
        f"SignedHeaders={b';'.join(signed).decode('ascii')}, Signature={signature}"
    )
    complete.append((b"authorization", authorization.encode("ascii")))
    return SignedRequest(complete, signature, timestamp, scope, key)


def presign(
    identity: SigningIdentity,
    method: str,
    target: bytes,
    headers: HeaderFields,
    *,
    expires_s: int,
    now_ns: int,
    payload_hash: str = UNSIGNED_PAYLOAD,
) -> bytes:
    """The request target with the X-Amz-… parameters that authorize whoever holds it until it expires.

    Args:
        identity: who signs.
        method: upper case.
        target: path and query as they will be sent, already percent-encoded.
        headers: those that the bearer has to send exactly so; `host` at least.
        expires_s: lifetime, 1 to 604,800.
        now_ns: wall clock.
        payload_hash: what the bearer's body must hash to, if it is known.
    """
    timestamp, scope = _moment(identity, now_ns)
    signed = sorted({name for name, _ in headers})
    path, query = split_target(target)
    parameters = [
        *parse_query(query),
        (b"X-Amz-Algorithm", ALGORITHM.encode()),
        (b"X-Amz-Credential", f"{identity.access_key}/{scope}".encode()),
        (b"X-Amz-Date", timestamp.encode()),
        (b"X-Amz-Expires", str(expires_s).encode()),
        (b"X-Amz-SignedHeaders", b";".join(signed)),
    ]
    if payload_hash != UNSIGNED_PAYLOAD:
        parameters.append((b"X-Amz-Content-Sha256", payload_hash.encode()))
    key = derive_signing_key(identity.secret, scope)
    signature = _sign(key, timestamp, scope, method, path, parameters, headers, signed, payload_hash)
    return path + b"?" + canonical_query(parameters) + b"&X-Amz-Signature=" + signature.encode()


def _moment(identity: SigningIdentity, now_ns: int) -> tuple[str, CredentialScope]:
    timestamp = format_basic(now_ns // NANOSECONDS_PER_SECOND)
    return timestamp, CredentialScope(timestamp[:8], identity.region, identity.service)


def _sign(
    key: bytes,
    timestamp: str,
    scope: CredentialScope,
    method: str,
    path: bytes,
    parameters: Sequence[tuple[bytes, bytes]],
    headers: HeaderFields,
    signed: Sequence[bytes],
    payload_hash: str,
) -> str:
    block, _ = canonical_headers(headers, signed)
    request = canonical_request(
        method, canonical_paths(path)[0], canonical_query(parameters), block, signed, payload_hash.encode()
    )
    return signature_of(key, string_to_sign(timestamp, scope, request))
