"""PITFALLS D5, D6: framing is never stored, in no mode, at no size; broken framing stores nothing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from tests.s3.wire.client import Caller, check_refusal
from tests.s3.wire.framing import (
    CRC32,
    MODES,
    SIGNED_CHUNKS,
    SIGNED_TRAILER,
    UNSIGNED_TRAILER,
    Framed,
    crc32_text,
    framed_put,
)

SIZES = (0, 1, 65535, 65536, 65537, 5 * 1024 * 1024)
DATA = random.Random(5).randbytes(max(SIZES))


@pytest.mark.parametrize(("mode", "size"), list(itertools.product(MODES, SIZES)))
def test_d5_a_put_stores_the_bytes_and_not_their_framing(root: Caller, bucket: str, mode: str, size: int) -> None:
    target = f"/{bucket}/k"
    answer = framed_put(root, target, DATA[:size], mode).send(root, target)
    assert answer.status == 200, answer.body
    read = root.get(target, ("x-amz-checksum-mode", "ENABLED"))
    assert read.body == DATA[:size]
    assert "content-encoding" not in read.headers
    if "TRAILER" in mode:
        assert answer.headers[CRC32] == read.headers[CRC32] == crc32_text(DATA[:size])


@pytest.mark.parametrize("mode", MODES)
def test_d5_parts_store_the_bytes_and_not_their_framing(root: Caller, bucket: str, mode: str) -> None:
    target = f"/{bucket}/k"
    sizes = (5 * 1024 * 1024, 1024 * 1024, 1024 * 1024 + 1, 65537, 1)
    upload = root.post(f"{target}?uploads").text("UploadId")
    lines = ""
    for number, size in enumerate((*sizes[:3], sizes[3]), 1):
        part = f"{target}?partNumber={number}&uploadId={upload}"
        answer = framed_put(root, part, DATA[number : number + size], mode).send(root, part)
        assert answer.status == 200, answer.body
        lines += f"<Part><PartNumber>{number}</PartNumber><ETag>{answer.headers['etag']}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()
    assert root.post(f"{target}?uploadId={upload}", body).status == 200
    wanted = b"".join(DATA[number : number + size] for number, size in enumerate(sizes[:4], 1))
    assert root.get(target).body == wanted


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("aws-chunked,gzip", "gzip"), ("gzip, aws-chunked", "gzip"), ("aws-chunked", None), ("gzip", "gzip")],
)
def test_d6_aws_chunked_is_no_content_encoding(root: Caller, bucket: str, sent: str, kept: str | None) -> None:
    target = f"/{bucket}/k"
    assert root.put(target, b"x", ("content-encoding", sent)).status == 200
    assert root.get(target).headers.get("content-encoding") == kept
    copy = root.put(f"/{bucket}/copy", b"", ("x-amz-copy-source", f"/{bucket}/k"))
    assert copy.status == 200
    assert root.head(f"/{bucket}/copy").headers.get("content-encoding") == kept
    assert root.request("POST", f"/{bucket}/parts?uploads", (("content-encoding", sent),)).status == 200


Damage = Callable[[bytes], bytes]


def replaced(old: bytes, new: bytes) -> Damage:
    return lambda body: body.replace(old, new, 1)


SMALL = b"0123456789" * 30
"""Sent in chunks of 100 bytes, that is `64` in hexadecimal."""

BREAKS: dict[str, tuple[str, Damage, str]] = {
    "a size that is no number": (UNSIGNED_TRAILER, replaced(b"64\r\n", b"zz\r\n"), "InvalidRequest"),
    "a size beyond any object": (UNSIGNED_TRAILER, replaced(b"64\r\n", b"f" * 17 + b"\r\n"), "InvalidRequest"),
    "a negative size": (UNSIGNED_TRAILER, replaced(b"64\r\n", b"-64\r\n"), "InvalidRequest"),
    "no size": (UNSIGNED_TRAILER, replaced(b"64\r\n", b"\r\n"), "InvalidRequest"),
    "data longer than the size": (UNSIGNED_TRAILER, replaced(b"64\r\n", b"63\r\n"), "InvalidRequest"),
    "data shorter than the size": (UNSIGNED_TRAILER, replaced(b"64\r\n", b"65\r\n"), "InvalidRequest"),
    "a chunk left out": (
        UNSIGNED_TRAILER,
        replaced(b"64\r\n" + SMALL[:100] + b"\r\n", b""),
        "IncompleteBody",
    ),
    "a chunk twice": (
        UNSIGNED_TRAILER,
        replaced(b"64\r\n" + SMALL[:100] + b"\r\n", (b"64\r\n" + SMALL[:100] + b"\r\n") * 2),
        "IncompleteBody",
    ),
    "no last chunk": (UNSIGNED_TRAILER, lambda body: body[: body.index(b"\r\n0\r\n") + 2], "IncompleteBody"),
    "bytes behind the end": (UNSIGNED_TRAILER, lambda body: body + b"more", "InvalidRequest"),
    "another checksum in the trailer": (
        UNSIGNED_TRAILER,
        replaced(crc32_text(SMALL).encode(), crc32_text(b"").encode()),
        "BadDigest",
    ),
    "a checksum that is none": (UNSIGNED_TRAILER, replaced(crc32_text(SMALL).encode(), b"!!"), "InvalidRequest"),
    "the announced trailer missing": (
        UNSIGNED_TRAILER,
        lambda body: body[: body.index(b"0\r\n" + CRC32.encode())] + b"0\r\n\r\n",
        "MalformedTrailerError",
    ),
    "the trailer twice": (
        UNSIGNED_TRAILER,
        lambda body: body[:-2] + CRC32.encode() + b":" + crc32_text(SMALL).encode() + b"\r\n\r\n",
        "MalformedTrailerError",
    ),
    "a trailer that was not announced": (
        UNSIGNED_TRAILER,
        replaced(CRC32.encode() + b":", b"x-amz-meta-colour:"),
        "MalformedTrailerError",
    ),
    "one byte of signed data changed": (SIGNED_CHUNKS, replaced(b"0123", b"0124"), "SignatureDoesNotMatch"),
    "one byte of the last chunk's signature changed": (
        SIGNED_CHUNKS,
        lambda body: body[:-5] + (b"0" if body[-5:-4] != b"0" else b"1") + body[-4:],
        "SignatureDoesNotMatch",
    ),
    "signed chunks without signatures": (
        SIGNED_CHUNKS,
        lambda body: b"".join(b"64\r\n" + SMALL[n : n + 100] + b"\r\n" for n in (0, 100, 200)) + b"0\r\n\r\n",
        "InvalidRequest",
    ),
    "the signed trailer changed": (
        SIGNED_TRAILER,
        replaced(crc32_text(SMALL).encode(), crc32_text(b"").encode()),
        "SignatureDoesNotMatch",
    ),
    "the trailer's signature left out": (
        SIGNED_TRAILER,
        lambda body: body[: body.index(b"x-amz-trailer-signature")] + b"\r\n",
        "MalformedTrailerError",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_d5_broken_framing_is_refused_and_nothing_is_stored(root: Caller, bucket: str, what: str) -> None:
    mode, damage, code = BREAKS[what]
    target = f"/{bucket}/k"
    whole = framed_put(root, target, SMALL, mode, chunk_bytes=100)
    body = damage(whole.body)
    assert body != whole.body
    headers = [(name, value) for name, value in whole.headers if name != "content-length"]
    answer = Framed([*headers, ("content-length", str(len(body)))], body).send(root, target)
    check_refusal(answer, 403 if code == "SignatureDoesNotMatch" else 400, code, target)
    assert root.get(target).code == "NoSuchKey"


def test_d5_swapped_signed_chunks_are_refused(root: Caller, bucket: str) -> None:
    target = f"/{bucket}/k"
    whole = framed_put(root, target, b"a" * 100 + b"b" * 100, SIGNED_CHUNKS, chunk_bytes=100)
    length = whole.body.index(b"b" * 100) - whole.body.index(b"a" * 100)
    swapped = whole.body[length : 2 * length] + whole.body[:length] + whole.body[2 * length :]
    check_refusal(Framed(whole.headers, swapped).send(root, target), 403, "SignatureDoesNotMatch", target)
    assert root.get(target).status == 404


@pytest.mark.parametrize("mode", [mode for mode in MODES if "STREAMING" in mode])
@pytest.mark.parametrize("data", [SMALL + b"x", SMALL[:-1]])
def test_d4_a_body_of_another_length_than_declared_is_refused(
    root: Caller, bucket: str, mode: str, data: bytes
) -> None:
    target = f"/{bucket}/k"
    request = framed_put(root, target, SMALL, mode)
    other = framed_put(root, target, data, mode)
    kept = [(name, value) for name, value in request.headers if name != "content-length"]
    length = [(name, value) for name, value in other.headers if name == "content-length"]
    answer = Framed([*kept, *length], other.body).send(root, target)
    # The declared length is signed: signed chunks of another body fit another signature.
    is_signed = mode in (SIGNED_CHUNKS, SIGNED_TRAILER)
    check_refusal(answer, *((403, "SignatureDoesNotMatch") if is_signed else (400, "IncompleteBody")), target)
    assert root.get(target).status == 404
