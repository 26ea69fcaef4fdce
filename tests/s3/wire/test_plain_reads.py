"""The shortcut of GET and HEAD: the same answers as the long way's, and never an older truth."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio.testing

from rs3d.engine.configuration import EngineConfig, Verify
from rs3d.engine.requests import BucketChange
from rs3d.kernels.plainrequest import Signer
from rs3d.s3 import plaincallers, plainreads
from rs3d.s3.configuration import CustomerKeys, S3Config
from rs3d.s3.plaincallers import KnownBucket, PlainCallers
from rs3d.s3.plainreads import PlainReads
from rs3d.stores.blobreader import LocalBlobReader
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.identities import BucketGrant, KeyStatus
from tests.s3.wire.client import Answer, Caller, Connection, head_bytes
from tests.s3.wire.conftest import make_bucket
from tests.s3.wire.server import Setup, WireServer
from tests.stores.nowait import reads_without_waiting

THE_LONG_WAY = ("x-amz-request-payer", "requester")
"""A header that changes nothing, and that no plain read has."""
OF_THE_REQUEST = ("date", "x-amz-request-id")

ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
SUSPENDED = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"


def shown(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """All of an answer but what differs from request to request; headers in their order."""
    headers = [(name, value) for name, value in answer.headers.items() if name not in OF_THE_REQUEST]
    return answer.status, headers, answer.body


def check_both_ways(caller: Caller, target: str, shortcuts: list[str], wanted: list[str]) -> None:
    caller.request("GET", target, [THE_LONG_WAY])  # opens the segment of the log, which the shortcut does not
    for method in ("GET", "HEAD"):
        for headers in ([], [("x-amz-checksum-mode", "ENABLED")]):
            short = caller.request(method, target, headers)
            long = caller.request(method, target, [*headers, THE_LONG_WAY])
            assert shown(short) == shown(long)
            assert len(short.headers["x-amz-request-id"]) == 16 and "date" in short.headers
    assert shortcuts == wanted


BOTH = ["GetObject", "GetObject", "HeadObject", "HeadObject"]
HEAD_ONLY = ["HeadObject", "HeadObject"]


@pytest.mark.parametrize("size", [0, 1, 4096, 32 * 1024])
def test_small_objects_are_answered_at_once(root: Caller, bucket: str, shortcuts: list[str], size: int) -> None:
    root.put(f"/{bucket}/k", bytes(size))
    check_both_ways(root, f"/{bucket}/k", shortcuts, BOTH)


def test_stored_headers_metadata_tags_and_checksums_are_told(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    told = [
        ("content-type", "text/plain; charset=utf-8"),
        ("cache-control", "no-store"),
        ("content-disposition", 'attachment; filename="a"'),
        ("x-amz-meta-colour", "blue"),
        ("x-amz-tagging", "a=1&b=2"),
        ("x-amz-checksum-sha256", "LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564="),
    ]
    assert root.put(f"/{bucket}/dir/k.txt", b"foo", *told).status == 200
    check_both_ways(root, f"/{bucket}/dir/k.txt", shortcuts, BOTH)


@pytest.mark.parametrize("document", [ENABLED, SUSPENDED])
def test_versions_are_named_where_the_bucket_has_them(
    root: Caller, bucket: str, shortcuts: list[str], document: bytes
) -> None:
    root.put(f"/{bucket}/k", b"before")
    root.get(f"/{bucket}/k")
    root.put(f"/{bucket}?versioning", document)
    shortcuts.clear()
    check_both_ways(root, f"/{bucket}/k", shortcuts, BOTH)
    assert root.head(f"/{bucket}/k").headers["x-amz-version-id"] == "null"


SEALED = ("x-amz-server-side-encryption", "AES256")
LAYERS = ["", "compression=lz4", "compression=zstd:3", "parity=4+2"]


def layered_bucket(wire: WireServer, caller: Caller, setting: str) -> str:
    """A new bucket with one setting, or none."""
    bucket = make_bucket(caller)
    name, _, value = setting.partition("=")
    change = BucketChange(settings={name: value} if name else {})
    wire.run(lambda: wire.running.engine.change_bucket(bucket, change))
    return bucket


@pytest.fixture
def reads_at_once(tmp_path: Path) -> None:
    if not reads_without_waiting(tmp_path):
        pytest.skip("this file system does not read without waiting")


@pytest.mark.parametrize("sealed", [[], [SEALED]], ids=["open", "sealed"])
@pytest.mark.parametrize("setting", LAYERS)
@pytest.mark.parametrize("size", [1, 4096, 32 * 1024, 100_000, 1 << 20])
@pytest.mark.usefixtures("reads_at_once")
def test_what_has_layers_is_decoded_at_once_when_it_was_open_a_moment_ago(
    wire: WireServer,
    root: Caller,
    shortcuts: list[str],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    sealed: list[tuple[str, str]],
    size: int,
) -> None:
    monkeypatch.setattr(wire.running.engine.decoded_bodies, "_maximum_bytes", 0)
    bucket = layered_bucket(wire, root, setting)
    body = (b"lines that repeat themselves " * (size // 29 + 1))[:size]
    root.put(f"/{bucket}/k", body, *sealed)
    assert root.get(f"/{bucket}/k").body == body  # perhaps by a thread, which opens the blob
    shortcuts.clear()
    slow = setting == "compression=zstd:3" and size == 1 << 20
    check_both_ways(root, f"/{bucket}/k", shortcuts, HEAD_ONLY if slow else BOTH)
    assert root.get(f"/{bucket}/k").body == body
    root.put(f"/{bucket}/k", body[::-1], *sealed)
    assert root.get(f"/{bucket}/k").body == body[::-1]
    wire.run(trio.testing.wait_all_tasks_blocked)
    assert wire.running.engine._runtime.buffers.leased == 0


def test_what_is_sealed_under_a_customers_key_goes_the_long_way(tmp_path: Path, shortcuts: list[str]) -> None:
    key = bytes(range(32))
    customer = [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", base64.b64encode(key).decode()),
        ("x-amz-server-side-encryption-customer-key-md5", base64.b64encode(hashlib.md5(key).digest()).decode()),
    ]
    with WireServer(tmp_path / "store", Setup(s3=S3Config(customer_keys=CustomerKeys.ANY))) as wire:
        root = Caller(wire.address, wire.root)
        target = f"/{make_bucket(root)}/k"
        assert root.put(target, b"x" * 50_000, *customer).status == 200
        assert root.get(target).status == 400
        for _ in range(4):
            assert root.request("GET", target, customer).body == b"x" * 50_000
            assert root.get(target).status == 400
        assert len(wire.running.engine.decoded_bodies) == 0
    assert shortcuts == []


@pytest.mark.usefixtures("reads_at_once")
def test_a_sealed_body_that_was_changed_on_disk_is_refused(tmp_path: Path, shortcuts: list[str]) -> None:
    with WireServer(tmp_path / "store", Setup(engine=EngineConfig(decoded_bytes=0))) as wire:
        root = Caller(wire.address, wire.root)
        bucket = make_bucket(root)
        root.put(f"/{bucket}/k", b"x" * 100_000, SEALED)
        assert [root.get(f"/{bucket}/k").status for _ in range(2)] == [200, 200]
        assert shortcuts == ["GetObject"]
        (path,) = (tmp_path / "store").rglob("*.data")
        right = path.read_bytes()
        path.write_bytes(right[:70_000] + bytes([right[70_000] ^ 1]) + right[70_001:])
        assert (root.get(f"/{bucket}/k").status, shortcuts) == (500, ["GetObject"])
        path.write_bytes(right)
        assert root.get(f"/{bucket}/k").body == b"x" * 100_000


def get_from_memory(wire: WireServer, root: Caller, target: str) -> Answer:
    """The first answer whose decoded body was kept. What is kept goes when a second passes between two requests."""
    kept = wire.running.engine.decoded_bodies
    for _ in range(200):
        before = kept.taken
        answer = root.get(target)
        if kept.taken > before:
            return answer
    raise AssertionError(f"{target} is decoded each time")


def let_go(wire: WireServer) -> None:
    async def let_all_go() -> None:
        wire.running.engine._runtime.open_files.let_go_all()

    wire.run(let_all_go)


DECODED = [(setting, sealed) for setting in [*LAYERS, "dedup=fixed:65536"] for sealed in ([], [SEALED])]
DECODED.remove(("", []))


@pytest.mark.parametrize(("setting", "sealed"), DECODED)
@pytest.mark.usefixtures("reads_at_once")
def test_what_is_decoded_again_and_again_is_sent_from_memory_and_never_after_it_was_replaced(
    wire: WireServer, root: Caller, shortcuts: list[str], setting: str, sealed: list[tuple[str, str]]
) -> None:
    bucket = layered_bucket(wire, root, setting)
    target = f"/{bucket}/k"
    for body in (b"lines that repeat themselves " * 10_000, b"other lines that do so too " * 9_000):
        assert root.put(target, body, *sealed).status == 200
        decoded = root.get(target)
        assert decoded.body == body
        assert shown(get_from_memory(wire, root, target)) == shown(decoded)
        assert root.request("GET", target, [("range", "bytes=7-11")]).body == body[7:12]
    assert root.delete(target).status == 204
    assert root.get(target).status == 404
    let_go(wire)
    assert wire.running.engine.decoded_bodies.kept_bytes == 0


@pytest.mark.parametrize("engine", [EngineConfig(verify=Verify.ALWAYS), EngineConfig(decoded_bytes=0)])
@pytest.mark.usefixtures("reads_at_once")
def test_decoded_bodies_are_kept_only_where_they_may_be(tmp_path: Path, engine: EngineConfig) -> None:
    with WireServer(tmp_path / "store", Setup(engine=engine)) as wire:
        root = Caller(wire.address, wire.root)
        bucket = make_bucket(root)
        root.put(f"/{bucket}/k", b"x" * 100_000, SEALED)
        assert {root.get(f"/{bucket}/k").body for _ in range(8)} == {b"x" * 100_000}
        kept = wire.running.engine.decoded_bodies
        assert (kept.taken, len(kept)) == (0, 0)


@pytest.mark.usefixtures("reads_at_once")
def test_damage_on_disk_is_found_when_a_kept_body_was_let_go(tmp_path: Path) -> None:
    with WireServer(tmp_path / "store") as wire:
        root = Caller(wire.address, wire.root)
        bucket = make_bucket(root)
        root.put(f"/{bucket}/k", b"x" * 100_000, SEALED)
        assert get_from_memory(wire, root, f"/{bucket}/k").body == b"x" * 100_000
        (path,) = (tmp_path / "store").rglob("*.data")
        right = path.read_bytes()
        path.write_bytes(right[:70_000] + bytes([right[70_000] ^ 1]) + right[70_001:])
        let_go(wire)
        assert root.get(f"/{bucket}/k").status == 500
        path.write_bytes(right)


@pytest.mark.parametrize("target", ["/nothing", "/..", "/a//b", "//", "/."])
def test_a_missing_key_and_odd_paths_have_the_usual_answer(
    root: Caller, bucket: str, shortcuts: list[str], target: str
) -> None:
    short, long = root.get(f"/{bucket}{target}"), root.request("GET", f"/{bucket}{target}", [THE_LONG_WAY])
    assert (short.status, short.code) == (long.status, long.code) == (404, "NoSuchKey")
    assert shortcuts == []


def test_the_newest_bytes_are_read_after_every_put(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    for number in range(20):
        root.put(f"/{bucket}/k", b"version %d" % number)
        assert root.get(f"/{bucket}/k").body == b"version %d" % number
    assert shortcuts == ["GetObject"] * 20


def test_what_was_deleted_is_gone_at_once(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    root.put(f"/{bucket}/k", b"x")
    assert root.get(f"/{bucket}/k").status == 200
    root.delete(f"/{bucket}/k")
    assert root.get(f"/{bucket}/k").status == 404
    root.put(f"/{bucket}?versioning", ENABLED)
    root.put(f"/{bucket}/k", b"y")
    assert root.get(f"/{bucket}/k").body == b"y"
    root.delete(f"/{bucket}/k")
    assert root.head(f"/{bucket}/k").headers["x-amz-delete-marker"] == "true"
    assert shortcuts == ["GetObject"] * 2


def test_changed_tags_are_counted_at_once(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    root.put(f"/{bucket}/k", b"x")
    assert "x-amz-tagging-count" not in root.head(f"/{bucket}/k").headers
    tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
    assert root.put(f"/{bucket}/k?tagging", tags).status == 200
    assert root.head(f"/{bucket}/k").headers["x-amz-tagging-count"] == "1"
    assert shortcuts == ["HeadObject"] * 2


def test_another_user_is_refused_until_a_policy_allows_and_after_one_denies(
    wire: WireServer, anna: Caller, berta: Caller, shortcuts: list[str]
) -> None:
    bucket = make_bucket(anna)
    anna.put(f"/{bucket}/k", b"x")
    assert [anna.get(f"/{bucket}/k").status, berta.get(f"/{bucket}/k").status] == [200, 403]
    for effect, status in (("Allow", 200), ("Deny", 403)):
        statement = {
            "Effect": effect,
            "Principal": {"AWS": "arn:aws:iam:::user/berta"},
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{bucket}/*",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        assert anna.put(f"/{bucket}?policy", policy.encode()).status == 204
        assert berta.get(f"/{bucket}/k").status == status
        assert anna.get(f"/{bucket}/k").status == 200
    assert shortcuts == ["GetObject"]  # policies are the long way's


def test_a_key_restricted_to_another_bucket_is_refused(wire: WireServer, anna: Caller, shortcuts: list[str]) -> None:
    mine, other = make_bucket(anna), make_bucket(anna)
    anna.put(f"/{mine}/k", b"x")
    allowed = Caller(wire.address, wire.add_restricted_key("anna", "PLAINREADS1", BucketGrant(mine, True, False)))
    refused = Caller(wire.address, wire.add_restricted_key("anna", "PLAINREADS2", BucketGrant(other, True, False)))
    assert [allowed.get(f"/{mine}/k").status, refused.get(f"/{mine}/k").status] == [200, 403]
    assert "GetObject" in shortcuts


def test_a_key_that_was_switched_off_is_refused_with_the_next_request(
    wire: WireServer, anna: Caller, shortcuts: list[str]
) -> None:
    bucket = make_bucket(anna)
    anna.put(f"/{bucket}/k", b"x")
    caller = Caller(wire.address, wire.add_restricted_key("anna", "PLAINREADS3"))
    assert [caller.get(f"/{bucket}/k").status for _ in range(2)] == [200, 200]
    engine = wire.running.engine
    wire.run(lambda: engine.set_key_status("PLAINREADS3", KeyStatus.INACTIVE))
    answer = caller.get(f"/{bucket}/k")
    assert (answer.status, answer.code) == (403, "InvalidAccessKeyId")
    assert len(shortcuts) == 2


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The keys for which an answer was made, in order."""
    keys: list[bytes] = []
    meet = PlainReads._meet_object

    def watched(self: PlainReads, view: CatalogSnapshot, known: KnownBucket, row_key: bytes, stored: bytes) -> object:
        keys.append(row_key.removeprefix(known.prefix))
        return meet(self, view, known, row_key, stored)

    met: set[bytes] = set()

    def was_met(self: PlainReads, stored: bytes) -> bool:
        """By the rows themselves: hashes of other tests' rows do not matter."""
        before = stored in met
        met.add(stored)
        return before

    monkeypatch.setattr(PlainReads, "_meet_object", watched)
    monkeypatch.setattr(PlainReads, "_was_met", was_met)
    yield keys


