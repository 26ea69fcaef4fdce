"""botocore signs, rs3d verifies: what real clients send over nasty paths, queries and headers."""

from __future__ import annotations

import datetime
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from rs3d.access import sigv4
from rs3d.access.authorization import find_claim
from rs3d.access.canonical import HeaderFields
from rs3d.access.signing import SigningIdentity, presign, sign_request
from rs3d.access.sigv4 import SignatureForm, VerifiedSignature, derive_signing_key, verify

SECRET = "secret/with+signs=and spaces"
CREDENTIALS = Credentials("AKIDEXAMPLE0123456", SECRET)
IDENTITY = SigningIdentity("AKIDEXAMPLE0123456", SECRET, "eu-north-1")
HOST = "127.0.0.1:9000"

NASTY_KEYS = [
    "plain.txt",
    "a//b",
    "/leading",
    "../../etc/passwd",
    "./dot",
    "sp ace",
    "plus+plus",
    "per%cent",
    "100%25",
    "tilde~under_dash-dot.",
    "semi;colon=equals&and",
    "quote'\"(paren)*!$,:@[x]",
    "ünïcödé/日本語",
    "q?mark#hash",
    "back\\slash",
    "\t\n\x01control",
    "trailing/",
]
NASTY_QUERIES = [
    "",
    "acl",
    "uploads=",
    "list-type=2&prefix=a%2Fb&delimiter=%2F",
    "prefix=%2B%20%25&marker=",
    "b=2&a=1&a=0",
    "a-b=1&a=2&a.b=3",
    "prefix=%E6%97%A5&encoding-type=url",
    "response-content-disposition=attachment%3B%20filename%3D%22a%20b.txt%22",
    "partNumber=1&uploadId=abc~._-%21",
]


def now_ns() -> int:
    return int(datetime.datetime.now(datetime.UTC).timestamp()) * 1_000_000_000


def check(method: str, target: bytes, headers: HeaderFields) -> VerifiedSignature:
    """Verify with the kernel and without it."""
    claim = find_claim(target, headers, now_ns=now_ns())
    assert claim is not None
    key = derive_signing_key(SECRET, claim.scope)
    verified = verify(claim, method, target, headers, key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sigv4, "proves", lambda *request, **options: False)
        assert verify(claim, method, target, headers, key) == verified
    return verified


def botocore_request(method: str, url: str, headers: dict[str, str]) -> tuple[bytes, HeaderFields]:
    request = AWSRequest(method=method, url=url, headers=headers, data=b"body")
    S3SigV4Auth(CREDENTIALS, "s3", "eu-north-1").add_auth(request)
    target = url.partition(HOST)[2].encode()
    fields = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
    return target, [(b"host", HOST.encode()), *fields]


@pytest.mark.parametrize("key", NASTY_KEYS)
@pytest.mark.parametrize("query", NASTY_QUERIES)
def test_header_authorization_of_botocore(key: str, query: str) -> None:
    url = f"http://{HOST}/bucket/{quote(key, safe='/~')}" + ("?" + query if query else "")
    target, headers = botocore_request(
        "PUT", url, {"X-Amz-Meta-Note": "  two   spaces  ", "Content-Type": "text/plain"}
    )
    assert check("PUT", target, headers).form is SignatureForm.HEADER


@pytest.mark.parametrize("key", NASTY_KEYS)
@pytest.mark.parametrize("query", NASTY_QUERIES)
def test_presigned_urls_of_botocore(key: str, query: str) -> None:
    url = f"http://{HOST}/bucket/{quote(key, safe='/~')}" + ("?" + query if query else "")
    request = AWSRequest(method="GET", url=url)
    S3SigV4QueryAuth(CREDENTIALS, "s3", "eu-north-1", expires=60).add_auth(request)
    verified = check("GET", request.url.partition(HOST)[2].encode(), [(b"host", HOST.encode())])
    assert (verified.form, verified.scope.region) == (SignatureForm.QUERY, "eu-north-1")


@pytest.mark.parametrize("key", NASTY_KEYS)
def test_our_own_signatures_equal_those_of_botocore(key: str) -> None:
    url = f"http://{HOST}/bucket/{quote(key, safe='/~')}?prefix=a%20b&acl"
    target, theirs = botocore_request("PUT", url, {"X-Amz-Meta-Note": "x"})
    fields = dict(theirs)
    ours = sign_request(
        IDENTITY,
        "PUT",
        target,
        [(b"host", HOST.encode()), (b"x-amz-meta-note", b"x")],
        payload_hash=fields[b"x-amz-content-sha256"].decode(),
        now_ns=int(datetime.datetime.strptime(fields[b"x-amz-date"].decode() + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp())
        * 1_000_000_000,
    )
    assert dict(ours.headers)[b"authorization"] == fields[b"authorization"]


@pytest.mark.parametrize("key", NASTY_KEYS)
def test_our_own_presigned_urls_verify(key: str) -> None:
    target = quote(f"/bucket/{key}", safe="/~").encode() + b"?versionId=a%2Bb"
    headers = [(b"host", HOST.encode()), (b"x-amz-acl", b"private")]
    signed = presign(IDENTITY, "PUT", target, headers, expires_s=600, now_ns=now_ns())
    assert check("PUT", signed, headers).access_key == IDENTITY.access_key


@pytest.mark.parametrize(
    "sent", [b"/bucket/a'(b)", b"/bucket/a+b", b"/bucket/%7euser", b"/bucket/a%2fb", b"/bucket/a%2Fb"]
)
def test_paths_encoded_otherwise_than_s3_would_are_compared_in_both_forms(sent: bytes) -> None:
    from rs3d.access.canonical import canonical_paths

    forms = canonical_paths(sent)
    assert len(forms) == 2 and forms[1] == sent and forms[0] != sent
