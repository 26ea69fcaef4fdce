"""Bodies as the engine takes them: HTTP bodies with and without aws-chunked framing, and small documents.

Which framing a body has is said by x-amz-content-sha256 (signed) alone; Content-Encoding is never asked. Source: S3 API
reference, "Signature Calculations for the Authorization Header".
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from enum import Enum
from typing import Final

from rs3d.access.errors import XAmzContentSHA256Mismatch
from rs3d.access.sigv4 import PayloadMode
from rs3d.engine.checksums import check_equal
from rs3d.engine.digests import digest_of
from rs3d.engine.requests import BodyChecks
from rs3d.errors import BadDigest, IncompleteBody
from rs3d.http.messages import RequestBody
from rs3d.s3.awschunked import AwsChunkedSource
from rs3d.s3.call import Call
from rs3d.s3.checksums import content_md5, declared_checksums, requested_algorithm
from rs3d.s3.errors import S3Refusal
from rs3d.types.body import BodySource
from rs3d.types.objects import Checksum

# Looking up a member of an enum class runs Python code in 3.11; a module constant does not.
_SHA256: Final = PayloadMode.SHA256

MAXIMUM_DOCUMENT_BYTES: Final = 2 * 1024 * 1024
"""Room for every configuration document; lists of keys or parts, which may be longer, give a bound of their own."""


class PlainSource:
    """An HTTP body without inner framing. What the body does itself is the body's own method, not a call of it."""

    __slots__ = ("declared_bytes", "direct", "framed", "receive_into", "whole")

    def __init__(self, body: RequestBody) -> None:
        self.declared_bytes: Final = body.declared_bytes
        self.direct: Final = body.direct
        self.framed: Final = None
        self.whole: Final = body.whole
        self.receive_into: Final = body.receive_into

    def trailing_checksums(self) -> Sequence[Checksum]:
        return ()


def body_source(call: Call) -> BodySource:
    """The request's body without any framing.

    Raises:
        S3Refusal: MissingContentLength for aws-chunked without the decoded length.
    """
    mode = call.signature.payload
    body = call.http.body
    decoded = call.http.head.get(b"x-amz-decoded-content-length")
    if mode.is_chunked:
        if decoded is None:
            raise S3Refusal("MissingContentLength")
        if not (decoded.isdigit() and len(decoded) < 20):
            raise S3Refusal("InvalidArgument", "x-amz-decoded-content-length is not a number of bytes.")
        return AwsChunkedSource(body, call.signature, int(decoded), call.http.head)
    # Without a Content-Length the chunked transfer coding says where the body ends; S3 itself answers 411 to that.
    return PlainSource(body)


def body_checks(call: Call) -> BodyChecks:
    """Everything the head declares about the body's bytes.

    Raises:
        InvalidDigest, S3Refusal
    """
    head = call.http.head
    declared = declared_checksums(head)
    return _checks(call, declared, requested_algorithm(head, declared))


def _checks(call: Call, declared: tuple[Checksum, ...] = (), algorithm: str = "") -> BodyChecks:
    signed = call.signature.payload is _SHA256
    return BodyChecks(
        content_md5=content_md5(call.http.head),
        payload_sha256=bytes.fromhex(call.signature.payload_sha256) if signed else None,
        checksums=declared,
        checksum_algorithm=algorithm,
    )


def payload_error(call: Call, error: BadDigest) -> Exception:
    """S3's own error where the digest that differs is the one that was signed."""
    signed = call.signature.payload_sha256
    if error.algorithm == "SHA256" and signed and base64.b64decode(error.declared).hex() == signed:
        return XAmzContentSHA256Mismatch(signed, base64.b64decode(error.computed).hex())
    return error


class ChecksumOf(Enum):
    """What the x-amz-checksum-* headers of a request with a document speak of."""

    DOCUMENT = "document"
    OBJECT = "object"
    """The object that the request finishes (CompleteMultipartUpload)."""


async def read_document(
    call: Call,
    *,
    required: bool = True,
    maximum_bytes: int = MAXIMUM_DOCUMENT_BYTES,
    checksum_of: ChecksumOf = ChecksumOf.DOCUMENT,
) -> bytes:
    """The whole body of a request whose body is a small document, with everything declared about it checked.

    Raises:
        S3Refusal: MissingRequestBodyError, MaxMessageLengthExceeded.
        BadDigest, XAmzContentSHA256Mismatch, IncompleteBody …
    """
    checks = body_checks(call) if checksum_of is ChecksumOf.DOCUMENT else _checks(call)
    source = body_source(call)
    declared = source.declared_bytes
    if declared is not None and declared > maximum_bytes:
        raise S3Refusal("MaxMessageLengthExceeded")
    view = source.whole()
    data = bytes(view) if view is not None else await _read_all(source, maximum_bytes)
    if required and not data:
        raise S3Refusal("MissingRequestBodyError")
    _check_document(data, checks, source.trailing_checksums())
    return data


def _check_document(data: bytes, checks: BodyChecks, trailing: Sequence[Checksum]) -> None:
    if checks.payload_sha256 is not None:
        computed = digest_of("SHA256", data)
        if computed != checks.payload_sha256:
            raise XAmzContentSHA256Mismatch(checks.payload_sha256.hex(), computed.hex())
    if checks.content_md5 is not None:
        check_equal("MD5", checks.content_md5, digest_of("MD5", data))
    for checksum in (*checks.checksums, *trailing):
        check_equal(checksum.algorithm, checksum.value, digest_of(checksum.algorithm, data))


async def _read_all(source: BodySource, maximum_bytes: int) -> bytes:
    buffer = bytearray(min(64 * 1024, maximum_bytes + 1))
    parts = bytearray()
    while True:
        count = await source.receive_into(memoryview(buffer))
        if count == 0:
            break
        parts += memoryview(buffer)[:count]
        if len(parts) > maximum_bytes:
            raise S3Refusal("MaxMessageLengthExceeded")
    declared = source.declared_bytes
    if declared is not None and len(parts) != declared:
        raise IncompleteBody(declared_bytes=declared, received_bytes=len(parts))
    return bytes(parts)
