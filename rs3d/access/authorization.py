"""The signature a request claims to have: in its Authorization header, or in the X-Amz-… parameters of a presigned URL.

Everything that can be refused without knowing a secret is refused here: grammar, scope, clock, lifetime, headers that
should have been signed. Source: S3 API reference, *Using the Authorization Header*, *Using Query Parameters*.
"""

from __future__ import annotations

import itertools
import re
from functools import lru_cache

from rs3d.access.canonical import HeaderFields, QueryParameters, parse_query, split_target
from rs3d.access.errors import (
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    ContentHashMissing,
    HeadersNotSigned,
    InvalidToken,
    RequestExpired,
    RequestNotValidYet,
    RequestTimeTooSkewed,
    UnsupportedAuthorization,
)
from rs3d.access.sigv4 import (
    ALGORITHM,
    SERVICE,
    TERMINATOR,
    UNSIGNED_PAYLOAD,
    CredentialScope,
    PayloadMode,
    SignatureClaim,
    SignatureForm,
)
from rs3d.access.timestamps import format_basic, format_extended, parse_basic, parse_http_date
from rs3d.clock import NANOSECONDS_PER_SECOND
from rs3d.errors import InvalidArgument, NotImplementedHere, Rs3dError

MAXIMUM_SKEW_S = 15 * 60
"""How far a signer's clock may be from ours, either way: S3's own figure."""
MAXIMUM_EXPIRES_S = 7 * 24 * 3600
"""The longest life of a presigned URL: S3's own figure."""

_ALGORITHM_V4A = "AWS4-ECDSA-P256-SHA256"
# Access keys of AWS have 16 to 128 word characters; stores migrated from elsewhere bring dots, dashes and the like.
_ACCESS_KEY = re.compile(r"[!-+\--.0-~]{1,128}")
_SCOPE_DATE = re.compile(r"[0-9]{8}")
_SCOPE_REGION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_SIGNATURE_DIGITS = 64
_HEADER_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FIELDS = re.compile(r"Credential=([^, ]*), ?SignedHeaders=([^, ]*), ?Signature=([^, ]*)")
_FIELD = re.compile(r" *(Credential|SignedHeaders|Signature)=([^, ]*) *")
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_MODES = {mode.value: mode for mode in PayloadMode if mode is not PayloadMode.SHA256}
_QUERY_MARKS = (b"X-Amz-Algorithm", b"X-Amz-Signature", b"X-Amz-Credential")
_QUERY_NEEDS = (
    b"X-Amz-Algorithm",
    b"X-Amz-Credential",
    b"X-Amz-Date",
    b"X-Amz-Expires",
    b"X-Amz-SignedHeaders",
    b"X-Amz-Signature",
)


def find_claim(
    target: bytes, headers: HeaderFields, *, now_ns: int, required_region: str | None = None
) -> SignatureClaim | None:
    """What the request says about its signer, or None if it is anonymous.

    Args:
        target: the request target as sent.
        headers: as received, the names in lower case.
        now_ns: wall clock.
        required_region: the only region taken in the scope; None takes any.

    Raises:
        AuthorizationHeaderMalformed, AuthorizationQueryParametersError: broken grammar or scope.
        UnsupportedAuthorization: another mechanism, such as Signature Version 2.
        NotImplementedHere: Signature Version 4A (ECDSA).
        InvalidArgument: two mechanisms at once, or a malformed x-amz-content-sha256.
        ContentHashMissing: header authorization without x-amz-content-sha256.
        HeadersNotSigned: host or an x-amz-… header is not covered.
        RequestTimeTooSkewed, RequestExpired, RequestNotValidYet: not now.
        InvalidToken: a session token is present.
    """
    fields = _Fields(headers)
    authorization = fields.first(b"authorization")
    parameters: QueryParameters = []
    presigned = False
    if b"?" in target:
        parameters = parse_query(split_target(target)[1])
        in_query = {name for name, _ in parameters}
        presigned = not in_query.isdisjoint(_QUERY_MARKS)
        if b"AWSAccessKeyId" in in_query and b"Signature" in in_query:
            raise UnsupportedAuthorization("AWS (Signature Version 2)")
    if authorization is None:
        return _presigned_claim(parameters, fields, now_ns, required_region) if presigned else None
    if presigned or b"authorization" in fields.repeated:
        value = authorization.partition(b" ")[0].decode("latin-1")
        raise InvalidArgument("Authorization", value, "only one auth mechanism allowed")
    return _header_claim(authorization, fields, now_ns, required_region)


