"""Signature Version 2 in presigned URLs and form uploads, and nowhere else: what boto3 makes when nobody tells it
otherwise.

The body is not covered, so the bearer of a URL for PUT chooses it; that is as true of a Version 4 URL. The
Authorization header of Version 2 is refused: every client that sends one can sign Version 4.
Source: S3 User Guide, *Signing and authenticating REST requests (AWS signature version 2)*, "Query string request
authentication alternative", "Browser-based uploads using POST".
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rs3d.access.canonical import HeaderFields, canonical_value, parse_query, split_target
from rs3d.access.errors import InvalidToken, RequestExpired, SignatureDoesNotMatch
from rs3d.access.hoisting import HOISTED_BY_VERSION_2
from rs3d.access.sigv4 import CredentialScope, PayloadMode, SignatureForm, VerifiedSignature
from rs3d.access.timestamps import format_extended
from rs3d.clock import NANOSECONDS_PER_SECOND
from rs3d.errors import InvalidArgument

_MARKS: Final = frozenset((b"AWSAccessKeyId", b"Signature", b"Expires"))
_SIGNED_SUBRESOURCES: Final = frozenset(
    (
        b"accelerate",
        b"acl",
        b"analytics",
        b"cors",
        b"defaultObjectAcl",
        b"delete",
        b"inventory",
        b"lifecycle",
        b"location",
        b"logging",
        b"metrics",
        b"notification",
        b"partNumber",
        b"policy",
        b"replication",
        b"requestPayment",
        b"response-cache-control",
        b"response-content-disposition",
        b"response-content-encoding",
        b"response-content-language",
        b"response-content-type",
        b"response-expires",
        b"restore",
        b"storageClass",
        b"tagging",
        b"torrent",
        b"uploadId",
        b"uploads",
        b"versionId",
        b"versioning",
        b"versions",
        b"website",
    )
)
"""Parameters that are part of the signature; any other may be added to the URL by whoever holds it (see `verify`)."""
_UNSIGNED_ALLOWED: Final = _MARKS | {b"x-id"}


@dataclass(frozen=True, slots=True)
class PresignedV2:
    """What a URL says about its signer: within its time, nothing proven yet."""

    access_key: str
    signature: str
    expires: str


def find_presigned_v2(target: bytes, *, now_ns: int) -> PresignedV2 | None:
    """The claim in a Version 2 URL, or None when it is not one.

    Raises:
        InvalidArgument: a mark is malformed or given twice, or a parameter is there that the signature does not cover.
        RequestExpired
    """
    if b"AWSAccessKeyId=" not in target:
        return None
    parameters = parse_query(split_target(target)[1])
    found = {name: value for name, value in parameters if name in _MARKS}
    if len(found) != len(_MARKS) or sum(name in _MARKS for name, _ in parameters) != len(_MARKS):
        reason = "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"
        raise InvalidArgument("AWSAccessKeyId", "", reason)
    for name, _ in parameters:
        if not (name in _UNSIGNED_ALLOWED or name in _SIGNED_SUBRESOURCES or _is_hoisted(name)):
            # Version 2 leaves it out of the signature: whoever holds the URL could change what is asked for.
            raise InvalidArgument(name.decode("latin-1"), "", "this parameter is not covered by a Version 2 signature")
    expires = found[b"Expires"].decode("latin-1")
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 11):
        raise InvalidArgument("Expires", expires, "Expires must be seconds since 1970")
    now_s = now_ns // NANOSECONDS_PER_SECOND
    if now_s > int(expires):
        raise RequestExpired(0, format_extended(int(expires)), format_extended(now_s))
    access_key = found[b"AWSAccessKeyId"].decode("latin-1")
    return PresignedV2(access_key, found[b"Signature"].decode("latin-1"), expires)


@dataclass(frozen=True, slots=True)
class PostV2:
    """What a form says about its signer, nothing proven yet."""

    access_key: str
    signature: str


def find_post_v2(fields: Mapping[str, str]) -> PostV2 | None:
    """The claim in a form's fields (lower-case names), or None when it is not one of Version 2.

    Its limits in time are its policy's, as in Version 4.

    Raises:
        InvalidArgument: a field is missing, or Version 4's are there as well.
        InvalidToken: a session token is present.
    """
    if "awsaccesskeyid" not in fields:
        return None
    for name, shown in (("policy", "policy"), ("signature", "signature"), ("awsaccesskeyid", "AWSAccessKeyId")):
        if not fields.get(name):
            raise InvalidArgument(shown, "", f"Bucket POST must contain a field named '{shown}'.")
    if "x-amz-signature" in fields:
        raise InvalidArgument("x-amz-signature", "", "only one auth mechanism allowed")
    if "x-amz-security-token" in fields:
        raise InvalidToken("x-amz-security-token")
    return PostV2(fields["awsaccesskeyid"], fields["signature"])


def verify_post_v2(claim: PostV2, policy_field: str, secret: str) -> None:
    """Prove that the holder of `secret` signed this policy, given exactly as posted.

    Raises:
        SignatureDoesNotMatch
    """
    _compare(claim.access_key, claim.signature, policy_field.encode("utf-8"), secret)


def string_to_sign_v2(method: str, target: bytes, headers: HeaderFields, expires: str, bucket_of_host: str) -> bytes:
    """The text that is signed. `bucket_of_host`: the bucket where the host names it, else empty."""
    path, query = split_target(target)
    parameters = parse_query(query)
    sent = {name for name, _ in headers}
    hoisted = [(name.lower(), value) for name, value in parameters if _is_hoisted(name) and name.lower() not in sent]
    values: dict[bytes, bytes] = {}
    amazon: dict[bytes, list[bytes]] = {}
    for name, value in (*headers, *hoisted):
        if name in HOISTED_BY_VERSION_2:
            values[name] = value
        elif name.startswith(b"x-amz-"):
            amazon.setdefault(name, []).append(canonical_value(value))
    signed = sorted(pair for pair in parameters if pair[0] in _SIGNED_SUBRESOURCES)
    resource = (b"/" + bucket_of_host.encode() if bucket_of_host else b"") + path
    if not bucket_of_host and path.count(b"/") == 1 and len(path) > 1:
        # A bucket by itself is signed as `/bucket/` by every SDK, whatever the URL says.
        resource += b"/"
    if signed:
        resource += b"?" + b"&".join(name + b"=" + value if value else name for name, value in signed)
    lines = [
        method.encode("ascii"),
        values.get(b"content-md5", b""),
        values.get(b"content-type", b""),
        expires.encode("ascii"),
        *(name + b":" + b",".join(amazon[name]) for name in sorted(amazon)),
        resource,
    ]
    return b"\n".join(lines)


def verify_v2(
    claim: PresignedV2, method: str, target: bytes, headers: HeaderFields, secret: str, bucket_of_host: str
) -> VerifiedSignature:
    """Prove that the holder of `secret` signed this URL.

    Raises:
        SignatureDoesNotMatch
    """
    text = string_to_sign_v2(method, target, headers, claim.expires, bucket_of_host)
    _compare(claim.access_key, claim.signature, text, secret)
    return VerifiedSignature(
        form=SignatureForm.QUERY,
        access_key=claim.access_key,
        scope=CredentialScope("", ""),
        timestamp="",
        signature=claim.signature,
        payload=PayloadMode.UNSIGNED,
        payload_sha256="",
        signing_key=b"",
    )


def _is_hoisted(parameter: bytes) -> bool:
    name = parameter.lower()
    return name.startswith(b"x-amz-") or name in HOISTED_BY_VERSION_2


def _compare(access_key: str, signature: str, text: bytes, secret: str) -> None:
    expected = base64.b64encode(hmac.digest(secret.encode(), text, "sha1"))
    if not hmac.compare_digest(expected, signature.encode("utf-8")):
        raise SignatureDoesNotMatch(access_key, signature, text.decode("utf-8", "replace"))