def test_a_row_was_met_until_too_many_others_were(monkeypatch: pytest.MonkeyPatch) -> None:
    class Callers:
        warm = None

    monkeypatch.setattr(plainreads, "_KNOWN_OBJECTS", 2)
    # Three whose hashes are told apart.
    rows = list({hash(row) % plainreads._MET_BYTES: row for row in (bytes([number]) for number in range(256))}.values())
    reads = PlainReads(Callers())  # type: ignore[arg-type]
    assert [reads._was_met(rows[0]) for _ in range(3)] == [False, True, True]
    assert not reads._was_met(rows[1])
    assert reads._was_met(rows[0])
    assert not reads._was_met(rows[2])
    assert not reads._was_met(rows[0])


def test_an_answer_is_kept_from_the_second_time_on(root: Caller, bucket: str, made: list[bytes]) -> None:
    root.put(f"/{bucket}/k", b"body")
    for _ in range(4):
        assert root.get(f"/{bucket}/k").body == b"body"
    assert made == [b"k", b"k"]


def test_the_oldest_answer_goes_when_there_are_too_many(
    root: Caller, bucket: str, made: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plainreads, "_KNOWN_OBJECTS", 2)
    for name in ("a", "b", "c"):  # whatever other tests left makes way for these
        root.put(f"/{bucket}/{name}", name.encode())
        for _ in range(3):
            assert root.get(f"/{bucket}/{name}").body == name.encode()
    assert made == [b"a", b"a", b"b", b"b", b"c", b"c"]
    for name in ("c", "b"):
        assert root.get(f"/{bucket}/{name}").body == name.encode()
    assert made[6:] == []
    assert root.get(f"/{bucket}/a").body == b"a"
    assert made[6:] == [b"a"]


