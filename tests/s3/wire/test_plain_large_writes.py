"""The shortcut of PUT for bodies that are received by the thread that stores them: the same answers as the long way's,
and the same objects."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from rs3d.engine.largewrites import LargeWrites
from rs3d.errors import NoSuchBucket, Rs3dError, StoreFull
from rs3d.http.bodyreceiving import Receiver
from rs3d.types.operations import Operation, Outcome
from tests.s3.wire.client import Caller, Connection, head_bytes
from tests.s3.wire.conftest import MIB
from tests.s3.wire.server import WireServer
from tests.s3.wire.test_plain_writes import ENABLED, THE_LONG_WAY, check_both_ways, shown
from tests.system.waiting import wait_until

BODY = random.Random(1).randbytes(MIB + 1)
LARGE = BODY[:300_000]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, root: Caller, bucket: str) -> Iterator[list[bool]]:
    """For each put that the shortcut began, whether it came to its end there. A segment for blobs is open."""
    ends: list[bool] = []
    put = LargeWrites.put

    def watched(*arguments: object) -> bool:
        done: Callable[[Outcome | None, bytes, memoryview], None] = arguments[-1]  # type: ignore[assignment]

        def ended(outcome: Outcome | None, merkle_root: bytes, received: memoryview) -> None:
            ends.append(outcome is not None)
            done(outcome, merkle_root, received)

        return put(*arguments[:-1], ended)  # type: ignore[arg-type, call-arg]

    assert root.put(f"/{bucket}/opener", LARGE, THE_LONG_WAY).status == 200
    monkeypatch.setattr(LargeWrites, "put", watched)
    yield ends


def put_head(caller: Caller, target: str, body: bytes) -> bytes:
    headers = [*caller.headers("PUT", target, (), body), ("content-length", str(len(body)))]
    return head_bytes("PUT", target, headers)


@pytest.mark.parametrize("size", [33_000, 64 * 1024, 65 * 1024, 300_001, MIB - 1, MIB])
def test_a_put_of_one_leaf_is_answered_as_ever(root: Caller, bucket: str, stored: list[bool], size: int) -> None:
    check_both_ways(root, f"/{bucket}/k", BODY[:size], ("content-type", "image/png"))
    assert stored == [True]


def test_a_longer_body_goes_the_long_way(root: Caller, bucket: str, stored: list[bool]) -> None:
    check_both_ways(root, f"/{bucket}/k", BODY)
    assert stored == []


def test_versions_are_made_and_named_as_ever(root: Caller, bucket: str, stored: list[bool]) -> None:
    root.put(f"/{bucket}?versioning", ENABLED)
    check_both_ways(root, f"/{bucket}/k", LARGE)
    assert stored == [True]
    assert len(root.get(f"/{bucket}?versions&prefix=k").texts("Version/VersionId")) == 2


@pytest.mark.parametrize("headers", [(), (THE_LONG_WAY,)])
def test_bytes_that_are_not_those_signed_are_refused_and_the_connection_goes_on(
    root: Caller, bucket: str, stored: list[bool], headers: tuple[tuple[str, str], ...]
) -> None:
    target = f"/{bucket}/k"
    signed = [*root.headers("PUT", target, headers, b"other"), ("content-length", str(len(LARGE)))]
    with Connection(root.address) as connection:
        connection.send_request("PUT", target, signed, LARGE)
        answer = connection.receive("PUT")
        assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
        assert answer.headers.get("connection") is None
        connection.send(put_head(root, target, LARGE) + LARGE)
        assert connection.receive("PUT").status == 200
    assert stored == ([True] if headers else [False, True])


@pytest.mark.parametrize("sent", [0, 10_000, 200_000])
def test_a_body_that_ends_early_is_refused_as_ever(root: Caller, bucket: str, stored: list[bool], sent: int) -> None:
    target = f"/{bucket}/k"
    answers = []
    for headers in ((), (THE_LONG_WAY,)):
        signed = [*root.headers("PUT", target, headers, LARGE), ("content-length", str(len(LARGE)))]
        with Connection(root.address) as connection:
            connection.send_request("PUT", target, signed, LARGE[:sent])
            connection.socket.shutdown(socket.SHUT_WR)
            answer = connection.receive("PUT")
            assert connection.is_at_its_end()
        answers.append((answer.status, answer.code, answer.text("Message"), answer.headers.get("connection")))
    assert answers[0] == answers[1]
    assert answers[0][1] == "IncompleteBody"
    assert stored == [False]
    assert root.get(target).status == 404


def test_a_client_that_leaves_holds_nothing(wire: WireServer, root: Caller, bucket: str, stored: list[bool]) -> None:
    for number in range(10):
        with Connection(root.address) as connection:
            connection.send(put_head(root, f"/{bucket}/left{number}", LARGE) + LARGE[: number * 20_000])
    runtime = wire.running.engine._runtime
    wait_until(lambda: wire.call(lambda: len(stored) == 10 and not runtime.buffers.leased))
    assert stored == [False] * 10
    assert root.get(f"/{bucket}?list-type=2").texts("Contents/Key") == ["opener"]


def test_a_slow_client_is_served_by_the_loop_and_gets_no_other_thread(
    root: Caller, bucket: str, stored: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    gave_up = threading.Event()
    lend, give_back = Receiver.lend, Receiver.give_back

    def impatient(self: Receiver, stop: Callable[[], None]) -> int:
        self.patience_ns = 0
        return lend(self, stop)

    def given_back(self: Receiver, *, is_slow: bool) -> None:
        give_back(self, is_slow=is_slow)
        gave_up.set()

    monkeypatch.setattr(Receiver, "lend", impatient)
    monkeypatch.setattr(Receiver, "give_back", given_back)
    target = f"/{bucket}/k"
    with Connection(root.address) as connection:
        connection.send(put_head(root, target, LARGE) + LARGE[:100_000])
        assert gave_up.wait(30)
        connection.send(LARGE[100_000:])
        assert connection.receive("PUT").status == 200
        assert root.get(target).body == LARGE
        connection.send(put_head(root, target, BODY[:MIB]) + BODY[:MIB])
        assert connection.receive("PUT").status == 200
    assert root.get(target).body == BODY[:MIB]
    assert stored == [False]


def test_what_the_commit_refuses_is_run_again_the_long_way(
    wire: WireServer, root: Caller, bucket: str, stored: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    committer = wire.running.engine._runtime.committer

    def refused(operation: Operation, settle: Callable[[Outcome | Rs3dError], None]) -> bool:
        settle(NoSuchBucket(bucket=bucket))
        return True

    for submit in (refused, lambda *_: False):
        monkeypatch.setattr(committer, "submit", submit)
        assert root.put(f"/{bucket}/k", LARGE).status == 200
        assert root.get(f"/{bucket}/k").body == LARGE
        root.delete(f"/{bucket}/k", THE_LONG_WAY)
    assert stored == [False, False]


def test_a_full_disk_is_told_as_ever(
    wire: WireServer, root: Caller, bucket: str, stored: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreFull(what="the disk", free_bytes=1, needed_bytes=2)

    blobs = wire.running.engine._runtime.blobs
    monkeypatch.setattr(blobs, "create", full)
    # The kernel meets another error of the disk's, before it has made anything.
    monkeypatch.setattr(blobs, "place", lambda *_: (-1, "nowhere", 4096))
    answers = [shown(root.put(f"/{bucket}/k", LARGE, *way)) for way in ((), (THE_LONG_WAY,))]
    assert stored == [False]
    for status, headers, body in answers:
        assert status == 507 and b"<Code>" in body and dict(headers)["content-type"] == "application/xml"


def test_requests_behind_a_body_are_answered_after_it(root: Caller, bucket: str, stored: list[bool]) -> None:
    target = f"/{bucket}/k"
    put = put_head(root, target, LARGE) + LARGE
    get = head_bytes("GET", target, root.headers("GET", target))
    with Connection(root.address) as connection:
        connection.send(put + get + put + get)
        received = b""
        while received.count(LARGE) < 2:
            received += connection.socket.recv(1 << 20)
    assert received.count(b"HTTP/1.1 200 OK") == 4
    assert received.startswith(b"HTTP/1.1 200 OK\r\n") and received.endswith(LARGE)
    assert stored[0] and all(stored)  # the second may come together with the request before it


@pytest.mark.parametrize("header", [("x-amz-meta-colour", "blue"), ("if-none-match", "*"), ("expect", "100-continue")])
def test_a_put_that_asks_for_more_goes_the_long_way(
    root: Caller, bucket: str, stored: list[bool], header: tuple[str, str]
) -> None:
    assert root.put(f"/{bucket}/k", LARGE, header).status == 200
    assert root.get(f"/{bucket}/k").body == LARGE
    assert stored == []


def test_many_at_once_are_all_stored(root: Caller, bucket: str, stored: list[bool]) -> None:
    bodies = {f"/{bucket}/many{number}": BODY[number : number + MIB - 100 * number] for number in range(24)}
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda target=target, body=body: answers.append(root.put(target, body).status))
        for target, body in bodies.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 24
    assert all(root.get(target).body == body for target, body in bodies.items())
    assert stored and all(stored)
