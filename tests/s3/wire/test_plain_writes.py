"""The shortcut of PUT and DELETE: the same answers as the long way's, and the same objects."""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from collections.abc import Iterator

import pytest

from rs3d.engine.digests import digest_of
from rs3d.engine.requests import BucketChange
from rs3d.http.shortcut import Incoming, Unfinished
from rs3d.kernels import smallwrites
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.s3.plainwrites import PlainWrites
from rs3d.stores import messages
from rs3d.types.identities import BucketGrant, KeyStatus
from tests.s3.wire.client import Answer, Caller, Connection, head_bytes
from tests.s3.wire.conftest import make_bucket
from tests.s3.wire.server import WireServer

THE_LONG_WAY = ("x-amz-request-payer", "requester")
OF_THE_REQUEST = ("date", "x-amz-request-id")

ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
SUSPENDED = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
SEALED = (
    b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256"
    b"</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
)


@pytest.fixture
def shortcuts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The requests that the shortcut took, by their first letter."""
    taken: list[str] = []
    answer = PlainWrites.answer

    def watched(self: PlainWrites, data: bytearray, start: int, end: int) -> SmallWrite | Incoming | Unfinished | None:
        found = answer(self, data, start, end)
        if found is not None:
            taken.append(chr(data[start]))
        return found

    monkeypatch.setattr(PlainWrites, "answer", watched)
    yield taken


def shown(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """All of an answer but what differs from request to request, the ids of versions among it; headers in order."""
    headers = [
        (name, "" if name == "x-amz-version-id" and value != "null" else value)
        for name, value in answer.headers.items()
        if name not in OF_THE_REQUEST
    ]
    return answer.status, headers, answer.body


def check_both_ways(caller: Caller, target: str, body: bytes, *headers: tuple[str, str]) -> None:
    def put(*way: tuple[str, str]) -> tuple[tuple[int, list[tuple[str, str]], bytes], Answer]:
        return shown(caller.put(target, body, *headers, *way)), caller.get(target)

    (short, stored), (long, stored_long) = put(), put(THE_LONG_WAY)
    assert short == long
    assert short[0] == 200
    assert stored.body == stored_long.body == body
    told = [{name: value for name, value in found.headers.items() if name not in (*OF_THE_REQUEST, "last-modified")}
            for found in (stored, stored_long)]  # fmt: skip
    for found in told:
        found.pop("x-amz-version-id", None)
    assert told[0] == told[1]


@pytest.mark.parametrize("size", [0, 1, 4096, 32 * 1024])
def test_a_small_put_is_answered_as_ever(root: Caller, bucket: str, shortcuts: list[str], size: int) -> None:
    check_both_ways(root, f"/{bucket}/k", bytes(range(256)) * (size // 256 + 1) if size > 1 else b"x" * size)
    assert shortcuts == ["P"]


def test_the_content_type_is_kept(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    check_both_ways(root, f"/{bucket}/k", b"text", ("content-type", 'text/plain; charset="utf-8"'))
    assert root.head(f"/{bucket}/k").headers["content-type"] == 'text/plain; charset="utf-8"'
    assert shortcuts == ["P"]


CHECKSUMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA256")


def checksum_of(body: bytes, algorithm: str) -> tuple[str, str]:
    """Its header."""
    return f"x-amz-checksum-{algorithm.lower()}", b64encode(digest_of(algorithm, body)).decode()


@pytest.mark.parametrize("algorithm", CHECKSUMS)
@pytest.mark.parametrize("named", [(), (("x-amz-sdk-checksum-algorithm", "{}"),)])
def test_a_checksum_is_checked_and_kept(
    root: Caller, bucket: str, shortcuts: list[str], algorithm: str, named: tuple[tuple[str, str], ...]
) -> None:
    header = checksum_of(b"body", algorithm)
    check_both_ways(root, f"/{bucket}/k", b"body", header, *((name, value.format(algorithm)) for name, value in named))
    assert shortcuts == ["P"]
    told = root.get(f"/{bucket}/k", ("x-amz-checksum-mode", "ENABLED"))
    assert (told.headers[header[0]], told.headers["x-amz-checksum-type"]) == (header[1], "FULL_OBJECT")
    listed = root.get(f"/{bucket}?list-type=2")
    assert listed.texts("Contents/ChecksumAlgorithm") == [algorithm]
    refused = root.put(f"/{bucket}/other", b"bodY", header)
    assert (refused.status, refused.code) == (400, "BadDigest")
    assert root.get(f"/{bucket}/other").status == 404
    assert root.put(f"/{bucket}/k", b"anew").status == 200
    assert header[0] not in root.get(f"/{bucket}/k", ("x-amz-checksum-mode", "ENABLED")).headers
    assert root.delete(f"/{bucket}/k").status == 204


def test_checksums_that_contradict_are_refused(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    header = checksum_of(b"body", "CRC32")
    for others in (
        [checksum_of(b"body", "SHA256")],
        [("x-amz-sdk-checksum-algorithm", "CRC32C")],
    ):
        refused = root.put(f"/{bucket}/k", b"body", header, *others)
        assert (refused.status, refused.code) == (400, "InvalidRequest")
    refused = root.put(f"/{bucket}/k", b"body", (header[0], "AAAA"))
    assert (refused.status, refused.code) == (400, "InvalidRequest")
    assert shortcuts == []


@pytest.mark.parametrize("document", [ENABLED, SUSPENDED])
def test_versions_are_made_and_named_as_ever(root: Caller, bucket: str, shortcuts: list[str], document: bytes) -> None:
    root.put(f"/{bucket}/k", b"null")
    root.put(f"/{bucket}?versioning", document)
    shortcuts.clear()
    check_both_ways(root, f"/{bucket}/k", b"new")
    short, long = (root.delete(f"/{bucket}/k", *way) for way in ((), (THE_LONG_WAY,)))
    assert shown(short) == shown(long)
    assert short.headers["x-amz-delete-marker"] == "true"
    assert shortcuts == ["P", "D"]
    versions = root.get(f"/{bucket}?versions").texts("Version/VersionId")
    assert len(versions) == (3 if document is ENABLED else 0)


def test_a_delete_is_answered_as_ever_and_takes_the_object(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    answers = []
    for way in ((), (THE_LONG_WAY,)):
        root.put(f"/{bucket}/k", b"x")
        answers.append(shown(root.delete(f"/{bucket}/k", *way)))
        assert root.get(f"/{bucket}/k").status == 404
    assert answers[0] == answers[1] and answers[0][0] == 204
    assert shown(root.delete(f"/{bucket}/missing")) == answers[0]
    assert shortcuts == ["P", "D", "P", "D"]


def test_what_is_declared_of_the_bytes_is_checked(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    answer = root.request("PUT", f"/{bucket}/k", (), b"other", payload_hash="0" * 64)
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
    assert root.get(f"/{bucket}/k").status == 404
    assert root.request("PUT", f"/{bucket}/k", (), b"any", payload_hash="UNSIGNED-PAYLOAD").status == 200
    assert shortcuts == ["P", "P"], "the first was given back"


@pytest.mark.parametrize(
    "header",
    [
        ("x-amz-meta-colour", "blue"),
        ("x-amz-tagging", "a=1"),
        ("cache-control", "no-store"),
        ("if-none-match", "*"),
        ("content-md5", "CY9rzUYh03PK3k6DJie09g=="),
        ("x-amz-checksum-sha1", "qUqP5cyxm6YcTAhz05Hph5gvu9M="),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-acl", "private"),
    ],
)
def test_a_put_that_asks_for_more_goes_the_long_way(
    root: Caller, bucket: str, shortcuts: list[str], header: tuple[str, str]
) -> None:
    assert root.put(f"/{bucket}/k", b"test", header).status == 200
    assert root.get(f"/{bucket}/k").body == b"test"
    assert shortcuts == []


def test_a_bucket_that_seals_or_limits_goes_the_long_way(
    wire: WireServer, root: Caller, bucket: str, shortcuts: list[str]
) -> None:
    engine = wire.running.engine
    wire.run(lambda: engine.change_bucket(bucket, BucketChange(settings={"quota_objects": "1"})))
    assert root.put(f"/{bucket}/k", b"x").status == 200
    assert root.put(f"/{bucket}/more", b"x").code == "QuotaExceeded"
    wire.run(lambda: engine.change_bucket(bucket, BucketChange(settings={"quota_objects": None})))
    assert root.put(f"/{bucket}?encryption", SEALED).status == 200
    assert root.put(f"/{bucket}/k", b"x").headers["x-amz-server-side-encryption"] == "AES256"
    assert shortcuts == []


def test_who_may_not_write_is_refused_by_the_long_way(
    wire: WireServer, anna: Caller, berta: Caller, shortcuts: list[str]
) -> None:
    bucket = make_bucket(anna)
    reader = Caller(wire.address, wire.add_restricted_key("anna", "PLAINWRITES1", BucketGrant(bucket, True, False)))
    for caller in (reader, berta):
        assert caller.put(f"/{bucket}/k", b"x").code == "AccessDenied"
        assert caller.delete(f"/{bucket}/k").code == "AccessDenied"
    assert shortcuts == []
    assert anna.put(f"/{bucket}/k", b"x").status == 200
    statement = {
        "Effect": "Deny",
        "Principal": {"AWS": "arn:aws:iam:::user/anna"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{bucket}/k",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert anna.put(f"/{bucket}?policy", policy.encode()).status == 204
    assert anna.put(f"/{bucket}/k", b"y").code == "AccessDenied"
    assert anna.put(f"/{bucket}/other", b"y").status == 200
    assert shortcuts == ["P"]


def test_a_key_that_was_switched_off_is_refused_with_the_next_request(
    wire: WireServer, anna: Caller, shortcuts: list[str]
) -> None:
    bucket = make_bucket(anna)
    caller = Caller(wire.address, wire.add_restricted_key("anna", "PLAINWRITES2"))
    assert caller.put(f"/{bucket}/k", b"x").status == 200
    engine = wire.running.engine
    wire.run(lambda: engine.set_key_status("PLAINWRITES2", KeyStatus.INACTIVE))
    assert caller.put(f"/{bucket}/k", b"y").code == "InvalidAccessKeyId"
    assert anna.get(f"/{bucket}/k").body == b"x"
    assert shortcuts == ["P"]


def test_a_writer_may_be_met_behind_a_read_of_the_same_turn(
    wire: WireServer, anna: Caller, shortcuts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    target = f"/{make_bucket(anna)}/k"
    assert anna.put(target, b"x").status == anna.get(target).status == 200
    newcomer = Caller(wire.address, wire.add_restricted_key("anna", "PLAINWRITES3"))
    get = head_bytes("GET", target, anna.headers("GET", target))
    put = head_bytes("PUT", target, [*newcomer.headers("PUT", target, (), b"y"), ("content-length", "1")]) + b"y"
    shortcuts.clear()
    with Connection(wire.address) as reading, Connection(wire.address) as writing:
        for connection in (reading, writing):
            connection.send(get)
            assert connection.receive("GET").status == 200

        def send() -> None:
            reading.send(get)
            writing.send(put)

        wire.call(send)  # by the loop itself, which looks at both afterwards
        assert reading.receive("GET").status == writing.receive("PUT").status == 200
    assert shortcuts == ["P"]
    assert "a shortcut failed" not in caplog.text


def test_a_missing_bucket_has_the_usual_answer(root: Caller, shortcuts: list[str]) -> None:
    assert root.put("/no-such-bucket-at-all/k", b"x").code == "NoSuchBucket"
    assert root.delete("/no-such-bucket-at-all/k").code == "NoSuchBucket"
    assert shortcuts == []


def test_a_write_that_the_commit_refuses_is_run_again_the_long_way(
    root: Caller, bucket: str, shortcuts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    def without_outcome(channel: int, waiting: dict[int, object]) -> bytes | None:
        try:
            raw = os.read(channel, messages.MAXIMUM_MESSAGE_BYTES)
        except BlockingIOError:
            return None
        if packet := messages.decode_answer(raw):
            assert isinstance(packet, list)
            for reply in packet:
                write = waiting.get(reply.counter)
                if isinstance(write, SmallWrite):
                    del waiting[reply.counter]
                    write.settle([write])
        return raw

    monkeypatch.setattr(smallwrites, "receive", without_outcome)
    with Connection(root.address) as connection:
        for body in (b"first", b"second"):
            headers = [*root.headers("PUT", f"/{bucket}/k", (), body), ("content-length", str(len(body)))]
            connection.send_request("PUT", f"/{bucket}/k", headers, body)
            assert connection.receive("PUT").status == 200
            assert root.get(f"/{bucket}/k").body == body
    assert shortcuts == ["P", "P"]


def test_requests_behind_a_write_are_answered_after_it(root: Caller, bucket: str) -> None:
    target = f"/{bucket}/k"
    put = head_bytes("PUT", target, [*root.headers("PUT", target, (), b"body"), ("content-length", "4")]) + b"body"
    get = head_bytes("GET", target, root.headers("GET", target))
    for whole in (True, False):
        with Connection(root.address) as connection:
            if whole:
                connection.send(put + get + put + get)
            else:
                for request in (put, get, put, get):
                    connection.send(request)
            answers = b""
            while answers.count(b"body") < 2:
                answers += connection.socket.recv(65536)
        assert answers.count(b"HTTP/1.1 200 OK") == 4
        root.delete(target)


def head_of_put(root: Caller, target: str, body: bytes, *headers: tuple[str, str]) -> bytes:
    signed = root.headers("PUT", target, headers, body)
    return head_bytes("PUT", target, [*signed, ("content-length", str(len(body)))])


EXPECTS = ("expect", "100-continue")


@pytest.mark.parametrize("headers", [(), (EXPECTS,)])
def test_a_body_behind_its_head_is_taken_as_one_with_it(
    root: Caller, bucket: str, shortcuts: list[str], headers: tuple[tuple[str, str], ...]
) -> None:
    header = checksum_of(b"body", "CRC32")
    with Connection(root.address) as connection:
        for body, status in ((b"body", 200), (b"bodY", 400), (b"body", 200)):
            connection.send(head_of_put(root, f"/{bucket}/k", body, header, *headers))
            if headers:
                assert connection.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.send(body[:2])
            connection.send(body[2:])
            answer = connection.receive("PUT")
            assert answer.status == status and answer.headers.get(header[0]) == (header[1] if status == 200 else None)
    assert root.get(f"/{bucket}/k").body == b"body"
    assert shortcuts


def test_who_expects_to_be_told_to_go_on_is_refused_at_once(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    for target, tampered, status in (("/nowhere-at-all/k", "", 404), (f"/{bucket}/k", "x", 403)):
        with Connection(root.address) as connection:
            head = head_of_put(root, target, b"body", EXPECTS)
            connection.send(head.replace(b"/k HTTP", f"/k{tampered} HTTP".encode()))
            assert connection.socket.recv(65536).startswith(b"HTTP/1.1 %d " % status)
    assert shortcuts == []


def test_a_body_that_comes_slowly_is_waited_for(root: Caller, bucket: str) -> None:
    with Connection(root.address) as connection:
        connection.send(head_of_put(root, f"/{bucket}/k", b"slow", EXPECTS))
        for byte in b"slow":
            time.sleep(0.4)  # in all longer than the shortcut waits
            connection.send(bytes((byte,)))
        assert connection.receive("PUT").status == 200
    assert root.get(f"/{bucket}/k").body == b"slow"


def test_a_client_that_leaves_within_a_body_leaves_nothing(root: Caller, bucket: str) -> None:
    with Connection(root.address) as connection:
        connection.send(head_of_put(root, f"/{bucket}/k", b"body") + b"bo")
    assert root.get(f"/{bucket}/k").status == 404


def test_a_client_that_leaves_before_the_answer_changes_nothing(root: Caller, bucket: str) -> None:
    for number in range(20):
        target = f"/{bucket}/left{number}"
        with Connection(root.address) as connection:
            headers = [*root.headers("PUT", target, (), b"body"), ("content-length", "4")]
            connection.send_request("PUT", target, headers, b"body")
    assert root.put(f"/{bucket}/last", b"x").status == 200
    keys = root.get(f"/{bucket}?list-type=2").texts("Contents/Key")
    assert "last" in keys
    assert all(root.get(f"/{bucket}/{key}").body in (b"body", b"x") for key in keys)
