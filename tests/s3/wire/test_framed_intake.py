"""Long aws-chunked bodies whose framing a thread takes away: stored, answered and refused as by the loop's way."""

from __future__ import annotations

import base64
import hashlib
import random
import socket
import threading
from collections.abc import Callable

import pytest

from rs3d.engine import bodies, digests
from rs3d.kernels.bodyhash import Ending
from tests.s3.wire.client import Answer, Caller, Connection, as_text, check_refusal, head_bytes, signed
from tests.s3.wire.conftest import MIB
from tests.s3.wire.framing import (
    CRC32,
    SIGNED_CHUNKS,
    SIGNED_TRAILER,
    UNSIGNED_TRAILER,
    UNSIGNED_TRAILER_IN_CHUNKS,
    Framed,
    crc32_text,
    encode,
    framed_put,
)
from tests.s3.wire.server import WireServer
from tests.system.waiting import wait_until

MODES = (SIGNED_CHUNKS, SIGNED_TRAILER, UNSIGNED_TRAILER)
BODY = random.Random(9).randbytes(20 * MIB + 5)
LONG = BODY[: 3 * MIB + 1]


def taken(mode: str, count: int = 1) -> list[Ending]:
    """How so many bodies of a mode end that threads may take in. Without a unit for SHA-256 signed chunks stay with the
    loop."""
    return [Ending.DONE] * count if mode == UNSIGNED_TRAILER or digests._HAS_SHA_UNIT else []


def resized(request: Framed, body: bytes) -> Framed:
    """The same request with another body."""
    headers = [(name, value) for name, value in request.headers if name != "content-length"]
    return Framed([*headers, ("content-length", str(len(body)))], body)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("chunk_bytes", [8192, 65536, 65537, MIB, 30 * MIB])
def test_a_long_body_is_stored_without_its_framing(
    root: Caller, bucket: str, endings: list[Ending | None], mode: str, chunk_bytes: int
) -> None:
    target = f"/{bucket}/k"
    answer = framed_put(root, target, LONG, mode, chunk_bytes=chunk_bytes).send(root, target)
    assert (answer.status, answer.headers["etag"]) == (200, f'"{hashlib.md5(LONG).hexdigest()}"')
    assert endings == taken(mode)
    plain = root.put(f"/{bucket}/plain", LONG)
    assert answer.headers["x-rs3d-merkle-root"] == plain.headers["x-rs3d-merkle-root"]
    read = root.get(target, ("x-amz-checksum-mode", "ENABLED"))
    assert read.body == LONG
    assert "content-encoding" not in read.headers
    if mode != SIGNED_CHUNKS:
        assert answer.headers[CRC32] == read.headers[CRC32] == crc32_text(LONG)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB, 16 * MIB - 1, len(BODY)])
def test_bodies_of_all_lengths_go_in_turns_of_some_mebibytes(
    root: Caller, bucket: str, endings: list[Ending | None], mode: str, size: int
) -> None:
    target = f"/{bucket}/k"
    assert framed_put(root, target, BODY[:size], mode).send(root, target).status == 200
    assert endings == taken(mode, 1 if size < 16 * MIB else 2)
    assert root.get(target).body == BODY[:size]


@pytest.mark.parametrize("mode", MODES)
def test_chunks_too_small_to_be_kept_all_are_checked_in_turns(
    root: Caller, bucket: str, endings: list[Ending | None], mode: str
) -> None:
    target, data = f"/{bucket}/k", BODY[: MIB + 99]
    assert framed_put(root, target, data, mode, chunk_bytes=300).send(root, target).status == 200
    assert (Ending.FULL in endings) == (mode != UNSIGNED_TRAILER and digests._HAS_SHA_UNIT)
    assert root.get(target).body == data


@pytest.mark.parametrize("mode", MODES)
def test_a_part_of_an_upload_is_stored_without_its_framing(
    root: Caller, bucket: str, endings: list[Ending | None], mode: str
) -> None:
    target = f"/{bucket}/k"
    upload = root.post(f"{target}?uploads").text("UploadId")
    part = f"{target}?partNumber=1&uploadId={upload}"
    tag = framed_put(root, part, LONG, mode).send(root, part).headers["etag"]
    assert (tag, endings) == (f'"{hashlib.md5(LONG).hexdigest()}"', taken(mode))
    listed = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    assert root.post(f"{target}?uploadId={upload}", body).status == 200
    assert root.get(target).body == LONG


