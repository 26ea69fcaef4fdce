"""The shortcut of PUT for objects and parts that are longer than a body buffer: the same answers as the long way's, and
the same objects, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from rs3d.engine import bodies, longwrites
from rs3d.engine.longwrites import LongWrite
from rs3d.errors import NoSuchUpload, Rs3dError
from rs3d.http.receivedfile import ReceivedFile
from rs3d.kernels.bodyhash import Ending
from rs3d.stores.blobwriter import LocalBlobWriter
from rs3d.types.operations import Operation, Outcome
from tests.s3.wire.client import Caller, Connection, head_bytes
from tests.s3.wire.conftest import MIB
from tests.s3.wire.framing import UNSIGNED
from tests.s3.wire.server import WireServer
from tests.s3.wire.test_plain_writes import ENABLED, SEALED, THE_LONG_WAY, check_both_ways, shown
from tests.system.waiting import wait_until

BODY = random.Random(3).randbytes(17 * MIB)
LONG = BODY[: 5 * MIB + 3]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, root: Caller, bucket: str, patient: None) -> Iterator[list[bool]]:
    """For each body that the shortcut began, whether it came to its end there. A segment for blobs is open."""
    ends: list[bool] = []
    end = LongWrite._end

    def watched(self: LongWrite) -> None:
        ends.append(self.outcome is not None)
        end(self)

    assert root.put(f"/{bucket}/opener", LONG, THE_LONG_WAY).status == 200
    monkeypatch.setattr(LongWrite, "_end", watched)
    yield ends


@pytest.fixture
def left_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """How many files of what was received are open."""
    made: list[ReceivedFile] = []
    init = ReceivedFile.__init__

    def watched(self: ReceivedFile, fd: int, length: int) -> None:
        made.append(self)
        init(self, fd, length)

    monkeypatch.setattr(ReceivedFile, "__init__", watched)
    yield lambda: sum(found._fd >= 0 for found in made)
    assert made


@pytest.fixture
def upload(root: Caller, bucket: str) -> str:
    return begun(root, bucket)


def begun(root: Caller, bucket: str, *headers: tuple[str, str]) -> str:
    (upload_id,) = root.request("POST", f"/{bucket}/parts?uploads", headers).texts("UploadId")
    return upload_id


def part_of(bucket: str, upload: str, number: int = 1) -> str:
    return f"/{bucket}/parts?partNumber={number}&uploadId={upload}"


def complete(root: Caller, bucket: str, upload: str, *etags: str) -> bytes:
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
    )
    document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    assert root.request("POST", f"/{bucket}/parts?uploadId={upload}", (), document).status == 200
    return root.get(f"/{bucket}/parts").body


def put_head(caller: Caller, target: str, length: int, payload_hash: str = UNSIGNED) -> bytes:
    signed = caller.headers("PUT", target, (), b"", payload_hash=payload_hash)
    return head_bytes("PUT", target, [*signed, ("content-length", str(length))])


@pytest.mark.parametrize("size", [MIB + 1, 2 * MIB, 5 * MIB + 3, 16 * MIB])
def test_a_long_put_is_answered_as_ever(root: Caller, bucket: str, stored: list[bool], size: int) -> None:
    check_both_ways(root, f"/{bucket}/k", BODY[:size], ("content-type", "image/png"))
    assert stored == [True]


def test_what_one_intake_does_not_take_goes_the_long_way(root: Caller, bucket: str, stored: list[bool]) -> None:
    check_both_ways(root, f"/{bucket}/k", BODY)
    assert stored == []


def test_versions_are_made_and_named_as_ever(root: Caller, bucket: str, stored: list[bool]) -> None:
    root.put(f"/{bucket}?versioning", ENABLED)
    check_both_ways(root, f"/{bucket}/k", LONG)
    assert stored == [True]
    assert len(root.get(f"/{bucket}?versions&prefix=k").texts("Version/VersionId")) == 2


@pytest.mark.parametrize("payload_hash", [None, UNSIGNED])
def test_a_part_is_answered_as_ever(
    root: Caller, bucket: str, stored: list[bool], upload: str, payload_hash: str | None
) -> None:
    def put(number: int, body: bytes, *way: tuple[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        return shown(root.request("PUT", part_of(bucket, upload, number), way, body, payload_hash=payload_hash))

    short, long = put(1, LONG), put(2, LONG, THE_LONG_WAY)
    assert short == long and short[0] == 200
    last = put(3, BODY[: 2 * MIB])
    assert stored == [True, True]
    etags = [dict(headers)["etag"] for _, headers, _ in (short, long, last)]
    told = root.get(f"/{bucket}/parts?uploadId={upload}")
    assert told.texts("Part/ETag") == etags and told.texts("Part/Size") == [str(len(LONG))] * 2 + [str(2 * MIB)]
    assert complete(root, bucket, upload, *etags) == LONG + LONG + BODY[: 2 * MIB]


def test_a_part_is_replaced(root: Caller, bucket: str, stored: list[bool], upload: str) -> None:
    for body in (LONG, BODY[MIB : 4 * MIB]):
        etag = root.put(part_of(bucket, upload), body).headers["etag"]
    assert stored == [True, True]
    assert complete(root, bucket, upload, etag) == BODY[MIB : 4 * MIB]


@pytest.mark.parametrize("header", [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-server-side-encryption", "AES256")])
def test_parts_that_ask_for_more_go_the_long_way(
    root: Caller, bucket: str, stored: list[bool], header: tuple[str, str]
) -> None:
    upload = begun(root, bucket, header)
    assert root.put(part_of(bucket, upload), LONG).status == 200
    assert stored == []


def test_parts_of_an_upload_that_was_begun_before_the_bucket_sealed_are_stored_as_it_says(
    root: Caller, bucket: str, stored: list[bool], upload: str
) -> None:
    assert root.put(f"/{bucket}?encryption", SEALED).status == 200
    etag = root.put(part_of(bucket, upload), LONG).headers["etag"]
    assert stored == []
    assert complete(root, bucket, upload, etag) == LONG


def test_a_part_of_no_upload_is_refused_before_its_body(
    root: Caller, bucket: str, stored: list[bool], upload: str
) -> None:
    assert root.request("DELETE", f"/{bucket}/parts?uploadId={upload}").status == 204
    for target in (part_of(bucket, upload), part_of(bucket, "0"), f"/{bucket}/other?partNumber=1&uploadId={upload}"):
        with Connection(root.address) as connection:
            connection.send(put_head(root, target, len(LONG)))
            answer = connection.receive("PUT")
        assert (answer.status, answer.code) == (404, "NoSuchUpload")
    assert stored == []


def targets(bucket: str, upload: str) -> list[str]:
    return [f"/{bucket}/k", part_of(bucket, upload)]


def test_bytes_that_are_not_those_signed_are_refused(
    root: Caller, bucket: str, stored: list[bool], upload: str
) -> None:
    for target in targets(bucket, upload):
        short, long = (root.request("PUT", target, way, LONG, payload_hash="0" * 64) for way in ((), (THE_LONG_WAY,)))
        assert (short.status, short.code) == (long.status, long.code) == (400, "XAmzContentSHA256Mismatch")
        assert shown(short)[1] == shown(long)[1]
    assert stored == [False, False]
    assert root.get(f"/{bucket}/k").status == 404


@pytest.mark.parametrize("sent", [1, MIB, 2 * MIB + 5, len(LONG) - 1])
def test_a_body_that_ends_early_is_refused_and_leaves_nothing(
    wire: WireServer, root: Caller, bucket: str, stored: list[bool], upload: str, sent: int
) -> None:
    for target in targets(bucket, upload):
        with Connection(root.address) as connection:
            connection.send(put_head(root, target, len(LONG)) + LONG[:sent])
            connection.socket.shutdown(socket.SHUT_WR)
            answer = connection.receive("PUT")
        assert (answer.status, answer.code) == (400, "IncompleteBody")
    assert stored == [False, False]
    assert root.get(f"/{bucket}/k").status == 404
    assert not root.get(f"/{bucket}/parts?uploadId={upload}").texts("Part/ETag")
    assert not wire.call(lambda: wire.running.engine._runtime.buffers.leased)


@pytest.mark.parametrize("sent", [70_000, MIB + 9, 3 * MIB])
def test_a_slow_client_goes_on_where_the_thread_stopped(
    root: Caller, bucket: str, stored: list[bool], upload: str, monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_NS", 1)
    for target in targets(bucket, upload):
        with Connection(root.address) as connection:
            before = len(stored)
            connection.send(put_head(root, target, len(LONG)) + LONG[:sent])
            wait_until(lambda: len(stored) == before + 1)  # noqa: B023
            connection.send(LONG[sent:])
            assert connection.receive("PUT").status == 200
            connection.send(put_head(root, target, len(LONG)) + LONG)  # no thread for this client any more
            etag = connection.receive("PUT").headers["etag"]
    assert stored == [False, False]
    assert root.get(f"/{bucket}/k").body == LONG
    assert complete(root, bucket, upload, etag) == LONG


def test_a_slow_client_that_leaves_holds_nothing(
    wire: WireServer, root: Caller, bucket: str, stored: list[bool], monkeypatch: pytest.MonkeyPatch,
    left_open: Callable[[], int]
) -> None:  # fmt: skip
    monkeypatch.setattr(bodies, "PATIENCE_NS", 1)
    with Connection(root.address) as connection:
        connection.send(put_head(root, f"/{bucket}/k", len(LONG)) + LONG[: 3 * MIB])
        wait_until(lambda: stored == [False])
    runtime = wire.running.engine._runtime
    wait_until(lambda: wire.call(lambda: not runtime.buffers.leased))
    wait_until(lambda: not left_open())
    assert root.get(f"/{bucket}/k").status == 404


@pytest.mark.parametrize("is_refused", [True, False])
def test_what_the_committer_does_not_take_is_the_long_ways_to_tell(
    wire: WireServer, root: Caller, bucket: str, stored: list[bool], upload: str, monkeypatch: pytest.MonkeyPatch,
    left_open: Callable[[], int], is_refused: bool
) -> None:  # fmt: skip
    committer = wire.running.engine._runtime.committer

    def refused(operation: Operation, settle: Callable[[Outcome | Rs3dError], None]) -> bool:
        if is_refused:
            settle(NoSuchUpload(bucket="b", key="k", upload_id="u"))
        return is_refused

    monkeypatch.setattr(committer, "submit", refused)
    etags = [root.put(target, LONG).headers["etag"] for target in targets(bucket, upload)]
    assert stored == [False, False]
    assert root.get(f"/{bucket}/k").body == LONG
    assert complete(root, bucket, upload, etags[1]) == LONG
    assert not left_open()


def test_a_disk_that_is_full_is_told_as_ever(
    root: Caller, bucket: str, stored: list[bool], upload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_by = LocalBlobWriter.append_by

    def full(self: LocalBlobWriter, append: Callable[[int, int, int], int]) -> bool:
        with open("/dev/full", "wb") as nowhere:
            return append_by(self, lambda _data, offset, align: append(nowhere.fileno(), offset, align))

    monkeypatch.setattr(LocalBlobWriter, "append_by", full)
    assert [root.put(target, LONG).status for target in targets(bucket, upload)] == [507, 507]
    assert stored == [False, False]
    monkeypatch.undo()
    assert root.put(f"/{bucket}/k", LONG).status == 200


def test_a_process_without_descriptors_goes_the_long_way(
    root: Caller, bucket: str, stored: list[bool], upload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(longwrites, "Intake", refuse)
    assert [root.put(target, LONG).status for target in targets(bucket, upload)] == [200, 200]
    assert root.get(f"/{bucket}/k").body == LONG
    assert stored == []


def test_a_file_that_cannot_be_read_back_is_an_error_and_no_object(
    root: Caller, bucket: str, stored: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    end = LongWrite._end

    def cut(self: LongWrite) -> None:
        os.truncate(f"/proc/self/fd/{self._job.copy_fd}", MIB)
        end(self)

    monkeypatch.setattr(LongWrite, "_end", cut)
    answer = root.request("PUT", f"/{bucket}/k", body=LONG, payload_hash="0" * 64)
    assert (answer.status, answer.code) == (500, "InternalError")
    assert root.get(f"/{bucket}/k").status == 404


def test_requests_behind_a_body_are_answered_after_it(
    root: Caller, bucket: str, stored: list[bool], endings: list[Ending | None]
) -> None:
    target = f"/{bucket}/k"
    put = put_head(root, target, len(LONG)) + LONG
    get = head_bytes("GET", target, root.headers("GET", target))
    with Connection(root.address) as connection:
        connection.send(put + get)
        received = b""
        while not received.endswith(LONG[-1000:]):
            received += connection.socket.recv(1 << 20)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.startswith(b"HTTP/1.1 200 OK\r\n") and received.endswith(LONG)
    assert stored == [True] and endings == [Ending.DONE]


def test_a_server_that_stops_lets_go_of_a_client_that_sends_no_more(tmp_path_factory: pytest.TempPathFactory) -> None:
    with WireServer(tmp_path_factory.mktemp("stopped") / "store") as wire:
        root = Caller(wire.address, wire.root)
        assert root.put("/bucket").status == 200
        assert root.put("/bucket/opener", LONG).status == 200
        connection = Connection(root.address)
        connection.send(put_head(root, "/bucket/k", len(LONG)) + LONG[:MIB])
        runtime = wire.running.engine._runtime
        wait_until(lambda: wire.call(lambda: runtime.arrivals.outstanding == 1))
    connection.socket.close()