class _Fields:
    """A request's header fields by name: one value of each, and the names that are sent more than once."""

    __slots__ = ("_values", "repeated")

    def __init__(self, headers: HeaderFields) -> None:
        self._values = dict(headers)
        self.repeated: frozenset[bytes] = frozenset()
        if len(self._values) != len(headers):
            names = [name for name, _ in headers]
            self.repeated = frozenset(name for name in self._values if names.count(name) > 1)

    def first(self, name: bytes) -> bytes | None:
        """A value of `name`; which one is unspecified if it is repeated."""
        return self._values.get(name)

    def single(self, name: bytes) -> str | None:
        """The only value of `name`, or None.

        Raises:
            InvalidArgument: it is sent more than once.
        """
        if name in self.repeated:
            raise InvalidArgument(name.decode("ascii"), "", "the header is sent more than once")
        value = self._values.get(name)
        return None if value is None else value.strip().decode("latin-1")

    def require_coverage(self, covered: frozenset[bytes]) -> None:
        """Refuse x-amz-… headers, and a host, that are not signed.

        Content-Type and Content-MD5 may stay unsigned, as on S3: presigned uploads send them freely, the first
        describes the caller's own bytes, the second can only refuse them. An x-amz-… header could change what is
        done.
        """
        loose = [name for name in self._values if name[:6] == b"x-amz-" and name not in covered]
        if b"host" not in covered:
            loose.append(b"host")
        if loose:
            raise HeadersNotSigned(b", ".join(sorted(loose)).decode("latin-1"))
        if b"x-amz-security-token" in self._values:
            raise InvalidToken("x-amz-security-token")


def _header_claim(authorization: bytes, sent: _Fields, now_ns: int, required_region: str | None) -> SignatureClaim:
    access_key, scope, signed, covered, signature = _parsed_authorization(authorization, required_region)
    sent.require_coverage(covered)
    timestamp = _header_timestamp(sent, scope)
    payload_hash = sent.single(b"x-amz-content-sha256")
    if payload_hash is None:
        raise ContentHashMissing()
    _check_skew(timestamp, now_ns)
    return SignatureClaim(
        form=SignatureForm.HEADER,
        access_key=access_key,
        scope=scope,
        timestamp=timestamp,
        signed_headers=signed,
        signature=signature,
        payload=payload_mode(payload_hash),
        payload_hash=payload_hash,
    )


def find_signer(
    before_signature: bytes, required_region: str | None
) -> tuple[str, CredentialScope, tuple[bytes, ...]] | None:
    """Access key, scope and signed headers of an Authorization header without the 64 digits it ends in; None where it
    does not end in them as clients write it, or would be refused."""
    if not before_signature.endswith(b"Signature="):
        return None
    try:
        access_key, scope, signed, _covered = _known_signer(before_signature, required_region)
    except Rs3dError:
        return None
    return access_key, scope, signed


_Signer = tuple[str, CredentialScope, tuple[bytes, ...], frozenset[bytes]]


def _parsed_authorization(
    authorization: bytes, required_region: str | None
) -> tuple[str, CredentialScope, tuple[bytes, ...], frozenset[bytes], str]:
    """Access key, scope, signed headers (in order, and as a set) and signature of an Authorization header.

    All but the signature is the same for thousands of requests of a client, and comes first in what clients send.
    """
    signature = authorization[-_SIGNATURE_DIGITS:].decode("latin-1")
    if authorization.endswith(b"Signature=", 0, -_SIGNATURE_DIGITS) and _SIGNATURE.fullmatch(signature):
        return *_known_signer(authorization[:-_SIGNATURE_DIGITS], required_region), signature
    return _parse_authorization(authorization, required_region)


@lru_cache(maxsize=256)
def _known_signer(before_signature: bytes, required_region: str | None) -> _Signer:
    # Whole but for the digits, it is read like any other: nothing is known that a full parse would not have told.
    return _parse_authorization(before_signature + b"0" * _SIGNATURE_DIGITS, required_region)[:4]


