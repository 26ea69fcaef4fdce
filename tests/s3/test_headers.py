"""No x-amz-* header is accepted and ignored."""

from __future__ import annotations

import pytest

from rs3d.http.messages import Head
from rs3d.s3.errors import S3Refusal
from rs3d.s3.headers import INERT, check_headers


def check(name: bytes, value: bytes) -> None:
    check_headers(Head("PUT", b"/b/k", (1, 1), ((b"host", b"h"), (name, value))))


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        (b"x-amz-object-lock-mode", b"GOVERNANCE", "NotImplemented"),
        (b"x-amz-object-lock-legal-hold", b"ON", "NotImplemented"),
        (b"x-amz-website-redirect-location", b"/x", "NotImplemented"),
        (b"x-amz-storage-class", b"GLACIER", "NotImplemented"),
        (b"x-amz-storage-class", b"NONSENSE", "InvalidStorageClass"),
        (b"x-amz-acl", b"public-read", "AccessControlListNotSupported"),
        (b"x-amz-grant-read", b"id=1", "AccessControlListNotSupported"),
        (b"x-amz-write-offset-bytes", b"0", "NotImplemented"),
        (b"x-amz-something-new", b"1", "NotImplemented"),
        (b"x-rs3d-internal", b"1", "NotImplemented"),
        (b"x-amz-object-ownership", b"ObjectWriter", "NotImplemented"),
        (b"x-amz-bucket-object-lock-enabled", b"true", "NotImplemented"),
    ],
)
def test_headers_of_what_is_not_built_are_refused_by_name(name: bytes, value: bytes, code: str) -> None:
    with pytest.raises(S3Refusal) as caught:
        check(name, value)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-amz-acl", b"private"),
        (b"x-amz-acl", b"bucket-owner-full-control"),
        (b"x-amz-storage-class", b"STANDARD"),
        (b"x-amz-meta-anything", b"1"),
        (b"x-amz-bucket-object-lock-enabled", b"False"),
        (b"x-amz-object-ownership", b"BucketOwnerEnforced"),
        *((name, b"requester") for name in INERT),
    ],
)
def test_headers_that_equal_the_truth_are_taken(name: bytes, value: bytes) -> None:
    check(name, value)
