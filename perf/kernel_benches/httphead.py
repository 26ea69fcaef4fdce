"""Heads: the kernel beside h11 alone and the whole h11 lane; response heads beside the Python writer."""

from __future__ import annotations

from functools import partial

import h11

from perf.kernels import Case
from rs3d.http.h11_lane import parse_head_h11
from rs3d.kernels import httphead

HEAD = (
    b"GET /bucket/some/key/name-000012.bin HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nAccept-Encoding: identity\r\n"
    b"User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.18 md/arch#x86_64 lang/python#3.11.7 "
    b"md/pyimpl#CPython m/Z,b cfg/retry-mode#legacy Botocore/1.44.5\r\nX-Amz-Date: 20261123T100000Z\r\n"
    b"X-Amz-Content-SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\n"
    b"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261123/us-east-1/s3/aws4_request, "
    b"SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
    b"Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd\r\n"
    b"amz-sdk-invocation-id: 1ee4d3a3-2f6a-4a55-92f3-eef0d3e0a0f9\r\namz-sdk-request: attempt=1\r\n\r\n"
)
FIELDS = [
    (b"x-amz-request-id", b"0123456789abcdef"),
    (b"ETag", b'"d41d8cd98f00b204e9800998ecf8427e"'),
    (b"Last-Modified", b"Mon, 23 Nov 2026 10:00:00 GMT"),
    (b"Accept-Ranges", b"bytes"),
    (b"Content-Type", b"binary/octet-stream"),
    (b"x-amz-id-2", b"0123456789abcdef"),
]
READY = b"Date: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Length: 4096\r\n"
RESERVED = (b"date", b"content-length", b"transfer-encoding", b"connection")


def cases() -> list[Case]:
    """A boto3 GET in, its answer out."""
    write = partial(httphead.write_head, 200, b"OK", FIELDS, ready=READY, reserved=RESERVED)
    return [
        Case(group="request head of 695 bytes", name="parse_head", run=partial(httphead.parse_head, HEAD), units=1,
             unit="head"),
        Case(group="request head of 695 bytes", name="h11", run=_h11, units=1, unit="head"),
        Case(group="request head of 695 bytes", name="h11 lane with rules", run=partial(parse_head_h11, HEAD), units=1,
             unit="head"),
        Case(group="response head of 6 fields", name="write_head", run=write, units=1, unit="head"),
        Case(group="response head of 6 fields", name="Python join", run=_join, units=1, unit="head"),
    ]  # fmt: skip


def _h11() -> object:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(HEAD)
    return connection.next_event()


def _join() -> bytes:
    lines = b"".join([b"%b: %b\r\n" % field for field in FIELDS])
    head = b"HTTP/1.1 200 OK\r\n" + READY + lines + b"\r\n"
    if head.count(b"\n") != 4 + len(FIELDS) or b"\0" in head:
        raise ValueError
    return head