@pytest.mark.parametrize("size", [1000, MIB])
@pytest.mark.parametrize("mode", [*MODES, UNSIGNED_TRAILER_IN_CHUNKS])
def test_what_fits_a_buffer_or_has_no_length_goes_as_ever(
    root: Caller, bucket: str, endings: list[Ending | None], mode: str, size: int
) -> None:
    target = f"/{bucket}/k"
    data = LONG if mode == UNSIGNED_TRAILER_IN_CHUNKS else BODY[:size]
    assert framed_put(root, target, data, mode).send(root, target).status == 200
    assert root.get(target).body == data
    assert endings == []


def test_a_digest_that_no_intake_makes_is_made_as_ever(root: Caller, bucket: str, endings: list[Ending | None]) -> None:
    target = f"/{bucket}/k"
    checksum = base64.b64encode(hashlib.sha256(LONG).digest()).decode()
    extra = [("x-amz-checksum-sha256", checksum), ("x-amz-decoded-content-length", str(len(LONG)))]
    assert root.identity is not None
    request = signed(root.identity, root.host, "PUT", target, extra, payload_hash=SIGNED_CHUNKS)
    body = encode(request, LONG, SIGNED_CHUNKS, 65536)
    headers = [*as_text(request.headers), ("content-length", str(len(body)))]
    assert Framed(headers, body).send(root, target).status == 200
    assert root.get(target).body == LONG
    assert endings == []


def changed(at: int) -> Callable[[bytes], bytes]:
    return lambda body: body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


FRAMED_HEAD = len(b"10000;chunk-signature=") + 64 + 2
UNSIGNED_HEAD = len(b"10000\r\n")

