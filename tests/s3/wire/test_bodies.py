"""Bodies that end early, digests that are right and wrong, and refusals before a body is asked for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import socket

import pytest
import xxhash

from tests.s3.wire.client import Caller, Connection, check_refusal
from tests.s3.wire.framing import UNSIGNED_TRAILER, framed_put

BODY = b"The quick brown fox jumps over the lazy dog" * 30


@pytest.mark.parametrize("sent", [0, 1, 499, 999])
def test_d4_a_body_cut_short_is_never_an_object(root: Caller, bucket: str, sent: int) -> None:
    target = f"/{bucket}/k"
    with Connection(root.address) as connection:
        headers = root.headers("PUT", target, payload_hash="UNSIGNED-PAYLOAD")
        connection.send_request("PUT", target, [*headers, ("content-length", "1000")], b"x" * sent)
        connection.socket.shutdown(socket.SHUT_WR)
        answer = connection.receive("PUT")
    check_refusal(answer, 400, "IncompleteBody", target)
    assert root.get(target).status == 404


def test_d4_an_aws_chunked_body_cut_anywhere_is_never_an_object(root: Caller, bucket: str) -> None:
    target = f"/{bucket}/k"
    whole = framed_put(root, target, b"0123456789", UNSIGNED_TRAILER, chunk_bytes=5)
    for cut in range(len(whole.body)):
        headers = [(name, value) for name, value in whole.headers if name != "content-length"]
        with Connection(root.address) as connection:
            connection.send_request("PUT", target, [*headers, ("content-length", str(cut))], whole.body[:cut])
            answer = connection.receive("PUT")
        assert answer.status == 400, (cut, answer.body)
        assert answer.code in ("IncompleteBody", "MalformedTrailerError"), cut
    assert root.get(target).status == 404


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


CHECKSUMS = {
    "crc32": lambda data: binascii.crc32(data).to_bytes(4, "big"),
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
    "md5": lambda data: hashlib.md5(data).digest(),
    "xxhash64": lambda data: xxhash.xxh64_digest(data),
    "xxhash3": lambda data: xxhash.xxh3_64_digest(data),
    "xxhash128": lambda data: xxhash.xxh3_128_digest(data),
}


@pytest.mark.parametrize("name", CHECKSUMS)
def test_checksums_in_headers_are_verified_stored_and_returned_when_asked_for(
    root: Caller, bucket: str, name: str
) -> None:
    target, header = f"/{bucket}/k", f"x-amz-checksum-{name}"
    right = encoded(CHECKSUMS[name](BODY))
    assert root.put(target, BODY, (header, right)).headers[header] == right
    assert root.head(target, ("x-amz-checksum-mode", "ENABLED")).headers[header] == right
    assert root.get(target, ("x-amz-checksum-mode", "ENABLED")).headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert header not in root.get(target).headers
    check_refusal(root.put(target, BODY, (header, encoded(CHECKSUMS[name](b"other")))), 400, "BadDigest", target)
    check_refusal(root.put(target, BODY, (header, right[:-3])), 400, "InvalidRequest", target)
    assert root.get(target).body == BODY


def test_two_checksums_at_once_are_refused(root: Caller, bucket: str) -> None:
    headers = [(f"x-amz-checksum-{name}", encoded(CHECKSUMS[name](BODY))) for name in ("sha1", "sha256")]
    check_refusal(root.put(f"/{bucket}/k", BODY, *headers), 400, "InvalidRequest")


def test_content_md5_is_verified(root: Caller, bucket: str) -> None:
    target = f"/{bucket}/k"
    digest = hashlib.md5(BODY).digest()
    assert root.put(target, BODY, ("content-md5", encoded(digest))).headers["etag"] == f'"{digest.hex()}"'
    check_refusal(root.put(target, BODY + b".", ("content-md5", encoded(digest))), 400, "BadDigest", target)
    assert root.get(target).body == BODY


REFUSED_FIRST = {
    "anonymous": (403, "AccessDenied"),
    "wrong secret": (403, "SignatureDoesNotMatch"),
    "another's bucket": (403, "AccessDenied"),
    "precondition": (412, "PreconditionFailed"),
    "header": (501, "NotImplemented"),
    "too large": (400, "EntityTooLarge"),
    "no such bucket": (404, "NoSuchBucket"),
}


@pytest.mark.parametrize("why", REFUSED_FIRST)
def test_what_is_refused_is_refused_before_a_body_is_asked_for(
    root: Caller, anonymous: Caller, anna: Caller, bucket: str, why: str
) -> None:
    target = f"/{bucket}/k" if why != "no such bucket" else "/no-bucket-of-this-name/k"
    root.put(target, b"old")
    caller = {"anonymous": anonymous, "another's bucket": anna}.get(why, root)
    extra = {"precondition": [("if-none-match", "*")], "header": [("x-amz-website-redirect-location", "/")]}.get(
        why, []
    )
    headers = caller.headers("PUT", target, extra, payload_hash="UNSIGNED-PAYLOAD")
    if why == "wrong secret":
        headers = [(n, v[:-6] + "000000" if n == "authorization" else v) for n, v in headers]
    length = 6 * 1024**3 if why == "too large" else 1_000_000
    with Connection(root.address) as connection:
        connection.send_request("PUT", target, [*headers, ("content-length", str(length)), ("expect", "100-continue")])
        assert connection.socket.recv(12, socket.MSG_PEEK) == f"HTTP/1.1 {REFUSED_FIRST[why][0]}".encode()
        check_refusal(connection.receive("PUT"), *REFUSED_FIRST[why])
        assert connection.is_at_its_end()


def test_an_accepted_body_is_asked_for_once(root: Caller, bucket: str) -> None:
    target = f"/{bucket}/k"
    with Connection(root.address) as connection:
        headers = root.headers("PUT", target, payload_hash="UNSIGNED-PAYLOAD")
        connection.send_request("PUT", target, [*headers, ("content-length", "5"), ("expect", "100-continue")])
        assert connection.socket.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(b"later")
        assert connection.receive("PUT").status == 200
    assert root.get(target).body == b"later"
