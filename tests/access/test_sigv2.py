"""Signature Version 2: presigned URLs and forms as botocore makes them, and nothing that they do not cover."""

from __future__ import annotations

from urllib.parse import quote

import boto3
import pytest
from botocore.auth import HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from rs3d.access.canonical import HeaderFields
from rs3d.access.errors import InvalidToken, RequestExpired, SignatureDoesNotMatch
from rs3d.access.hoisting import hoisted_headers
from rs3d.access.postpolicy import PostPolicy
from rs3d.access.sigv2 import find_post_v2, find_presigned_v2, verify_post_v2, verify_v2
from rs3d.access.sigv4 import PayloadMode, VerifiedSignature
from rs3d.errors import InvalidArgument, Rs3dError

SECRET = "a/secret+with=signs"
HOST = "127.0.0.1:9000"
# botocore takes the wall clock; these URLs live for ten years, and our own clock is given.
LIFE_S = 10 * 365 * 86_400
NOW_NS = 1_800_000_000 * 1_000_000_000
HEADERS: HeaderFields = [(b"host", HOST.encode())]


def presigned(method: str, path: str, headers: dict[str, str] | None = None) -> bytes:
    request = AWSRequest(method=method, url=f"http://{HOST}{path}", headers=headers or {})
    request.auth_path = path.partition("?")[0]
    HmacV1QueryAuth(Credentials("AKIDEXAMPLE0123456", SECRET), LIFE_S).add_auth(request)
    url: str = request.url
    return url.partition(HOST)[2].encode()


def check(method: str, target: bytes, headers: HeaderFields = HEADERS, *, secret: str = SECRET) -> VerifiedSignature:
    claim = find_presigned_v2(target, now_ns=NOW_NS)
    assert claim is not None
    return verify_v2(claim, method, target, headers, secret, "")


@pytest.mark.parametrize("key", ["plain", "a b+c%", "ü/日本", "//", "q?mark&amp"])
@pytest.mark.parametrize(
    "query", ["", "?acl", "?partNumber=1&uploadId=abc", "?response-content-type=text%2Fplain&versionId=v"]
)
def test_presigned_urls_of_botocore(key: str, query: str) -> None:
    verified = check("GET", presigned("GET", "/bucket/" + quote(key) + query))
    assert verified.access_key == "AKIDEXAMPLE0123456" and verified.payload is PayloadMode.UNSIGNED


SENT: HeaderFields = [*HEADERS, (b"content-type", b"text/plain"), (b"x-amz-meta-a", b"b")]


def test_headers_moved_into_the_url_may_be_sent_or_not() -> None:
    target = presigned("PUT", "/bucket/key", {"Content-Type": "text/plain", "x-amz-meta-a": "b"})
    assert hoisted_headers(check("PUT", target, SENT), target, SENT) == []
    assert hoisted_headers(check("PUT", target), target, HEADERS) == SENT[1:]


@pytest.mark.parametrize("headers", [[*SENT, (b"x-amz-acl", b"private")], [*SENT[:-1], (b"x-amz-meta-a", b"c")]])
def test_headers_that_were_not_signed_are_refused(headers: HeaderFields) -> None:
    target = presigned("PUT", "/bucket/key", {"Content-Type": "text/plain", "x-amz-meta-a": "b"})
    with pytest.raises(SignatureDoesNotMatch):
        check("PUT", target, headers)


