"""Every way in which a signature may be wrong, one at a time."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import rs3d.access
from rs3d.access.authorization import find_claim, payload_mode
from rs3d.access.canonical import HeaderFields
from rs3d.access.chunksignature import ChunkSigner, ChunkVerifier
from rs3d.access.errors import (
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    ContentHashMissing,
    HeadersNotSigned,
    InvalidToken,
    RequestExpired,
    RequestNotValidYet,
    RequestTimeTooSkewed,
    SignatureDoesNotMatch,
    UnsupportedAuthorization,
)
from rs3d.access.hoisting import hoisted_headers
from rs3d.access.signing import SigningIdentity, presign, sign_request
from rs3d.access.sigv4 import (
    CredentialScope,
    PayloadMode,
    SignatureForm,
    SigningKeys,
    VerifiedSignature,
    derive_signing_key,
    verify,
)
from rs3d.errors import BodyMalformed, InvalidArgument, NotImplementedHere, Rs3dError

SECOND = 1_000_000_000
NOW_NS = 1_700_000_000 * SECOND
WHO = SigningIdentity("AKIDEXAMPLE0123456", "a secret", "us-east-1")
TARGET = b"/bucket/key%20x?partNumber=1&uploadId=abc"
PLAIN: HeaderFields = [(b"host", b"localhost:9000"), (b"x-amz-acl", b"private"), (b"range", b"bytes=0-9")]
Mutation = Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]


def signed_headers(payload_hash: str = "UNSIGNED-PAYLOAD", now_ns: int = NOW_NS) -> list[tuple[bytes, bytes]]:
    return sign_request(WHO, "PUT", TARGET, PLAIN, payload_hash=payload_hash, now_ns=now_ns).headers


def check(
    method: str, target: bytes, headers: HeaderFields, *, now_ns: int = NOW_NS, secret: str = WHO.secret
) -> VerifiedSignature:
    claim = find_claim(target, headers, now_ns=now_ns)
    assert claim is not None
    return verify(claim, method, target, headers, derive_signing_key(secret, claim.scope))


def replaced(name: bytes, old: bytes, new: bytes) -> Mutation:
    def mutate(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        assert any(field == name and old in value for field, value in headers)
        return [(field, value.replace(old, new) if field == name else value) for field, value in headers]

    return mutate


def added(name: bytes, value: bytes) -> Mutation:
    return lambda headers: [*headers, (name, value)]


def dropped(name: bytes) -> Mutation:
    return lambda headers: [field for field in headers if field[0] != name]


def test_the_untouched_request_verifies() -> None:
    assert check("PUT", TARGET, signed_headers()).access_key == WHO.access_key


def test_a_request_without_any_signature_is_anonymous() -> None:
    assert find_claim(b"/bucket/key?prefix=Signature", PLAIN, now_ns=NOW_NS) is None


@pytest.mark.parametrize(
    ("method", "target", "mutate"),
    [
        ("GET", TARGET, added(b"x-unrelated", b"1")),
        ("PUT", TARGET.replace(b"key", b"kez"), added(b"x-unrelated", b"1")),
        ("PUT", TARGET.replace(b"bucket", b"bucket/"), added(b"x-unrelated", b"1")),
        ("PUT", TARGET + b"&versionId=1", added(b"x-unrelated", b"1")),
        ("PUT", TARGET.replace(b"abc", b"abd"), added(b"x-unrelated", b"1")),
        ("PUT", TARGET.replace(b"&uploadId=abc", b""), added(b"x-unrelated", b"1")),
        ("PUT", TARGET, replaced(b"host", b"9000", b"9001")),
        ("PUT", TARGET, replaced(b"range", b"0-9", b"0-99")),
        ("PUT", TARGET, added(b"range", b"bytes=5-6")),
        ("PUT", TARGET, replaced(b"x-amz-acl", b"private", b"public-read")),
        ("PUT", TARGET, replaced(b"x-amz-date", b"20Z", b"21Z")),
        ("PUT", TARGET, replaced(b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD", b"0" * 64)),
        ("PUT", TARGET, replaced(b"authorization", b"us-east-1", b"us-west-2")),
        ("PUT", TARGET, replaced(b"authorization", b"range;", b"")),
    ],
)
def test_any_change_of_what_was_signed_is_found(method: str, target: bytes, mutate: Mutation) -> None:
    with pytest.raises(SignatureDoesNotMatch) as caught:
        check(method, target, mutate(signed_headers()))
    assert caught.value.string_to_sign.startswith("AWS4-HMAC-SHA256\n20231114T2213")
    assert caught.value.canonical_request.startswith(f"{method}\n/bucket/")


@pytest.mark.parametrize("digit", [0, 31, 63])
def test_each_digit_of_the_signature_counts(digit: int) -> None:
    def flip(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        value = bytearray(dict(headers)[b"authorization"])
        place = len(value) - 64 + digit
        value[place] = ord("0") if value[place] != ord("0") else ord("1")
        return [*dropped(b"authorization")(headers), (b"authorization", bytes(value))]

    with pytest.raises(SignatureDoesNotMatch):
        check("PUT", TARGET, flip(signed_headers()))


@pytest.mark.parametrize("mode", list(PayloadMode))
def test_s1_a_wrong_secret_is_refused_in_every_payload_mode_and_form(mode: PayloadMode) -> None:
    payload_hash = "ab" * 32 if mode is PayloadMode.SHA256 else mode.value
    with pytest.raises(SignatureDoesNotMatch):
        check("PUT", TARGET, signed_headers(payload_hash), secret="another secret")
    url = presign(WHO, "PUT", TARGET, PLAIN, expires_s=60, now_ns=NOW_NS, payload_hash=payload_hash)
    with pytest.raises(SignatureDoesNotMatch):
        check("PUT", url, PLAIN, secret="another secret")
    assert check("PUT", url, PLAIN).payload is mode


@pytest.mark.parametrize(
    ("mutate", "error"),
    [
        (replaced(b"authorization", b"Credential=", b"Kredential="), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b", Signature=", b" Signature="), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"Signature=", b"Signature=0"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"/us-east-1/", b"/"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"/us-east-1/", b"//"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"/s3/", b"/sts/"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"aws4_request", b"aws5_request"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"/20231114/", b"/20231113/"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"/20231114/", b"/20231399/"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"AKIDEXAMPLE0123456", b""), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"host;range", b"range;host"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"host;range", b"host;host;range"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"host;", b"Host;"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"host;range", b"host;origin;range"), AuthorizationHeaderMalformed),
        (replaced(b"authorization", b"host;", b""), HeadersNotSigned),
        (replaced(b"authorization", b"x-amz-acl;", b""), HeadersNotSigned),
        (added(b"x-amz-copy-source", b"/other/secret"), HeadersNotSigned),
        (added(b"x-amz-security-token", b"token"), HeadersNotSigned),
        (dropped(b"x-amz-date"), AuthorizationHeaderMalformed),
        (replaced(b"x-amz-date", b"Z", b""), AuthorizationHeaderMalformed),
        (dropped(b"x-amz-content-sha256"), ContentHashMissing),
        (replaced(b"x-amz-content-sha256", b"UNSIGNED", b"unsigned"), InvalidArgument),
        (added(b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"), InvalidArgument),
        (added(b"authorization", b"Basic dTpw"), InvalidArgument),
        (replaced(b"authorization", b"AWS4-HMAC-SHA256", b"AWS4-ECDSA-P256-SHA256"), NotImplementedHere),
        (replaced(b"authorization", b"AWS4-HMAC-SHA256", b"AWS"), UnsupportedAuthorization),
        (replaced(b"authorization", b"AWS4-HMAC-SHA256", b"Basic"), UnsupportedAuthorization),
    ],
)
def test_malformed_authorization_headers(mutate: Mutation, error: type[Rs3dError]) -> None:
    with pytest.raises(error):
        check("PUT", TARGET, mutate(signed_headers()))


def test_s5_a_session_token_is_refused_even_when_signed() -> None:
    headers = [*PLAIN, (b"x-amz-security-token", b"t")]
    signed = sign_request(WHO, "GET", b"/", headers, payload_hash="UNSIGNED-PAYLOAD", now_ns=NOW_NS).headers
    with pytest.raises(InvalidToken):
        check("GET", b"/", signed)


@pytest.mark.parametrize("skew_s", [-901, 901])
def test_s15_a_clock_more_than_15_minutes_off_is_refused(skew_s: int) -> None:
    with pytest.raises(RequestTimeTooSkewed):
        check("PUT", TARGET, signed_headers(now_ns=NOW_NS + skew_s * SECOND))


@pytest.mark.parametrize("skew_s", [-900, 0, 900])
def test_s15_a_clock_at_most_15_minutes_off_is_taken(skew_s: int) -> None:
    assert check("PUT", TARGET, signed_headers(now_ns=NOW_NS + skew_s * SECOND)).access_key == WHO.access_key


def test_the_fields_of_an_authorization_header_come_in_any_order() -> None:
    headers = signed_headers()
    scheme, _, rest = dict(headers)[b"authorization"].partition(b" ")
    turned = scheme + b"   " + b" ,  ".join(reversed(rest.split(b", ")))
    again = check("PUT", TARGET, [*dropped(b"authorization")(headers), (b"authorization", turned)])
    assert again == check("PUT", TARGET, headers)


def test_a_method_of_any_length_is_only_a_wrong_one() -> None:
    with pytest.raises(SignatureDoesNotMatch):
        check("PUT" * 100, TARGET, signed_headers())


def test_the_date_header_serves_where_x_amz_date_is_not_sent() -> None:
    headers = [(b"host", b"h"), (b"date", b"Tue, 14 Nov 2023 22:13:20 GMT")]
    signed = sign_request(WHO, "GET", b"/", headers, payload_hash="UNSIGNED-PAYLOAD", now_ns=NOW_NS).headers
    with pytest.raises(SignatureDoesNotMatch) as caught:
        check("GET", b"/", [(n, v.replace(b";x-amz-date", b"")) for n, v in signed if n != b"x-amz-date"])
    assert "20231114T221320Z" in caught.value.string_to_sign


def test_any_region_is_taken_unless_one_is_required() -> None:
    headers = signed_headers()
    assert find_claim(TARGET, headers, now_ns=NOW_NS, required_region="us-east-1") is not None
    with pytest.raises(AuthorizationHeaderMalformed) as caught:
        find_claim(TARGET, headers, now_ns=NOW_NS, required_region="eu-west-1")
    assert caught.value.region == "eu-west-1"


# ------------------------------------------------------------------------------------------------------ presigned


def presigned(expires_s: int = 60) -> bytes:
    return presign(WHO, "GET", TARGET, PLAIN, expires_s=expires_s, now_ns=NOW_NS)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"X-Amz-Expires=60", b"X-Amz-Expires=600", SignatureDoesNotMatch),
        (b"X-Amz-Expires=60", b"X-Amz-Expires=0", AuthorizationQueryParametersError),
        (b"X-Amz-Expires=60", b"X-Amz-Expires=-1", AuthorizationQueryParametersError),
        (b"X-Amz-Expires=60", b"X-Amz-Expires=604801", AuthorizationQueryParametersError),
        (b"X-Amz-Expires=60", b"X-Amz-Expires=x", AuthorizationQueryParametersError),
        (b"&X-Amz-Expires=60", b"", AuthorizationQueryParametersError),
        (b"X-Amz-Expires=60", b"X-Amz-Expires=60&X-Amz-Expires=60", AuthorizationQueryParametersError),
        (b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA1", AuthorizationQueryParametersError),
        (b"AWS4-HMAC-SHA256", b"AWS4-ECDSA-P256-SHA256", NotImplementedHere),
        (b"partNumber=1", b"partNumber=2", SignatureDoesNotMatch),
        (b"uploadId=abc", b"uploadId=abc&x-amz-acl=public-read", SignatureDoesNotMatch),
        (b"X-Amz-Date=2023", b"X-Amz-Date=2022", AuthorizationQueryParametersError),
        (b"X-Amz-Date=20231114T", b"X-Amz-Date=20231114", AuthorizationQueryParametersError),
        (b"X-Amz-Signature=", b"X-Amz-Signature=0", AuthorizationQueryParametersError),
        (b"&X-Amz-Signature=", b"&X-Amz-Security-Token=t&X-Amz-Signature=", InvalidToken),
        (b"%2Fs3%2F", b"%2Fsts%2F", AuthorizationQueryParametersError),
    ],
)
def test_tampered_presigned_urls(old: bytes, new: bytes, error: type[Rs3dError]) -> None:
    url = presigned()
    assert old in url
    with pytest.raises(error):
        check("GET", url.replace(old, new), PLAIN)


def test_s5_a_presigned_url_does_not_cover_headers_added_by_its_bearer() -> None:
    with pytest.raises(HeadersNotSigned) as caught:
        check("GET", presigned(), [*PLAIN, (b"x-amz-copy-source", b"/victim/key"), (b"x-amz-tagging", b"a=b")])
    assert caught.value.headers == "x-amz-copy-source, x-amz-tagging"


def test_a_presigned_url_lives_from_its_date_to_its_last_second() -> None:
    url = presigned(60)
    for offset_s in (-900, 0, 60):
        check("GET", url, PLAIN, now_ns=NOW_NS + offset_s * SECOND)
    with pytest.raises(RequestExpired):
        check("GET", url, PLAIN, now_ns=NOW_NS + 61 * SECOND)
    with pytest.raises(RequestNotValidYet):
        check("GET", url, PLAIN, now_ns=NOW_NS - 901 * SECOND)


def test_a_week_is_the_longest_life_of_a_presigned_url() -> None:
    week_s = 604_800
    assert check("GET", presigned(week_s), PLAIN, now_ns=NOW_NS + week_s * SECOND).access_key == WHO.access_key
    with pytest.raises(Rs3dError):
        check("GET", presigned(week_s + 1), PLAIN)


def test_headers_moved_into_a_presigned_url_are_found_again() -> None:
    target = b"/b/k?x-id=PutObject&x-amz-meta-a=1%202&X-Amz-Checksum-CRC32=AAAAAA%3D%3D"
    url = presign(WHO, "PUT", target, PLAIN, expires_s=60, now_ns=NOW_NS, payload_hash="ab" * 32)
    verified = check("PUT", url, PLAIN)
    assert hoisted_headers(verified, url, PLAIN) == [(b"x-amz-checksum-crc32", b"AAAAAA=="), (b"x-amz-meta-a", b"1 2")]


@pytest.mark.parametrize(
    "query", [b"x-amz-meta-a=1%0D%0ASet-Cookie:b", b"x-amz-acl=public-read", b"x-amz-a=1&X-Amz-A=2", b"x-amz-%C3%A9=1"]
)
def test_s11_parameters_that_cannot_be_headers_are_refused(query: bytes) -> None:
    with pytest.raises(InvalidArgument):
        hoisted_headers(SEED, b"/b/k?" + query, PLAIN)


def test_a_header_sent_as_well_as_hoisted_counts_once() -> None:
    assert hoisted_headers(SEED, b"/b/k?x-amz-acl=private&x-amz-b=1&x-amz-b=1", PLAIN) == [(b"x-amz-b", b"1")]


def test_a_session_token_in_lower_case_is_refused_too() -> None:
    url = presign(WHO, "GET", b"/?x-amz-security-token=t", PLAIN, expires_s=60, now_ns=NOW_NS)
    with pytest.raises(InvalidToken):
        check("GET", url, PLAIN)


def test_two_mechanisms_at_once_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        check("GET", presigned(), signed_headers())


def test_signature_version_2_is_named_and_refused() -> None:
    with pytest.raises(UnsupportedAuthorization):
        find_claim(b"/b/k?AWSAccessKeyId=A&Signature=s&Expires=1", PLAIN, now_ns=NOW_NS)


def test_payload_words_of_signature_version_4a_are_not_implemented() -> None:
    with pytest.raises(NotImplementedHere):
        payload_mode("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER")


# --------------------------------------------------------------------------------------------------------- chunks

SCOPE = CredentialScope("20231114", "us-east-1")
KEY = derive_signing_key(WHO.secret, SCOPE)
SEED = VerifiedSignature(
    SignatureForm.HEADER, "A", SCOPE, "20231114T221320Z", "5" * 64, PayloadMode.STREAMING_SIGNED, "", KEY
)


def signer() -> ChunkSigner:
    return ChunkSigner(KEY, SEED.timestamp, SCOPE, SEED.signature)


def test_chunks_cannot_be_changed_dropped_or_reordered() -> None:
    client = signer()
    first, second = client.sign_chunk(b"one").encode(), client.sign_chunk(b"two").encode()
    for data, signature in ((b"onf", first), (b"two", second), (b"one", second), (b"", first)):
        chunks = ChunkVerifier(SEED)
        chunks.update(data)
        with pytest.raises(SignatureDoesNotMatch):
            chunks.finish_chunk(signature)


def test_a_chunk_cannot_be_repeated() -> None:
    signature = signer().sign_chunk(b"one").encode()
    chunks = ChunkVerifier(SEED)
    chunks.update(b"one")
    chunks.finish_chunk(signature)
    chunks.update(b"one")
    with pytest.raises(SignatureDoesNotMatch):
        chunks.finish_chunk(signature)


@pytest.mark.parametrize(
    "trailers",
    [
        [],
        [(b"x-amz-checksum-crc32", b"AAAAAQ==")],
        [(b"x-amz-checksum-crc32c", b"AAAAAA==")],
        [(b"x-amz-checksum-crc32", b"AAAAAA=="), (b"x-amz-meta-a", b"b")],
    ],
)
def test_a_trailer_cannot_be_changed(trailers: list[tuple[bytes, bytes]]) -> None:
    client = signer()
    last = client.sign_chunk(b"").encode()
    signature = client.sign_trailer([(b"x-amz-checksum-crc32", b"AAAAAA==")]).encode()
    chunks = ChunkVerifier(SEED)
    chunks.finish_chunk(last)
    with pytest.raises(SignatureDoesNotMatch):
        chunks.check_trailer(trailers, signature)


@pytest.mark.parametrize("signature", [b"", b"0" * 63, b"0" * 65, b"G" * 64, b"A" * 64])
def test_a_chunk_signature_that_is_none_is_a_malformed_body(signature: bytes) -> None:
    with pytest.raises(BodyMalformed):
        ChunkVerifier(SEED).finish_chunk(signature)


# ----------------------------------------------------------------------------------------------------------- keys


def test_signing_keys_are_cached_up_to_their_capacity_and_never_across_generations() -> None:
    keys = SigningKeys(capacity=2)
    assert keys.signing_key("A", 1, "old", SCOPE) == derive_signing_key("old", SCOPE)
    assert keys.signing_key("A", 2, "new", SCOPE) == derive_signing_key("new", SCOPE)
    assert keys.signing_key("A", 1, "not looked at", SCOPE) == derive_signing_key("old", SCOPE)
    keys.signing_key("B", 1, "b", SCOPE)
    assert len(keys) == 2
    assert keys.signing_key("A", 2, "used again", SCOPE) == derive_signing_key("used again", SCOPE)


def test_s10_no_repr_shows_a_secret_or_a_signing_key() -> None:
    assert WHO.secret not in repr(WHO)
    assert repr(KEY) not in repr(SEED)
    shown = repr(sign_request(WHO, "GET", b"/", PLAIN, payload_hash="UNSIGNED-PAYLOAD", now_ns=NOW_NS))
    assert "signing_key" not in shown


def test_s15_signatures_are_compared_in_constant_time_only() -> None:
    """In this package `==` never stands beside something called a signature."""
    package = Path(rs3d.access.__file__).parent
    found = []
    compared_safely = 0
    for path in sorted(package.glob("*.py")):
        source = path.read_text()
        compared_safely += source.count("hmac.compare_digest(")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                text = ast.unparse(node)
                if re.search(r"(?<!_)signature(?!s)|secret|digest|hmac", text, re.IGNORECASE) and "name" not in text:
                    found.append(f"{path.name}:{node.lineno}: {text}")
    assert found == []
    assert compared_safely >= 2


def test_every_refusal_makes_a_sentence() -> None:
    from rs3d.access import errors

    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, Rs3dError) and kind.__module__ == errors.__name__:
            values = {f.name: 7 if f.type == "int" else "a {brace}" for f in dataclasses.fields(kind)}
            assert str(kind(**values))
