"""Every request finds one operation or a clear refusal; nothing unknown becomes a plain PUT or GET."""

from __future__ import annotations

import pytest

from rs3d.http.messages import Head
from rs3d.s3.errors import S3Refusal
from rs3d.s3.operations import HANDLERS
from rs3d.s3.request import Resource, read_request
from rs3d.s3.routes import OPERATIONS, find_operation


def route(method: str, target: str, *headers: tuple[bytes, bytes]) -> str:
    head = Head(method, target.encode("ascii"), (1, 1), ((b"host", b"localhost"), *headers))
    return find_operation(read_request(head, ())).name


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        ("GET", "/", "ListBuckets"),
        ("GET", "/b", "ListObjects"),
        ("GET", "/b/", "ListObjects"),
        ("GET", "/b?list-type=2&prefix=a", "ListObjectsV2"),
        ("GET", "/b?versions", "ListObjectVersions"),
        ("GET", "/b?uploads=", "ListMultipartUploads"),
        ("PUT", "/b", "CreateBucket"),
        ("HEAD", "/b", "HeadBucket"),
        ("DELETE", "/b", "DeleteBucket"),
        ("POST", "/b?delete", "DeleteObjects"),
        ("POST", "/b?delete=&x-id=DeleteObjects", "DeleteObjects"),
        ("GET", "/b/k", "GetObject"),
        ("GET", "/b/k?x-id=GetObject", "GetObject"),
        ("GET", "/b/k?versionId=1", "GetObject"),
        ("GET", "/b/k?uploadId=u", "ListParts"),
        ("GET", "/b/k?attributes", "GetObjectAttributes"),
        ("PUT", "/b/k", "PutObject"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", "UploadPart"),
        ("POST", "/b/k?uploads", "CreateMultipartUpload"),
        ("POST", "/b/k?uploadId=u", "CompleteMultipartUpload"),
        ("DELETE", "/b/k?uploadId=u", "AbortMultipartUpload"),
        ("PUT", "/b?lifecycle", "PutBucketLifecycleConfiguration"),
        ("PUT", "/b?replication", "PutBucketReplication"),
        ("PUT", "/b/k?retention", "PutObjectRetention"),
        ("POST", "/b/k?restore", "RestoreObject"),
        ("POST", "/b/k?select&select-type=2", "SelectObjectContent"),
    ],
)
def test_each_request_names_its_operation(method: str, target: str, name: str) -> None:
    assert route(method, target) == name


def test_a_copy_source_turns_puts_into_copies() -> None:
    source = (b"x-amz-copy-source", b"/b/k")
    assert route("PUT", "/b/k", source) == "CopyObject"
    assert route("PUT", "/b/k?partNumber=1&uploadId=u", source) == "UploadPartCopy"


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("PUT", "/b/k?newfeature", "NotImplemented"),
        ("PUT", "/b?newfeature", "NotImplemented"),
        ("DELETE", "/b/k?restore", "NotImplemented"),
        ("PUT", "/b/k?lifecycle", "NotImplemented"),
        ("GET", "/b/k?lifecycle", "NotImplemented"),
        ("PATCH", "/b/k", "MethodNotAllowed"),
        ("PUT", "/", "MethodNotAllowed"),
        ("GET", "/b?acl&policy", "InvalidArgument"),
        ("POST", "/b/k", "NotImplemented"),
    ],
)
def test_what_s3_does_not_have_is_refused(method: str, target: str, code: str) -> None:
    with pytest.raises(S3Refusal) as caught:
        route(method, target)
    assert caught.value.code == code


def test_every_handler_is_an_operation_of_the_table() -> None:
    assert set(HANDLERS) <= set(OPERATIONS)


@pytest.mark.parametrize(
    ("target", "bucket", "key"),
    [
        ("/b//a", "b", "/a"),
        ("/b/a%2Fb", "b", "a/b"),
        ("/b/a+b", "b", "a+b"),
        ("/b/..%2f..%2fetc", "b", "../../etc"),
        ("/b/%C3%A9", "b", "é"),
        ("/b/a/", "b", "a/"),
        ("/b/./x", "b", "./x"),
    ],
)
def test_paths_are_decoded_once_and_never_normalised(target: str, bucket: str, key: str) -> None:
    request = read_request(Head("GET", target.encode(), (1, 1), ()), ())
    assert (request.bucket, request.key, request.resource) == (bucket, key, Resource.OBJECT)


def test_keys_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(S3Refusal) as caught:
        read_request(Head("GET", b"/b/%ff", (1, 1), ()), ())
    assert caught.value.code == "InvalidURI"


def test_a_virtual_host_names_the_bucket() -> None:
    head = Head("GET", b"/b/k", (1, 1), ((b"host", b"my.bucket.s3.example.org:9000"),))
    request = read_request(head, ("s3.example.org",))
    assert (request.bucket, request.key, request.is_virtual_host) == ("my.bucket", "b/k", True)
    assert (
        read_request(Head("GET", b"/b/k", (1, 1), ((b"host", b"s3.example.org"),)), ("s3.example.org",)).bucket == "b"
    )
