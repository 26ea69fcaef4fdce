"""Long bodies that a thread takes in from the socket: the same answers and the same objects as the loop's way."""

from __future__ import annotations

import base64
import errno
import hashlib
import random
import socket
import threading
import zlib
from collections.abc import Callable

import pytest

from rs3d.engine import bodies, digests, intake
from rs3d.kernels.bodyhash import Ending
from rs3d.stores.blobwriter import LocalBlobWriter
from tests.s3.wire.client import Caller, Connection, head_bytes
from tests.s3.wire.conftest import MIB
from tests.s3.wire.framing import UNSIGNED
from tests.s3.wire.server import WireServer
from tests.s3.wire.test_plain_writes import THE_LONG_WAY
from tests.system.waiting import wait_until

BODY = random.Random(7).randbytes(20 * MIB + 5)
LONG = BODY[: 3 * MIB + 1]


def put_head(caller: Caller, target: str, length: int, *headers: tuple[str, str]) -> bytes:
    signed = caller.headers("PUT", target, (*headers, THE_LONG_WAY), b"", payload_hash=UNSIGNED)
    return head_bytes("PUT", target, [*signed, ("content-length", str(length))])


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB, 3 * MIB + 1, 16 * MIB, 17 * MIB, len(BODY)])
def test_a_long_body_is_stored_and_answered_as_ever(
    root: Caller, bucket: str, endings: list[Ending | None], size: int
) -> None:
    target, body = f"/{bucket}/k", BODY[:size]
    short = root.request("PUT", target, body=body, payload_hash=UNSIGNED)
    assert short.status == 200
    assert endings == [Ending.DONE] * (1 if size <= 16 * MIB else 2)
    assert root.get(target).body == body
    long = root.put(target, body)
    assert short.headers["etag"] == long.headers["etag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert root.get(target).body == body


def with_checksums(data: bytes) -> list[tuple[str, str]]:
    return [("x-amz-checksum-crc32", base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode())]


def test_a_body_with_a_checksum_or_a_signed_digest_is_taken_in(
    root: Caller, bucket: str, endings: list[Ending | None]
) -> None:
    target = f"/{bucket}/k"
    assert root.request("PUT", target, with_checksums(BODY), body=BODY, payload_hash=UNSIGNED).status == 200
    assert endings == [Ending.DONE] * 2
    assert root.request("PUT", target, with_checksums(BODY), body=BODY).status == 200
    # Without a unit for SHA-256 OpenSSL's is the faster one, and the body goes piece by piece.
    assert endings == [Ending.DONE] * (4 if digests._HAS_SHA_UNIT else 2)
    got = root.get(target, ("x-amz-checksum-mode", "ENABLED"))
    assert got.body == BODY
    assert got.headers["x-amz-checksum-crc32"] == with_checksums(BODY)[0][1]


def test_what_was_signed_or_declared_is_held_against_all_of_the_body(
    root: Caller, bucket: str, endings: list[Ending | None]
) -> None:
    target = f"/{bucket}/k"
    for at in (0, MIB, len(LONG) - 1):
        other = bytearray(LONG)
        other[at] ^= 1
        answer = root.request("PUT", target, with_checksums(LONG), body=bytes(other), payload_hash=UNSIGNED)
        assert (answer.status, answer.code) == (400, "BadDigest")
        answer = root.request("PUT", target, body=bytes(other), payload_hash=hashlib.sha256(LONG).hexdigest())
        assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
    assert len(endings) == (6 if digests._HAS_SHA_UNIT else 3)
    assert root.get(target).status == 404


def test_a_digest_that_no_kernel_makes_is_made_piece_by_piece(
    root: Caller, bucket: str, endings: list[Ending | None]
) -> None:
    target = f"/{bucket}/k"
    sha1 = ("x-amz-checksum-sha1", base64.b64encode(hashlib.sha1(LONG).digest()).decode())
    assert root.request("PUT", target, (sha1,), body=LONG, payload_hash=UNSIGNED).status == 200
    assert endings == []
    assert root.get(target).body == LONG


@pytest.mark.parametrize("size", [1000, MIB])
def test_a_body_of_one_piece_is_not_taken_in(
    root: Caller, bucket: str, endings: list[Ending | None], size: int
) -> None:
    assert root.request("PUT", f"/{bucket}/k", body=BODY[:size], payload_hash=UNSIGNED).status == 200
    assert endings == []


def test_a_part_of_an_upload_is_taken_in(root: Caller, bucket: str, endings: list[Ending | None]) -> None:
    target = f"/{bucket}/k"
    upload = root.post(f"{target}?uploads").text("UploadId")
    part = root.request("PUT", f"{target}?partNumber=1&uploadId={upload}", body=LONG, payload_hash=UNSIGNED)
    assert part.headers["etag"] == f'"{hashlib.md5(LONG).hexdigest()}"'
    assert endings == [Ending.DONE]
    tag = part.headers["etag"]
    listed = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    )
    assert root.post(f"{target}?uploadId={upload}", listed.encode()).status == 200
    assert root.get(target).body == LONG


def test_a_declared_md5_that_is_another_is_refused(root: Caller, bucket: str, endings: list[Ending | None]) -> None:
    wrong = ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")
    answer = root.request("PUT", f"/{bucket}/k", (wrong,), body=LONG, payload_hash=UNSIGNED)
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert endings == [Ending.DONE]
    assert root.get(f"/{bucket}/k").status == 404


def test_requests_behind_the_body_are_answered_after_it(
    root: Caller, bucket: str, endings: list[Ending | None]
) -> None:
    target = f"/{bucket}/k"
    get = head_bytes("GET", target, root.headers("GET", target))
    with Connection(root.address) as connection:
        connection.send(put_head(root, target, len(LONG)) + LONG + get)
        received = b""
        while not received.endswith(LONG[-1000:]):
            received += connection.socket.recv(1 << 20)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert endings == [Ending.DONE]