BREAKS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "a byte of the first chunk": (SIGNED_CHUNKS, changed(FRAMED_HEAD + 9), "SignatureDoesNotMatch"),
    "a byte behind two MiB": (SIGNED_TRAILER, changed(2 * MIB + 9_000), "SignatureDoesNotMatch"),
    "the last byte": (
        SIGNED_CHUNKS,
        changed(-1 - len(b"\r\n0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n")),
        "SignatureDoesNotMatch",
    ),
    "the signature of the chunk without bytes": (
        SIGNED_CHUNKS,
        lambda body: body[:-5] + (b"0" if body[-5:-4] != b"0" else b"1") + body[-4:],
        "SignatureDoesNotMatch",
    ),
    "the signed trailer": (
        SIGNED_TRAILER,
        lambda body: body.replace(crc32_text(LONG).encode(), crc32_text(b"").encode()),
        "SignatureDoesNotMatch",
    ),
    "two chunks in each other's place": (
        SIGNED_CHUNKS,
        lambda body: (
            body[65536 + FRAMED_HEAD + 2 :][: 65536 + FRAMED_HEAD + 2]
            + body[: 65536 + FRAMED_HEAD + 2]
            + body[2 * (65536 + FRAMED_HEAD + 2) :]
        ),
        "SignatureDoesNotMatch",
    ),
    "a size at the start": (UNSIGNED_TRAILER, lambda body: b"x" + body[1:], "InvalidRequest"),
    "a size behind two MiB": (
        UNSIGNED_TRAILER,
        lambda body: body[: 32 * (65536 + UNSIGNED_HEAD + 2)] + b"x" + body[32 * (65536 + UNSIGNED_HEAD + 2) + 1 :],
        "InvalidRequest",
    ),
    "the end of a chunk's data": (
        UNSIGNED_TRAILER,
        lambda body: body[: 65536 + UNSIGNED_HEAD] + b"\n\n" + body[65536 + UNSIGNED_HEAD + 2 :],
        "InvalidRequest",
    ),
    "a chunk left out": (UNSIGNED_TRAILER, lambda body: body[65536 + UNSIGNED_HEAD + 2 :], "IncompleteBody"),
    "a chunk twice": (
        UNSIGNED_TRAILER,
        lambda body: body[: 65536 + UNSIGNED_HEAD + 2] + body,
        "IncompleteBody",
    ),
    "no last chunk": (UNSIGNED_TRAILER, lambda body: body[: body.rindex(b"\r\n0\r\n") + 2], "IncompleteBody"),
    "bytes behind the end": (UNSIGNED_TRAILER, lambda body: body + b"more", "InvalidRequest"),
    "a MiB behind the end": (UNSIGNED_TRAILER, lambda body: body + bytes(MIB), "InvalidRequest"),
    "another checksum in the trailer": (
        UNSIGNED_TRAILER,
        lambda body: body.replace(crc32_text(LONG).encode(), crc32_text(b"").encode()),
        "BadDigest",
    ),
    "the announced trailer missing": (
        UNSIGNED_TRAILER,
        lambda body: body[: body.rindex(b"0\r\n" + CRC32.encode())] + b"0\r\n\r\n",
        "MalformedTrailerError",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_broken_framing_is_refused_and_nothing_is_stored(
    wire: WireServer, root: Caller, bucket: str, endings: list[Ending | None], what: str
) -> None:
    mode, damage, code = BREAKS[what]
    target = f"/{bucket}/k"
    whole = framed_put(root, target, LONG, mode)
    body = damage(whole.body)
    assert body != whole.body
    answer = resized(whole, body).send(root, target)
    check_refusal(answer, 403 if code == "SignatureDoesNotMatch" else 400, code, target)
    assert root.get(target).status == 404
    assert len(endings) == len(taken(mode))
    runtime = wire.running.engine._runtime
    assert not wire.call(lambda: runtime.buffers.leased)


def test_the_refusal_of_a_chunk_says_what_was_to_be_signed(
    root: Caller, bucket: str, endings: list[Ending | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"/{bucket}/k"
    whole = framed_put(root, target, LONG, SIGNED_CHUNKS)
    request = Framed(whole.headers, changed(2 * MIB + 9_000)(whole.body))
    texts: list[Answer] = [request.send(root, target)]
    monkeypatch.setattr(bodies, "can_take_framed", lambda *_, **__: False)
    texts.append(request.send(root, target))
    assert texts[0].text("StringToSign") == texts[1].text("StringToSign") != ""
    assert len(endings) == len(taken(SIGNED_CHUNKS))


@pytest.mark.parametrize("mode", MODES)
def test_a_slow_client_is_received_by_the_loop_from_there_on(
    root: Caller, bucket: str, endings: list[Ending | None], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_NS", 1)
    target = f"/{bucket}/k"
    request = framed_put(root, target, LONG, mode)
    with Connection(root.address) as connection:
        connection.send(head_bytes("PUT", target, request.headers) + request.body[: MIB + 9])
        wait_until(lambda: endings == [Ending.SLOW] or not taken(mode))
        connection.send(request.body[MIB + 9 : 2 * MIB])
        connection.send(request.body[2 * MIB :])
        assert connection.receive("PUT").status == 200
    assert root.get(target).body == LONG
    if taken(mode):
        # Each bufferful is still one visit of a thread, with nothing to be received.
        assert endings[0] is Ending.SLOW and set(endings[1:]) == {Ending.DONE} and len(endings) < 8


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sent", [1, MIB, 2 * MIB + 5, len(LONG) - 1])
def test_a_body_that_ends_early_is_refused_and_leaves_nothing(
    wire: WireServer, root: Caller, bucket: str, endings: list[Ending | None], mode: str, sent: int
) -> None:
    target = f"/{bucket}/k"
    request = framed_put(root, target, LONG, mode)
    with Connection(root.address) as connection:
        connection.send(head_bytes("PUT", target, request.headers) + request.body[:sent])
        connection.socket.shutdown(socket.SHUT_WR)
        answer = connection.receive("PUT")
    assert (answer.status, answer.code) == (400, "IncompleteBody")
    assert endings == [Ending.END] * len(taken(mode))
    assert root.get(target).status == 404
    assert not wire.call(lambda: wire.running.engine._runtime.buffers.leased)


@pytest.mark.parametrize("mode", MODES)
def test_no_thread_that_waits_for_clients_is_waited_for(wire: WireServer, root: Caller, bucket: str, mode: str) -> None:
    target = f"/{bucket}/k"
    arrivals = wire.running.engine._runtime.arrivals
    go_on = threading.Event()

    def occupy() -> None:
        for _ in range(arrivals._count):
            arrivals.start(go_on.wait)

    wire.call(occupy)
    try:
        assert framed_put(root, target, LONG, mode).send(root, target).status == 200
    finally:
        go_on.set()
    assert root.get(target).body == LONG


def test_many_at_once_are_all_stored(root: Caller, bucket: str, endings: list[Ending | None]) -> None:
    found = {f"/{bucket}/{number}": BODY[number * 1000 : number * 1000 + 2 * MIB + number] for number in range(18)}
    answers: list[int] = []

    def put(number: int, target: str, data: bytes) -> None:
        chunk_bytes = (65536, 65536, 8192 + number)[number // 3 % 3]
        request = framed_put(root, target, data, MODES[number % 3], chunk_bytes=chunk_bytes)
        answers.append(request.send(root, target).status)

    threads = [threading.Thread(target=put, args=(number, *each)) for number, each in enumerate(found.items())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 18
    assert all(root.get(target).body == data for target, data in found.items())
    assert set(endings) == {Ending.DONE}