def _parse_authorization(
    authorization: bytes, required_region: str | None
) -> tuple[str, CredentialScope, tuple[bytes, ...], frozenset[bytes], str]:
    text = authorization.decode("latin-1")
    mechanism, _, rest = text.partition(" ")
    if mechanism != ALGORITHM:
        raise _unsupported(mechanism)
    credential, names, signature = _authorization_fields(rest)
    try:
        access_key, scope = parse_credential(credential, required_region)
        signature = _signature(signature)
        signed, covered = _signed_headers(names)
    except ClaimMalformed as problem:
        raise AuthorizationHeaderMalformed(problem.reason, problem.region) from None
    return access_key, scope, signed, covered, signature


def _presigned_claim(
    parameters: QueryParameters, sent: _Fields, now_ns: int, required_region: str | None
) -> SignatureClaim:
    values: dict[bytes, str] = {}
    for name, value in parameters:
        if name.startswith(b"X-Amz-"):
            if name in values:
                raise AuthorizationQueryParametersError(f"{name.decode('latin-1')} is given twice")
            values[name] = value.decode("latin-1")
    algorithm = values.get(b"X-Amz-Algorithm", "")
    if algorithm == _ALGORITHM_V4A:
        raise _unsupported(algorithm)
    if any(not values.get(name) for name in _QUERY_NEEDS):
        raise AuthorizationQueryParametersError(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
    if algorithm != ALGORITHM:
        raise AuthorizationQueryParametersError(f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    if any(name.lower() == b"x-amz-security-token" for name, _ in parameters):
        raise InvalidToken("X-Amz-Security-Token")
    try:
        access_key, scope = parse_credential(values[b"X-Amz-Credential"], required_region)
        signature = _signature(values[b"X-Amz-Signature"])
        signed, covered = _signed_headers(values[b"X-Amz-SignedHeaders"])
        expires_s = _expires(values[b"X-Amz-Expires"])
    except ClaimMalformed as problem:
        raise AuthorizationQueryParametersError(problem.reason, problem.region) from None
    sent.require_coverage(covered)
    timestamp = values[b"X-Amz-Date"]
    signed_s = parse_basic(timestamp)
    if signed_s is None:
        raise AuthorizationQueryParametersError(
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        )
    if not timestamp.startswith(scope.date):
        raise AuthorizationQueryParametersError(f"Invalid credential date {scope.date!r}: X-Amz-Date is of another day")
    _check_lifetime(signed_s, expires_s, now_ns)
    payload_hash = values.get(b"X-Amz-Content-Sha256") or sent.single(b"x-amz-content-sha256") or UNSIGNED_PAYLOAD
    return SignatureClaim(
        form=SignatureForm.QUERY,
        access_key=access_key,
        scope=scope,
        timestamp=timestamp,
        signed_headers=signed,
        signature=signature,
        payload=payload_mode(payload_hash),
        payload_hash=payload_hash,
        expires_s=expires_s,
    )


def _authorization_fields(text: str) -> tuple[str, str, str]:
    """Credential, SignedHeaders and Signature of an Authorization header, which may come in any order."""
    usual = _FIELDS.fullmatch(text)
    if usual is not None:
        return usual[1], usual[2], usual[3]
    fields: dict[str, str] = {}
    for piece in text.split(","):
        match = _FIELD.fullmatch(piece)
        if match is None or match[1] in fields:
            raise AuthorizationHeaderMalformed("it must name Credential, SignedHeaders and Signature once each")
        fields[match[1]] = match[2]
    for name in ("Credential", "SignedHeaders", "Signature"):
        if name not in fields:
            raise AuthorizationHeaderMalformed(f"it has no {name}")
    return fields["Credential"], fields["SignedHeaders"], fields["Signature"]


class ClaimMalformed(Exception):
    """A shared part of both forms is wrong; the form's own error is raised from it."""

    def __init__(self, reason: str, region: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.region = region


@lru_cache(maxsize=1_024)
def parse_credential(credential: str, required_region: str | None = None) -> tuple[str, CredentialScope]:
    """Access key and scope of `AKID/20130524/us-east-1/s3/aws4_request`.

    Raises:
        ClaimMalformed: broken grammar, or a scope that is not ours.
    """
    pieces = credential.split("/")
    if len(pieces) != 5:
        raise ClaimMalformed(
            'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request"'
        )
    access_key, date, region, service, terminator = pieces
    if not _ACCESS_KEY.fullmatch(access_key):
        raise ClaimMalformed("the access key of the Credential is mal-formed")
    if not _SCOPE_DATE.fullmatch(date) or parse_basic(date + "T000000Z") is None:
        raise ClaimMalformed(
            f'incorrect date format "{date}"; this date in the credential must be in the format "yyyyMMdd"'
        )
    if not _SCOPE_REGION.fullmatch(region):
        raise ClaimMalformed(f"the region {region!r} is mal-formed")
    if required_region is not None and region != required_region:
        raise ClaimMalformed(f"the region {region!r} is wrong; expecting {required_region!r}", required_region)
    if service != SERVICE:
        raise ClaimMalformed(f'incorrect service "{service}"; this endpoint belongs to "{SERVICE}"')
    if terminator != TERMINATOR:
        raise ClaimMalformed(f'incorrect terminal "{terminator}"; this endpoint uses "{TERMINATOR}"')
    return access_key, CredentialScope(date, region, service)


def payload_mode(value: str) -> PayloadMode:
    """What a value of x-amz-content-sha256 says about the body.

    Raises:
        InvalidArgument: it is neither hex digits of a SHA-256 nor one of S3's words.
        NotImplementedHere: a Signature Version 4A mode.
    """
    mode = _MODES.get(value)
    if mode is not None:
        return mode
    if _SHA256_HEX.fullmatch(value):
        return PayloadMode.SHA256
    if value.startswith("STREAMING-" + _ALGORITHM_V4A):
        raise NotImplementedHere(f"Signature Version 4A ({value})")
    raise InvalidArgument(
        "x-amz-content-sha256",
        value,
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
    )


def _unsupported(mechanism: str) -> UnsupportedAuthorization | NotImplementedHere:
    if mechanism == _ALGORITHM_V4A:
        return NotImplementedHere(f"Signature Version 4A ({mechanism})")
    return UnsupportedAuthorization(mechanism[:64])


def _signature(text: str) -> str:
    if not _SIGNATURE.fullmatch(text):
        raise ClaimMalformed("the Signature must be 64 lower-case hex digits")
    return text


@lru_cache(maxsize=256)
def _signed_headers(text: str) -> tuple[tuple[bytes, ...], frozenset[bytes]]:
    names = tuple(text.encode("latin-1").split(b";"))
    if any(not _HEADER_NAME.fullmatch(name) for name in names):
        raise ClaimMalformed("SignedHeaders must be lower-case header names joined by semicolons")
    if any(left >= right for left, right in itertools.pairwise(names)):
        raise ClaimMalformed("SignedHeaders must be sorted and name each header once")
    return names, frozenset(names)


def _expires(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise ClaimMalformed("X-Amz-Expires should be a number")
    seconds = int(text)
    if seconds < 1:
        raise ClaimMalformed("X-Amz-Expires must be at least 1 second")
    if seconds > MAXIMUM_EXPIRES_S:
        raise ClaimMalformed(f"X-Amz-Expires must be less than a week (in seconds); that is, {MAXIMUM_EXPIRES_S}")
    return seconds


def _header_timestamp(sent: _Fields, scope: CredentialScope) -> str:
    amz_date = sent.single(b"x-amz-date")
    if amz_date is not None:
        if parse_basic(amz_date) is None:
            raise AuthorizationHeaderMalformed("x-amz-date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        timestamp = amz_date
    else:
        date = sent.single(b"date") or ""
        epoch_s = parse_http_date(date)
        if epoch_s is None:
            epoch_s = parse_basic(date)
        if epoch_s is None:
            raise AuthorizationHeaderMalformed("a valid x-amz-date or Date header is required")
        timestamp = format_basic(epoch_s)
    if not timestamp.startswith(scope.date):
        raise AuthorizationHeaderMalformed(f"the date {scope.date} of the Credential is not the day of {timestamp}")
    return timestamp


def _check_skew(timestamp: str, now_ns: int) -> None:
    now_s = now_ns // NANOSECONDS_PER_SECOND
    signed_s = parse_basic(timestamp)
    if signed_s is None or abs(now_s - signed_s) > MAXIMUM_SKEW_S:
        raise RequestTimeTooSkewed(timestamp, format_extended(now_s), MAXIMUM_SKEW_S * 1_000)


def _check_lifetime(signed_s: int, expires_s: int, now_ns: int) -> None:
    now_s = now_ns // NANOSECONDS_PER_SECOND
    if signed_s - now_s > MAXIMUM_SKEW_S:
        raise RequestNotValidYet(format_extended(signed_s), format_extended(now_s))
    if now_s > signed_s + expires_s:
        raise RequestExpired(expires_s, format_extended(signed_s + expires_s), format_extended(now_s))
