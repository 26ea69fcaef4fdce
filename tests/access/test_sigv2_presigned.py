"""Version 2 in presigned URLs as botocore makes them by default; nothing of it anywhere else."""

from __future__ import annotations

from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from rs3d.access.errors import RequestExpired, SignatureDoesNotMatch
from rs3d.access.sigv2 import find_presigned_v2, verify_v2
from rs3d.errors import InvalidArgument

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW_NS = 1_700_000_000 * 10**9


def presigned(method: str, **parameters: object) -> bytes:
    client = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:9000",
        aws_access_key_id="AKID",
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(signature_version="s3"),
    )
    url = urlsplit(client.generate_presigned_url(method, Params=parameters, ExpiresIn=3600))
    return f"{url.path}?{url.query}".encode()


@pytest.mark.parametrize(
    ("method", "verb", "parameters"),
    [
        ("get_object", "GET", {"Bucket": "b", "Key": "a/hello world+é.txt"}),
        ("get_object", "GET", {"Bucket": "b", "Key": "k", "VersionId": "null"}),
        ("get_object", "GET", {"Bucket": "b", "Key": "k", "ResponseContentDisposition": "attachment; filename=x"}),
        ("put_object", "PUT", {"Bucket": "b", "Key": "k"}),
        ("upload_part", "PUT", {"Bucket": "b", "Key": "k", "UploadId": "u", "PartNumber": 3}),
        ("head_bucket", "HEAD", {"Bucket": "b"}),
    ],
)
def test_urls_made_by_botocore_verify(method: str, verb: str, parameters: dict[str, object]) -> None:
    target = presigned(method, **parameters)
    claim = find_presigned_v2(target, now_ns=NOW_NS)
    assert claim is not None
    assert verify_v2(claim, verb, target, [], SECRET, "").access_key == "AKID"


def test_another_method_key_secret_or_amazon_header_does_not_verify() -> None:
    target = presigned("get_object", Bucket="b", Key="k")
    claim = find_presigned_v2(target, now_ns=NOW_NS)
    assert claim is not None
    attempts: tuple[tuple[str, bytes, list[tuple[bytes, bytes]], str], ...] = (
        ("PUT", target, [], SECRET),
        ("GET", target.replace(b"/k?", b"/l?"), [], SECRET),
        ("GET", target, [], "x" + SECRET),
        ("GET", target, [(b"x-amz-copy-source", b"/b/other")], SECRET),
    )
    for method, changed, headers, secret in attempts:
        with pytest.raises(SignatureDoesNotMatch):
            verify_v2(claim, method, changed, headers, secret, "")


def test_an_expired_url_is_refused() -> None:
    with pytest.raises(RequestExpired):
        find_presigned_v2(presigned("get_object", Bucket="b", Key="k"), now_ns=NOW_NS * 100)


def test_parameters_that_version_2_does_not_sign_are_refused() -> None:
    target = presigned("get_object", Bucket="b", Key="k")
    for addition in (b"&list-type=2", b"&prefix=x", b"&Signature=again", b"&object-lock"):
        with pytest.raises(InvalidArgument):
            find_presigned_v2(target + addition, now_ns=NOW_NS)


def test_urls_of_other_kinds_are_not_claimed() -> None:
    assert find_presigned_v2(b"/b/k?X-Amz-Signature=1", now_ns=NOW_NS) is None
