"""The signed policy of a form upload: who may post which fields to which bucket until when.

Source: S3 API reference, *POST Policy*, *Authenticating Requests in Browser-Based Uploads Using POST (SigV4)*.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeGuard

from rs3d.access.authorization import ClaimMalformed, parse_credential
from rs3d.access.errors import (
    FormFileTooSmall,
    InvalidPolicyDocument,
    InvalidToken,
    PostPolicyViolated,
    SignatureDoesNotMatch,
    UnsupportedAuthorization,
)
from rs3d.access.sigv4 import (
    ALGORITHM,
    UNSIGNED_PAYLOAD,
    PayloadMode,
    SignatureClaim,
    SignatureForm,
    VerifiedSignature,
    signature_of,
    verified_claim,
)
from rs3d.access.timestamps import parse_basic
from rs3d.clock import NANOSECONDS_PER_SECOND
from rs3d.errors import EntityTooLarge, InvalidArgument

_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_EXPIRATION = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})?(?:Z|\+00:?00)"
)
# S3 documents `\$` as an escape in policies although JSON has none.
_ESCAPED_DOLLAR = re.compile(r"(?<!\\)((?:\\\\)*)\\\$")
# What proves the policy cannot be covered by it; the file is covered by content-length-range.
_UNCOVERED = frozenset(("policy", "x-amz-signature", "signature", "awsaccesskeyid", "file"))
_IGNORED_PREFIX = "x-ignore-"
_MAXIMUM_CONDITIONS = 200

FormFields = Mapping[str, str]
"""The fields of a form by lower-case name, as `formdata.FormReader.fields` gives them."""


@dataclass(frozen=True, slots=True)
class Equals:
    """The field has exactly this value."""

    field: str
    value: str

    def holds(self, actual: str) -> bool:
        return actual == self.value


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The field begins so; each item of a list of content types does."""

    field: str
    prefix: str

    def holds(self, actual: str) -> bool:
        if self.field == "content-type" and "," in actual:
            return all(item.strip().startswith(self.prefix) for item in actual.split(","))
        return actual.startswith(self.prefix)


Condition = Equals | StartsWith


@dataclass(frozen=True, slots=True)
class PostPolicy:
    """A policy document."""

    expires_s: int
    """Seconds since 1970."""
    conditions: tuple[Condition, ...]
    minimum_bytes: int = 0
    maximum_bytes: int | None = None

    @classmethod
    def parse(cls, encoded: str) -> PostPolicy:
        """Read the form's `policy` field: base64 of JSON.

        Raises:
            InvalidPolicyDocument: anything in it is not as S3 documents it.
        """
        document = _load(encoded)
        unknown = set(document) - {"expiration", "conditions"}
        if unknown:
            raise InvalidPolicyDocument(f"Unexpected: {', '.join(sorted(unknown))[:100]}")
        conditions = document.get("conditions")
        if not isinstance(conditions, list) or not 1 <= len(conditions) <= _MAXIMUM_CONDITIONS:
            raise InvalidPolicyDocument("Policy missing conditions.")
        found: list[Condition] = []
        minimum, maximum = 0, None
        for item in conditions:
            if isinstance(item, list) and item and str(item[0]).lower() == "content-length-range":
                low, high = _range(item)
                minimum = max(minimum, low)
                maximum = high if maximum is None else min(maximum, high)
            else:
                found += _conditions(item)
        return cls(_expiration(document.get("expiration")), tuple(found), minimum, maximum)

    def check(self, fields: FormFields, *, bucket: str, key: str, now_ns: int) -> None:
        """Refuse a form that its policy does not allow. Its file's size is not known yet: see `check_size`.

        Args:
            fields: as posted.
            bucket: that the request's URL names; a `bucket` field may only repeat it.
            key: the key that the object will have, `${filename}` replaced.
            now_ns: wall clock.

        Raises:
            PostPolicyViolated: with the first condition that does not hold, or the field that none covers.
        """
        if now_ns // NANOSECONDS_PER_SECOND >= self.expires_s:
            raise PostPolicyViolated("Policy expired.")
        actual = {name: value for name, value in fields.items() if name not in _UNCOVERED}
        if actual.get("bucket", bucket) != bucket:
            raise PostPolicyViolated("the bucket field names another bucket")
        actual |= {"bucket": bucket, "key": key}
        for condition in self.conditions:
            value = actual.get(condition.field)
            if value is None and isinstance(condition, StartsWith):
                value = ""  # a condition that any value meets is met by none as well
            if value is None or not condition.holds(value):
                raise PostPolicyViolated(f"Policy Condition failed: {_shown(condition)}")
        covered = {condition.field for condition in self.conditions}
        for name in actual:
            if name not in covered and not name.startswith(_IGNORED_PREFIX):
                raise PostPolicyViolated(f"Extra input fields: {name}")

    def check_maximum(self, size_bytes: int) -> None:
        """Refuse a file that is too large already; cheap enough to be called for every piece of it.

        Raises:
            EntityTooLarge
        """
        if self.maximum_bytes is not None and size_bytes > self.maximum_bytes:
            raise EntityTooLarge(size_bytes, self.maximum_bytes)

    def check_size(self, size_bytes: int) -> None:
        """Refuse a complete file whose size is outside the content-length-range.

        Raises:
            EntityTooLarge, FormFileTooSmall
        """
        self.check_maximum(size_bytes)
        if size_bytes < self.minimum_bytes:
            raise FormFileTooSmall(size_bytes, self.minimum_bytes)