def test_pipelined_reads_are_answered_in_order(root: Caller, bucket: str) -> None:
    requests = b""
    for number in range(5):
        root.put(f"/{bucket}/k{number}", b"body %d" % number)
        target = f"/{bucket}/k{number}"
        requests += head_bytes("GET", target, root.headers("GET", target))
    with Connection(root.address) as connection:
        connection.send(requests)
        answers = b""
        while answers.count(b"body ") < 5 or not answers.endswith(b"body 4"):
            answers += connection.socket.recv(65536)
    assert [answers.index(b"body %d" % number) for number in range(5)] == sorted(
        answers.index(b"body %d" % number) for number in range(5)
    )


def test_short_and_long_ways_take_turns_on_one_connection(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    target = f"/{bucket}/k"
    with Connection(root.address) as connection:
        for number in range(6):
            body = b"turn %d" % number
            put = [*root.headers("PUT", target, (), body), ("content-length", str(len(body)))]
            connection.send_request("PUT", target, put, body)
            assert connection.receive("PUT").status == 200
            for way in ([], [THE_LONG_WAY]):
                connection.send_request("GET", target, root.headers("GET", target, way))
                assert connection.receive("GET").body == body
    assert shortcuts == ["GetObject"] * 6


def test_a_head_that_arrives_in_pieces_is_answered(root: Caller, bucket: str) -> None:
    root.put(f"/{bucket}/k", b"whole")
    raw = head_bytes("GET", f"/{bucket}/k", root.headers("GET", f"/{bucket}/k"))
    with Connection(root.address) as connection:
        for cut in range(0, len(raw), 50):
            connection.send(raw[cut : cut + 50])
        assert connection.receive("GET").body == b"whole"


def test_a_wrong_signature_is_refused_with_the_usual_words(root: Caller, bucket: str, shortcuts: list[str]) -> None:
    root.put(f"/{bucket}/k", b"x")
    assert root.get(f"/{bucket}/k").status == 200
    headers = [
        (name, value[:-1] + ("0" if value[-1] != "0" else "1") if name == "authorization" else value)
        for name, value in root.headers("GET", f"/{bucket}/k")
    ]
    with Connection(root.address) as connection:
        connection.send_request("GET", f"/{bucket}/k", headers)
        answer = connection.receive("GET")
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert root.request("GET", f"/{bucket}/k", clock_offset_s=-1000).code == "RequestTimeTooSkewed"
    assert shortcuts == ["GetObject"]


def test_whoever_cannot_sign_takes_no_place_from_those_who_can(
    root: Caller, bucket: str, shortcuts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[bytes] = []
    meet = PlainCallers._meet_signer

    def watched(self: PlainCallers, before_signature: bytes) -> Signer | None:
        met.append(before_signature)
        return meet(self, before_signature)

    monkeypatch.setattr(PlainCallers, "_meet_signer", watched)
    monkeypatch.setattr(plaincallers, "_KNOWN_SIGNERS", 3)
    root.put(f"/{bucket}/k", b"x")
    assert root.get(f"/{bucket}/k").status == 200
    met.clear()
    names = ("accept", "accept-language", "amz-sdk-request", "amz-sdk-invocation-id", "x-amz-user-agent")
    for name in names:
        extra = [(name, "signed")]
        headers = [
            (field, value[:-1] + ("0" if value[-1] != "0" else "1") if field == "authorization" else value)
            for field, value in root.headers("GET", f"/{bucket}/k", extra)
        ]
        with Connection(root.address) as connection:
            connection.send_request("GET", f"/{bucket}/k", headers)
            assert connection.receive("GET").code == "SignatureDoesNotMatch"
    assert len(set(met)) == 5
    assert root.get(f"/{bucket}/k").status == 200
    assert len(met) == 5  # who was known is known
    for name in names:
        assert root.get(f"/{bucket}/k", (name, "signed")).status == 200
    assert len(shortcuts) == 7


def test_a_body_in_a_file_is_sent_at_once_when_it_was_verified_a_moment_ago(
    root: Caller, bucket: str, shortcuts: list[str]
) -> None:
    body = bytes(range(256)) * 4096
    root.put(f"/{bucket}/file", body)
    assert root.get(f"/{bucket}/file").body == body  # the long way: a thread verifies it
    shortcuts.clear()
    check_both_ways(root, f"/{bucket}/file", shortcuts, BOTH)
    root.put(f"/{bucket}/file", body[::-1])
    assert root.get(f"/{bucket}/file").body == body[::-1]


def test_the_reader_of_a_file_sent_at_once_keeps_it_when_it_is_replaced(
    root: Caller, bucket: str, shortcuts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than the buffers of both sockets take, so that the rest is read after the PUT. A small buffer of the reader's
    # would do as well, but a window below one segment of the loopback is served by five probes a second.
    body = bytes(range(256)) * (16 * 4096)
    monkeypatch.setattr("rs3d.s3.plainreads._FILE_BYTES", len(body))
    target = f"/{bucket}/file"
    root.put(target, body)
    root.get(target)
    shortcuts.clear()
    with Connection(root.address) as connection:
        connection.send_request("GET", target, root.headers("GET", target))
        assert connection.socket.recv(9) == b"HTTP/1.1 "
        root.put(target, b"new")
        answer = bytearray()
        while len(answer) < len(body) or not answer.endswith(body[-1000:]):
            piece = connection.socket.recv(1 << 20)
            assert piece, "the answer was cut short"
            answer += piece
    assert answer.endswith(body)
    assert shortcuts == ["GetObject"]
    assert root.get(target).body == b"new"


def test_a_file_is_verified_again_when_a_minute_is_over(
    wire: WireServer, root: Caller, bucket: str, shortcuts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root.put(f"/{bucket}/file", bytes(100_000))
    root.get(f"/{bucket}/file")
    shortcuts.clear()
    verified: list[int] = []
    verify = LocalBlobReader.verify

    def watched(reader: LocalBlobReader, offset: int, length: int) -> None:
        verified.append(length)
        verify(reader, offset, length)

    monkeypatch.setattr(LocalBlobReader, "verify", watched)
    assert root.get(f"/{bucket}/file").status == 200 and not verified
    monkeypatch.setattr("rs3d.stores.blobmemo.VerifiedSpans.covers", lambda *_: False)
    assert root.get(f"/{bucket}/file").status == 200 and verified
    assert shortcuts == ["GetObject", "GetObject"]  # at once
    monkeypatch.setattr(LocalBlobReader, "verify_now", lambda *_: False)
    assert root.get(f"/{bucket}/file").status == 200
    assert len(shortcuts) == 2  # by the long way