def test_a_client_that_waits_for_leave_to_send_gets_it(root: Caller, bucket: str, endings: list[Ending | None]) -> None:
    target = f"/{bucket}/k"
    with Connection(root.address) as connection:
        connection.send(put_head(root, target, len(LONG), ("expect", "100-continue")))
        assert connection.socket.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(LONG)
        assert connection.receive("PUT").status == 200
    assert endings == [Ending.DONE]
    assert root.get(target).body == LONG


@pytest.mark.parametrize("sent", [1, MIB, 2 * MIB + 5, len(LONG) - 1])
def test_a_body_that_ends_early_is_refused_and_leaves_nothing(
    wire: WireServer, root: Caller, bucket: str, endings: list[Ending | None], sent: int
) -> None:
    with Connection(root.address) as connection:
        connection.send(put_head(root, f"/{bucket}/k", len(LONG)) + LONG[:sent])
        connection.socket.shutdown(socket.SHUT_WR)
        answer = connection.receive("PUT")
    assert (answer.status, answer.code) == (400, "IncompleteBody")
    assert endings == [Ending.END]
    assert root.get(f"/{bucket}/k").status == 404
    assert not wire.call(lambda: wire.running.engine._runtime.buffers.leased)


def test_a_client_that_leaves_holds_nothing(
    wire: WireServer, root: Caller, bucket: str, endings: list[Ending | None]
) -> None:
    for number in range(8):
        with Connection(root.address) as connection:
            connection.send(put_head(root, f"/{bucket}/{number}", len(LONG)) + LONG[: 1 + number * 400_000])
    runtime = wire.running.engine._runtime
    wait_until(lambda: wire.call(lambda: len(endings) == 8 and not runtime.buffers.leased))
    assert root.get(f"/{bucket}?list-type=2").texts("Contents/Key") == []


def test_a_slow_client_is_received_by_the_loop_from_there_on(
    root: Caller, bucket: str, endings: list[Ending | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_NS", 1)
    target = f"/{bucket}/k"
    with Connection(root.address) as connection:
        connection.send(put_head(root, target, len(LONG)) + LONG[: MIB + 9])
        wait_until(lambda: endings == [Ending.SLOW])
        connection.send(LONG[MIB + 9 :])
        assert connection.receive("PUT").status == 200
        assert root.get(target).body == LONG
        connection.send(put_head(root, target, len(BODY)) + BODY)  # no thread for this client any more
        assert connection.receive("PUT").status == 200
    assert root.get(target).body == BODY
    assert endings == [Ending.SLOW]


def test_no_thread_is_waited_for(wire: WireServer, root: Caller, bucket: str, endings: list[Ending | None]) -> None:
    target = f"/{bucket}/k"
    arrivals = wire.running.engine._runtime.arrivals
    go_on = threading.Event()

    def occupy() -> None:
        for _ in range(arrivals._count):
            arrivals.start(go_on.wait)

    wire.call(occupy)
    try:
        assert root.request("PUT", target, body=LONG, payload_hash=UNSIGNED).status == 200
    finally:
        go_on.set()
    assert root.get(target).body == LONG
    assert endings == []


def test_a_disk_that_is_full_is_told_as_ever(
    root: Caller, bucket: str, endings: list[Ending | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    append_by = LocalBlobWriter.append_by

    def full(self: LocalBlobWriter, append: Callable[[int, int, int], int]) -> bool:
        with open("/dev/full", "wb") as nowhere:
            return append_by(self, lambda _data, offset, align: append(nowhere.fileno(), offset, align))

    monkeypatch.setattr(LocalBlobWriter, "append_by", full)
    answer = root.request("PUT", f"/{bucket}/k", body=LONG, payload_hash=UNSIGNED)
    assert answer.status == 507
    assert root.get(f"/{bucket}/k").status == 404
    monkeypatch.undo()
    assert root.request("PUT", f"/{bucket}/k", body=LONG, payload_hash=UNSIGNED).status == 200


def test_a_process_without_descriptors_receives_by_the_loop(
    root: Caller, bucket: str, endings: list[Ending | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(intake, "Intake", refuse)
    assert root.request("PUT", f"/{bucket}/k", [THE_LONG_WAY], body=LONG, payload_hash=UNSIGNED).status == 200
    assert root.get(f"/{bucket}/k").body == LONG
    assert endings == []


def test_many_at_once_are_all_stored(root: Caller, bucket: str, endings: list[Ending | None]) -> None:
    found = {f"/{bucket}/{number}": BODY[number * 1000 : number * 1000 + 2 * MIB + number] for number in range(20)}
    answers: list[int] = []

    def put(target: str, body: bytes) -> None:
        answers.append(root.request("PUT", target, body=body, payload_hash=UNSIGNED).status)

    threads = [threading.Thread(target=put, args=each) for each in found.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 20
    assert all(root.get(target).body == body for target, body in found.items())
    assert set(endings) == {Ending.DONE}


def test_a_server_that_stops_lets_go_of_a_client_that_sends_no_more(tmp_path_factory: pytest.TempPathFactory) -> None:
    with WireServer(tmp_path_factory.mktemp("stopped") / "store") as wire:
        root = Caller(wire.address, wire.root)
        assert root.put("/bucket").status == 200
        connection = Connection(root.address)
        connection.send(put_head(root, "/bucket/k", len(LONG)) + LONG[:MIB])
        runtime = wire.running.engine._runtime
        wait_until(lambda: wire.call(lambda: runtime.arrivals.outstanding == 1))
    connection.socket.close()
