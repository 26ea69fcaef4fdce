"""AWS Signature Version 4 with HMAC-SHA256: scope, signing key, string to sign, and the proof that a claim is true.

A request is authenticated in two steps with the lookup of the identity between them:

    claim = authorization.find_claim(target, headers, now_ns=…)     # who says it is, structure and clock checked
    secret = …look up claim.access_key…                             # raise InvalidAccessKeyId if there is none
    verified = verify(claim, method, target, headers, keys.signing_key(…))

Source: S3 API reference, *Authenticating Requests (AWS Signature Version 4)*.
"""

from __future__ import annotations

import enum
import hmac
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256

from rs3d.access.canonical import (
    HeaderFields,
    canonical_headers,
    canonical_paths,
    canonical_query,
    canonical_request,
    parse_query,
    split_target,
)
from rs3d.access.errors import AuthorizationHeaderMalformed, AuthorizationQueryParametersError, SignatureDoesNotMatch
from rs3d.kernels.sigv4 import proves

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "s3"
TERMINATOR = "aws4_request"

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = sha256(b"").hexdigest()

# No method of HTTP is longer; the kernel takes up to 64 bytes.
_LONGEST_METHOD = 32
# A day's key of each active access key and region; 4,096 of them are about 1 MiB.
_SIGNING_KEYS = 4_096


class SignatureForm(enum.Enum):
    """Where a signature was found."""

    HEADER = "AuthHeader"
    QUERY = "QueryString"
    POST_FORM = "POST"


class PayloadMode(enum.Enum):
    """How a body is covered by its request's signature: the meaning of x-amz-content-sha256."""

    SHA256 = "sha256"
    UNSIGNED = UNSIGNED_PAYLOAD
    STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

    @property
    def is_chunked(self) -> bool:
        """The body is in aws-chunked framing, whatever Content-Encoding says."""
        return self in _CHUNKED

    @property
    def has_signed_chunks(self) -> bool:
        """Every chunk, and the trailer if there is one, carries a signature."""
        return self in _SIGNED_CHUNKS

    @property
    def has_trailer(self) -> bool:
        """Trailing headers follow the last chunk."""
        return self in _TRAILER


_CHUNKED = frozenset(
    (
        PayloadMode.STREAMING_SIGNED,
        PayloadMode.STREAMING_SIGNED_TRAILER,
        PayloadMode.STREAMING_UNSIGNED_TRAILER,
    )
)
_SIGNED_CHUNKS = frozenset((PayloadMode.STREAMING_SIGNED, PayloadMode.STREAMING_SIGNED_TRAILER))
_TRAILER = frozenset((PayloadMode.STREAMING_SIGNED_TRAILER, PayloadMode.STREAMING_UNSIGNED_TRAILER))


@dataclass(frozen=True, slots=True)
class CredentialScope:
    """The day, region and service that a signing key is good for."""

    date: str
    region: str
    service: str = SERVICE

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{TERMINATOR}"


@dataclass(slots=True)
class SignatureClaim:
    """What a request says about its signer, structurally checked and within its time, nothing of it proven yet.

    Nobody changes it; a frozen one costs 1 µs more to make.
    """

    form: SignatureForm
    access_key: str
    scope: CredentialScope
    timestamp: str
    """As signed: `YYYYMMDDThhmmssZ`."""
    signed_headers: tuple[bytes, ...]
    """Lower-case names in ascending order; empty for a POST form."""
    signature: str
    """64 lower-case hex digits."""
    payload: PayloadMode
    payload_hash: str
    """The value of x-amz-content-sha256 that was signed; hex digits when `payload` is SHA256."""
    expires_s: int = 0
    """Lifetime of a presigned URL; 0 in the other forms."""


@dataclass(slots=True)
class VerifiedSignature:
    """A claim that its secret has proven; what the chunk signatures of the body build on. Nobody changes it."""

    form: SignatureForm
    access_key: str
    scope: CredentialScope
    timestamp: str
    signature: str
    payload: PayloadMode
    payload_sha256: str
    """The hex SHA-256 the body must have; empty unless `payload` is SHA256."""
    signing_key: bytes = field(repr=False)


def derive_signing_key(secret: str, scope: CredentialScope) -> bytes:
    """The 32-byte key of one secret for one scope (four chained HMACs)."""
    key = ("AWS4" + secret).encode()
    for piece in (scope.date, scope.region, scope.service, TERMINATOR):
        key = hmac.digest(key, piece.encode(), "sha256")
    return key