def test_a_url_cannot_be_made_to_say_two_things() -> None:
    target = presigned("PUT", "/bucket/key", {"Content-Type": "text/plain", "x-amz-meta-a": "b"})
    target = target.replace(b"x-amz-meta-a=b", b"x-amz-meta-a=c")
    with pytest.raises(SignatureDoesNotMatch):
        check("PUT", target)
    with pytest.raises(InvalidArgument):
        hoisted_headers(check("PUT", target, SENT), target, SENT)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"/bucket/key", b"/bucket/kez", SignatureDoesNotMatch),
        (b"versionId=v", b"versionId=w", SignatureDoesNotMatch),
        (b"versionId=v&", b"", SignatureDoesNotMatch),
        (b"Expires=", b"Expires=1", SignatureDoesNotMatch),
        (b"Expires=", b"Expires=x", InvalidArgument),
        (b"versionId=v", b"versionId=v&prefix=p", InvalidArgument),
        (b"versionId=v", b"versionId=v&x-amz-acl=private", SignatureDoesNotMatch),
        (b"versionId=v", b"versionId=v&Signature=s", InvalidArgument),
        (b"Signature=", b"Signature=A", SignatureDoesNotMatch),
        (b"Signature=", b"Signature=%C3%BC", SignatureDoesNotMatch),
        (b"Signature=", b"Nothing=", InvalidArgument),
    ],
)
def test_tampered_urls(old: bytes, new: bytes, error: type[Rs3dError]) -> None:
    target = presigned("GET", "/bucket/key?versionId=v")
    check("GET", target)
    assert old in target
    with pytest.raises(error):
        check("GET", target.replace(old, new, 1))


def test_another_method_or_secret_is_refused() -> None:
    target = presigned("GET", "/bucket/key")
    with pytest.raises(SignatureDoesNotMatch):
        check("PUT", target)
    with pytest.raises(SignatureDoesNotMatch):
        check("GET", target, secret="another")


def test_a_url_ends_after_its_last_second() -> None:
    target = b"/b/k?AWSAccessKeyId=A&Signature=s&Expires=1800000000"
    assert find_presigned_v2(target, now_ns=NOW_NS) is not None
    with pytest.raises(RequestExpired):
        find_presigned_v2(target, now_ns=NOW_NS + 1_000_000_000)


def test_a_bucket_in_the_host_is_part_of_what_is_signed() -> None:
    target = presigned("GET", "/bucket/key")
    claim = find_presigned_v2(target, now_ns=NOW_NS)
    assert claim is not None
    below = target.removeprefix(b"/bucket")
    assert verify_v2(claim, "GET", below, HEADERS, SECRET, "bucket").access_key == claim.access_key
    with pytest.raises(SignatureDoesNotMatch):
        verify_v2(claim, "GET", below, HEADERS, SECRET, "other")


def test_other_urls_are_none_of_version_2() -> None:
    assert find_presigned_v2(b"/b/k?Signature=s&Expires=1", now_ns=NOW_NS) is None


# ----------------------------------------------------------------------------------------------------------- forms


def posted() -> dict[str, str]:
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{HOST}",
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE0123456",
        aws_secret_access_key=SECRET,
    )
    fields = client.generate_presigned_post("photos", "user/${filename}", ExpiresIn=60)["fields"]
    return {name.lower(): value for name, value in fields.items()}


def test_a_form_signed_by_boto3_as_it_comes() -> None:
    fields = posted()
    claim = find_post_v2(fields)
    assert claim is not None and claim.access_key == "AKIDEXAMPLE0123456"
    verify_post_v2(claim, fields["policy"], SECRET)
    policy = PostPolicy.parse(fields["policy"])
    policy.check(fields, bucket="photos", key="user/x", now_ns=(policy.expires_s - 1) * 1_000_000_000)
    for secret, text in (("another", fields["policy"]), (SECRET, fields["policy"] + "=")):
        with pytest.raises(SignatureDoesNotMatch):
            verify_post_v2(claim, text, secret)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"policy": ""}, InvalidArgument),
        ({"signature": ""}, InvalidArgument),
        ({"awsaccesskeyid": ""}, InvalidArgument),
        ({"x-amz-signature": "0" * 64}, InvalidArgument),
        ({"x-amz-security-token": "t"}, InvalidToken),
    ],
)
def test_malformed_form_signatures(changes: dict[str, str], error: type[Rs3dError]) -> None:
    with pytest.raises(error):
        find_post_v2(posted() | changes)


def test_forms_without_an_access_key_are_none_of_version_2() -> None:
    assert find_post_v2({"signature": "s", "policy": "p"}) is None
