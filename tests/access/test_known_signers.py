"""What precedes a signature is parsed once; nothing that a whole parse refuses gets by for it."""

from __future__ import annotations

import time

import pytest

from rs3d.access.authorization import find_claim
from rs3d.access.canonical import HeaderFields
from rs3d.access.errors import AuthorizationHeaderMalformed
from rs3d.access.signing import SigningIdentity, sign_request

NOW_NS = time.time_ns()
TARGET = b"/bucket/key"


def signed(access_key: str = "KNOWNSIGNER1") -> list[tuple[bytes, bytes]]:
    request = sign_request(
        SigningIdentity(access_key, "secretsecret"),
        "GET",
        TARGET,
        [(b"host", b"h")],
        payload_hash="UNSIGNED-PAYLOAD",
        now_ns=NOW_NS,
    )
    return list(request.headers)


def with_authorization(headers: list[tuple[bytes, bytes]], value: bytes) -> HeaderFields:
    return [(name, value if name == b"authorization" else old) for name, old in headers]


def authorization_of(headers: list[tuple[bytes, bytes]]) -> bytes:
    return dict(headers)[b"authorization"]


def test_each_request_has_its_own_signature() -> None:
    headers = signed()
    whole = authorization_of(headers)
    for digit in b"0123456789abcdef":
        changed = whole[:-64] + bytes([digit]) * 64
        claim = find_claim(TARGET, with_authorization(headers, changed), now_ns=NOW_NS)
        assert claim is not None
        assert (claim.access_key, claim.signature) == ("KNOWNSIGNER1", chr(digit) * 64)


def test_a_known_signer_with_a_broken_signature_is_refused() -> None:
    headers = signed()
    assert find_claim(TARGET, headers, now_ns=NOW_NS) is not None
    whole = authorization_of(headers)
    for broken in (whole[:-1], whole + b"0", whole[:-1] + b"G", whole[:-64], whole[:-64] + b"A" * 64):
        with pytest.raises(AuthorizationHeaderMalformed):
            find_claim(TARGET, with_authorization(headers, broken), now_ns=NOW_NS)


def test_a_signer_known_for_any_region_is_refused_where_one_is_required() -> None:
    headers = signed()
    assert find_claim(TARGET, headers, now_ns=NOW_NS) is not None
    with pytest.raises(AuthorizationHeaderMalformed):
        find_claim(TARGET, headers, now_ns=NOW_NS, required_region="elsewhere-1")


def test_fields_in_another_order_mean_the_same() -> None:
    headers = signed()
    scheme, _, rest = authorization_of(headers).partition(b" ")
    first = find_claim(TARGET, headers, now_ns=NOW_NS)
    turned = scheme + b" " + b", ".join(reversed(rest.split(b", ")))
    assert find_claim(TARGET, with_authorization(headers, turned), now_ns=NOW_NS) == first