class SigningKeys:
    """Signing keys already derived, at most `capacity`, oldest use dropped first. One a process; not thread-safe.

    The generation is part of the cache's key, so a rotated secret is never answered with its predecessor's key.
    """

    __slots__ = ("_capacity", "_keys")

    def __init__(self, capacity: int = _SIGNING_KEYS) -> None:
        self._capacity = capacity
        self._keys: OrderedDict[tuple[str, int, str, str, str], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def signing_key(self, access_key: str, generation: int, secret: str, scope: CredentialScope) -> bytes:
        """The signing key of `access_key`'s secret for `scope`.

        Args:
            access_key: whose secret it is.
            generation: changes whenever the secret of this access key changes.
            secret: the secret access key; used only if the signing key is not cached.
            scope: as claimed by the request.
        """
        # Strings keep their hash, a scope computes its own each time.
        name = (access_key, generation, scope.date, scope.region, scope.service)
        key = self._keys.get(name)
        if key is not None:
            self._keys.move_to_end(name)
            return key
        key = derive_signing_key(secret, scope)
        self._keys[name] = key
        if len(self._keys) > self._capacity:
            self._keys.popitem(last=False)
        return key


def string_to_sign(timestamp: str, scope: CredentialScope, request: bytes) -> str:
    """The text whose HMAC is a request's signature; `request` is the canonical request."""
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{sha256(request).hexdigest()}"


def signature_of(signing_key: bytes, text: str) -> str:
    """HMAC-SHA256 of a string to sign as 64 lower-case hex digits."""
    return hmac.digest(signing_key, text.encode(), "sha256").hex()


def verify(
    claim: SignatureClaim, method: str, target: bytes, headers: HeaderFields, signing_key: bytes
) -> VerifiedSignature:
    """Prove that the holder of the secret behind `signing_key` signed exactly this request.

    Args:
        claim: what `authorization.find_claim` found in the same request.
        method: as sent.
        target: the request target as sent, path and query raw.
        headers: as received, the names in lower case.
        signing_key: of the access key and scope of the claim.

    Raises:
        SignatureDoesNotMatch: somebody else signed it, or it was changed on the way.
        AuthorizationHeaderMalformed, AuthorizationQueryParametersError: a header named as signed was not sent.
    """
    scope = claim.scope
    if len(method) <= _LONGEST_METHOD and proves(
        claim.signature,
        signing_key,
        method,
        target,
        headers,
        claim.signed_headers,
        claim.payload_hash,
        claim.timestamp,
        scope.date,
        scope.region,
        scope.service,
        dropped=b"X-Amz-Signature" if claim.form is SignatureForm.QUERY else b"",
    ):
        return verified_claim(claim, signing_key)
    return _verify_slowly(claim, method, target, headers, signing_key)


def _verify_slowly(
    claim: SignatureClaim, method: str, target: bytes, headers: HeaderFields, signing_key: bytes
) -> VerifiedSignature:
    """`verify` without the kernel: it has the last word on unusual requests, and the words for refusals."""
    path, query = split_target(target)
    parameters = parse_query(query)
    if claim.form is SignatureForm.QUERY:
        parameters = [(name, value) for name, value in parameters if name != b"X-Amz-Signature"]
    block, missing = canonical_headers(headers, claim.signed_headers)
    if missing:
        raise _missing_headers(claim, missing)
    ordered = canonical_query(parameters)
    hash_field = claim.payload_hash.encode("ascii")
    first = ("", "")
    for candidate in canonical_paths(path):
        request = canonical_request(method, candidate, ordered, block, claim.signed_headers, hash_field)
        text = string_to_sign(claim.timestamp, claim.scope, request)
        if hmac.compare_digest(signature_of(signing_key, text), claim.signature):
            return verified_claim(claim, signing_key)
        first = first if first[0] else (text, request.decode("utf-8", "replace"))
    raise SignatureDoesNotMatch(claim.access_key, claim.signature, first[0], first[1])


def verified_claim(claim: SignatureClaim, signing_key: bytes) -> VerifiedSignature:
    """The claim as proven. Only for callers that have just compared its signature in constant time."""
    return VerifiedSignature(
        form=claim.form,
        access_key=claim.access_key,
        scope=claim.scope,
        timestamp=claim.timestamp,
        signature=claim.signature,
        payload=claim.payload,
        payload_sha256=claim.payload_hash if claim.payload is PayloadMode.SHA256 else "",
        signing_key=signing_key,
    )


def _missing_headers(
    claim: SignatureClaim, missing: list[bytes]
) -> AuthorizationHeaderMalformed | AuthorizationQueryParametersError:
    # S3 would compute with an empty value; naming the header a proxy has dropped tells the author of a client more.
    names = b";".join(missing).decode("latin-1")
    reason = f"the signed headers name what was not sent: {names}"
    if claim.form is SignatureForm.QUERY:
        return AuthorizationQueryParametersError(reason)
    return AuthorizationHeaderMalformed(reason)