def resolve_key(template: str, filename: str) -> str:
    """The object's key: the form's `key` with every `${filename}` replaced by the posted file's name."""
    return template.replace("${filename}", filename)


def find_post_claim(fields: FormFields, *, required_region: str | None = None) -> SignatureClaim | None:
    """What a form says about its signer; None if it has neither policy nor signature (anonymous).

    A form has no clock check: its policy's expiration is the limit, and `PostPolicy.check` looks at that.

    Raises:
        UnsupportedAuthorization: Signature Version 2, or another algorithm.
        InvalidArgument: a field is missing or malformed.
        InvalidToken: a session token is present.
    """
    if "awsaccesskeyid" in fields or ("signature" in fields and "x-amz-signature" not in fields):
        raise UnsupportedAuthorization("AWS (Signature Version 2)")
    if "policy" not in fields and "x-amz-signature" not in fields:
        return None
    for name in ("policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"):
        if not fields.get(name):
            raise InvalidArgument(name, "", f"Bucket POST must contain a field named '{name}'.")
    if fields["x-amz-algorithm"] != ALGORITHM:
        raise UnsupportedAuthorization(fields["x-amz-algorithm"][:64])
    if "x-amz-security-token" in fields:
        raise InvalidToken("x-amz-security-token")
    try:
        access_key, scope = parse_credential(fields["x-amz-credential"], required_region)
    except ClaimMalformed as problem:
        raise InvalidArgument("x-amz-credential", fields["x-amz-credential"], problem.reason) from None
    timestamp = fields["x-amz-date"]
    if parse_basic(timestamp) is None or not timestamp.startswith(scope.date):
        raise InvalidArgument("x-amz-date", timestamp, "X-Amz-Date must be the time of the Credential's day, ISO8601")
    if not _SIGNATURE.fullmatch(fields["x-amz-signature"]):
        raise InvalidArgument("x-amz-signature", "", "the signature must be 64 lower-case hex digits")
    return SignatureClaim(
        form=SignatureForm.POST_FORM,
        access_key=access_key,
        scope=scope,
        timestamp=timestamp,
        signed_headers=(),
        signature=fields["x-amz-signature"],
        payload=PayloadMode.UNSIGNED,
        payload_hash=UNSIGNED_PAYLOAD,
    )


def verify_post(claim: SignatureClaim, policy_field: str, signing_key: bytes) -> VerifiedSignature:
    """Prove that the holder of the secret behind `signing_key` signed this policy.

    Args:
        claim: what `find_post_claim` found.
        policy_field: the form's `policy` exactly as posted; it is what is signed.
        signing_key: of the claim's access key and scope.

    Raises:
        SignatureDoesNotMatch
    """
    expected = signature_of(signing_key, policy_field)
    if not hmac.compare_digest(expected, claim.signature):
        raise SignatureDoesNotMatch(claim.access_key, claim.signature, policy_field)
    return verified_claim(claim, signing_key)


def _load(encoded: str) -> dict[str, object]:
    try:
        text = base64.b64decode("".join(encoded.split()), validate=True).decode("utf-8")
        loaded: object = json.loads(_ESCAPED_DOLLAR.sub(r"\1$", text), object_pairs_hook=_unique)
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidPolicyDocument("Invalid Policy: it is not base64 of valid JSON.") from None
    if not isinstance(loaded, dict):
        raise InvalidPolicyDocument("Invalid Policy: it is not a JSON object.")
    return loaded


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidPolicyDocument("a name is given twice")
    return found


def _expiration(value: object) -> int:
    match = _EXPIRATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidPolicyDocument("Policy has no valid expiration.")
    try:
        year, month, day, hour, minute, second = (int(group) for group in match.groups())
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        raise InvalidPolicyDocument("Policy has no valid expiration.") from None


def _conditions(item: object) -> list[Condition]:
    if isinstance(item, dict) and item:
        return [Equals(_name(name), _text(value)) for name, value in item.items()]
    if isinstance(item, list) and len(item) == 3 and isinstance(item[1], str) and item[1].startswith("$"):
        field, value = _name(item[1][1:]), _text(item[2])
        operator = str(item[0]).lower()
        if operator == "eq":
            return [Equals(field, value)]
        if operator == "starts-with":
            return [StartsWith(field, value)]
    raise InvalidPolicyDocument(f"Invalid Condition: {json.dumps(item)[:200]}")


def _name(text: object) -> str:
    if not isinstance(text, str) or not text:
        raise InvalidPolicyDocument("Invalid Condition: a field has no name.")
    return text.lower()


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidPolicyDocument("Invalid Condition: a value is not a string.")
    return str(value)


def _range(item: list[object]) -> tuple[int, int]:
    bounds = [int(value) for value in item[1:] if _is_size(value)]
    if len(item) != 3 or len(bounds) != 2:
        raise InvalidPolicyDocument("Invalid content-length-range: it needs two sizes.")
    return bounds[0], bounds[1]


def _is_size(value: object) -> TypeGuard[int | str]:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return value >= 0
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20


def _shown(condition: Condition) -> str:
    if isinstance(condition, Equals):
        return f'["eq", "${condition.field}", "{condition.value}"]'
    return f'["starts-with", "${condition.field}", "{condition.prefix}"]'
