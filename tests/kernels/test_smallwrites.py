"""`rs3d.kernels.smallwrites` against the modules that make the same bytes slowly."""

from __future__ import annotations

import hashlib
import socket
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs3d.engine.digests import digest_of
from rs3d.errors import SlowDown
from rs3d.format.rows import CHECKSUM_ALGORITHMS
from rs3d.kernels import bodyhash, merkle, smallwrites
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.stores import messages
from rs3d.stores.outcomes import decode_outcome, nothing_done, put_outcome
from rs3d.stores.smallput import encode_small_put
from rs3d.stores.smallremoval import encode_small_removal
from rs3d.types.identifiers import BucketId, Epoch, OperationId
from rs3d.types.objects import Checksum

NUMBERS = st.integers(0, 2**64 - 1)
TOKEN, OWNER = bytes(range(16)), bytes(range(100, 132))
ETAG = hashlib.md5(b"").hexdigest()


CHECKSUMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA256")


def checksum_of(body: bytes, algorithm: str) -> Checksum:
    return Checksum(algorithm, digest_of(algorithm, body))


def packed(checksum: Checksum | None) -> bytes | None:
    """As a message has it."""
    if checksum is None:
        return None
    return bytes((CHECKSUM_ALGORITHMS.index(checksum.algorithm),)) + checksum.value.ljust(32, bytes(1))


def put(
    key: bytes = b"key",
    body: bytes = b"body",
    content_type: bytes | None = None,
    sha: bool = False,
    checksum: Checksum | None = None,
) -> SmallWrite:
    fields = (messages.SMALL_PUT, 7, key, TOKEN, sha, OWNER, content_type, None, packed(checksum))
    write = smallwrites.put(*fields, b"..." + body + b"...", 3, len(body) + 3, lambda _: None)
    assert smallwrites.seal([write], bodyhash.wholes([write])) == [write]
    return write


def delete(key: bytes = b"key") -> SmallWrite:
    return smallwrites.delete(messages.SMALL_REMOVAL, 7, key, TOKEN, OWNER.hex().encode(), lambda _: None)


def settle(packet: bytes, waiting: dict[int, Any]) -> tuple[list[SmallWrite], int, int] | bytes | None:
    """What `receive` makes of a packet."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        far.send(packet)
        return smallwrites.receive(near.fileno(), waiting)


@given(NUMBERS, NUMBERS, NUMBERS, st.binary(min_size=1, max_size=462), st.binary(max_size=9000), st.booleans())
def test_a_put_is_the_message_that_the_slow_way_makes(
    epoch: int, counter: int, below: int, key: bytes, body: bytes, sha: bool
) -> None:
    digests, id = bodyhash.whole(body), OperationId(Epoch(epoch), counter)
    etag, root = digests[16:48] if sha else digests[:16], merkle.root(digests[16:48], len(body))
    checksums = (None, *(checksum_of(body, name) for name in CHECKSUMS))
    for content_type, checksum in zip((None, b"text/plain") * 3, checksums, strict=False):
        write = put(key, body, content_type, sha, checksum)
        write.number(epoch, counter, below)
        fields = (key, TOKEN, etag, root, OWNER, content_type or b"", digests[48:], body, checksum)
        slow = messages.encode_operation(encode_small_put(id, BucketId(7), *fields), below)
        assert b"".join(write.parts) == b"".join(slow)
        assert (write.size_bytes, write.body_bytes, write.is_put) == (len(b"".join(slow)), len(body), True)


def test_a_put_is_a_buffer_of_its_body_and_sealed_where_that_is_what_was_declared() -> None:
    bodies = [b"", b"one", bytes(5000)]
    declared = [None, hashlib.sha256(b"one").digest(), bytes(32)]
    writes = [
        smallwrites.put(
            messages.SMALL_PUT, 7, b"key", TOKEN, False, OWNER, None, digest, None, body, 0, len(body), lambda _: None
        )
        for body, digest in zip(bodies, declared, strict=True)
    ]
    assert [bytes(write) for write in writes] == bodies
    assert all(memoryview(write).readonly for write in writes) and bytes(delete()) == b""
    hashes = bodyhash.wholes(writes)
    assert smallwrites.seal(writes, hashes) == writes[:2] and smallwrites.seal([], []) == []


@pytest.mark.parametrize("algorithm", CHECKSUMS)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 63, 64, 4096, 5000])
def test_a_body_that_has_not_its_checksum_is_not_sealed(algorithm: str, size: int) -> None:
    body = (bytes(range(256)) * 20)[:size]
    right = checksum_of(body, algorithm).value
    values = [right, *(right[:at] + bytes((right[at] ^ 1,)) + right[at + 1 :] for at in range(len(right)))]
    writes = []
    for value in values:
        checksum = packed(Checksum(algorithm, value))
        fields = (messages.SMALL_PUT, 7, b"key", TOKEN, False, OWNER, None, None, checksum, body, 0, size)
        writes.append(smallwrites.put(*fields, lambda _: None))
    assert smallwrites.seal(writes, bodyhash.wholes(writes)) == writes[:1]


def test_hashes_that_are_none_are_refused() -> None:
    for writes, hashes in (([put()], []), ([put()], [bytes(52)]), ([delete()], [bytes(84)])):
        with pytest.raises(ValueError, match="hashes"):
            smallwrites.seal(writes, hashes)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_writes_that_are_submitted_get_numbers_that_follow_one_another_and_go_out_in_one_packet(count: int) -> None:
    writes = [delete() if i == 1 else put() for i in range(count)]
    others = [delete() if i == 1 else put() for i in range(count)]
    for i, other in enumerate(others):
        other.number(5, 2**64 - 9 + i, 4)
    total = sum(write.size_bytes for write in writes)
    waiting: dict[int, Any] = {}
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        assert smallwrites.submit(writes, 5, 2**64 - 9, 4, waiting, total - 1, near.fileno()) is None and not waiting
        assert smallwrites.submit(writes, 5, 2**64 - 9, 4, waiting, total, near.fileno()) == (total, True)
        parts = [other.parts for other in others]
        assert far.recv(1 << 17) == b"".join(messages.gather(parts) if count > 1 else parts[0])
    assert waiting == {2**64 - 9 + i: write for i, write in enumerate(writes)} and all(write.sent for write in writes)


def test_writes_that_no_packet_takes_are_submitted_and_not_sent() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        many, large, one = [delete() for _ in range(257)], [put(body=bytes(70_000)) for _ in range(2)], [put()]
        for writes, channel in ((many, near.fileno()), (large, near.fileno()), (one, -1)):
            waiting: dict[int, Any] = {}
            total = sum(write.size_bytes for write in writes)
            assert smallwrites.submit(writes, 1, 1, 1, waiting, total, channel) == (total, False)
            assert list(waiting.values()) == writes and not any(write.sent for write in writes)
        while smallwrites.submit(large[:1], 1, 1, 1, {}, 1 << 20, near.fileno()) == (large[0].size_bytes, True):
            pass  # until the socket is full
        far.close()
        assert smallwrites.submit(one, 1, 1, 1, {}, 1 << 20, near.fileno()) == (one[0].size_bytes, False)


def test_a_packet_that_has_not_come_and_the_end_of_a_channel() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near:
        assert smallwrites.receive(near.fileno(), {}) is None
        far.close()
        assert smallwrites.receive(near.fileno(), {}) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        smallwrites.receive(-1, {})


@given(NUMBERS, NUMBERS, NUMBERS, st.binary(min_size=1, max_size=462))
def test_a_delete_is_the_message_that_the_slow_way_makes(epoch: int, counter: int, below: int, key: bytes) -> None:
    write = delete(key)
    write.number(epoch, counter, below)
    operation = encode_small_removal(OperationId(Epoch(epoch), counter), BucketId(7), key, TOKEN, OWNER.hex().encode())
    assert b"".join(write.parts) == b"".join(messages.encode_operation(operation, below))
    assert not write.is_put and write.body_bytes == 0


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (2, b""), (2, bytes(463)), (3, bytes(15)), (5, bytes(33)), (6, bytes(513)), (7, bytes(31)), (8, bytes(32)),
        (8, bytes(34)), (8, b"\x04" + bytes(32)), (8, b"\x01" + bytes(4) + b"5" + bytes(27)), (10, 5), (11, 12),
    ],
)  # fmt: skip
def test_what_no_small_put_can_hold_is_refused(position: int, value: object) -> None:
    fields: list[object] = [0, 7, b"key", TOKEN, False, OWNER, None, bytes(32), bytes(33), bytes(11), 2, 4, None]
    smallwrites.put(*fields)  # type: ignore[arg-type]
    fields[position] = value
    with pytest.raises(ValueError, match=r"a small put with|body: "):
        smallwrites.put(*fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("position", "value"), [(2, b""), (2, bytes(463)), (3, bytes(17)), (4, bytes(63))])
def test_what_no_small_delete_can_hold_is_refused(position: int, value: bytes) -> None:
    fields: list[object] = [0, 7, b"key", TOKEN, bytes(64), None]
    fields[position] = value
    with pytest.raises(ValueError, match="a small delete with"):
        smallwrites.delete(*fields)  # type: ignore[arg-type]


@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.booleans()), min_size=1, max_size=40, unique_by=lambda found: found[0]))
def test_outcomes_are_taken_as_they_were_sent(found: list[tuple[int, int, bool]]) -> None:
    writes = [put() if is_put else delete() for _, _, is_put in found]
    outcomes = [
        put_outcome(sequence, TOKEN, False, True, 5, ETAG) if is_put else nothing_done("null")
        for _, sequence, is_put in found
    ]
    packet = messages.encode_replies([(found[i][0], outcomes[i], None) for i in range(len(found))])
    waiting: dict[int, object] = {counter: write for (counter, _, _), write in zip(found, writes, strict=True)}
    waiting[2**64] = "another"
    highest = max(decode_outcome(raw).sequence for raw in outcomes)
    assert settle(packet, waiting) == (writes, sum(write.size_bytes for write in writes), highest)
    assert waiting == {2**64: "another"}
    assert [write.sequence for write in writes] == [decode_outcome(raw).sequence for raw in outcomes]


def test_a_packet_with_anything_else_is_left_alone() -> None:
    good = (1, put_outcome(3, TOKEN, True, False, 5, ETAG), None)
    for other in (
        (2, None, SlowDown(what="a test")),
        (2, None, None),
        (3, good[1], None),  # nobody's
        (4, good[1], None),  # no small write's
        (2, good[1] + b"x", None),
        (2, b"\x97" + good[1][1:] + b"\xa0", None),
        (2, nothing_done("null"), None),  # of a put
        (2, b"", None),
        (2, bytes(300), None),
    ):
        write, waiting = put(), {1: put(), 4: "another"}
        waiting[2] = write
        before = dict(waiting)
        packet = messages.encode_replies([good, other])
        assert settle(packet, waiting) == packet
        assert waiting == before
    whole = messages.encode_replies([good])
    for cut in range(len(whole)):
        assert settle(whole[:cut], {1: put()}) == whole[:cut]
    for packet in (whole + b"x", messages.encode_hello(1, 2), messages.encode_replies([])):
        assert settle(packet, {1: put()}) == packet


@given(st.binary(max_size=80))
def test_no_packet_whatever_is_more_than_refused(raw: bytes) -> None:
    waiting = {counter: put() for counter in range(128)}
    for packet in (raw, b"\x04" + raw, b"\x04\x91\x93\x01\xc4" + bytes((len(raw),)) + raw + b"\xc0"):
        settle(packet, waiting)
    with pytest.raises(ValueError, match="none of a small write"):
        put().take(b"\xc1" + raw)


@pytest.mark.parametrize(
    ("write", "outcome", "lines"),
    [
        (put(), put_outcome(3, TOKEN, True, True, 5, ETAG), ""),
        (put(), put_outcome(3, TOKEN, False, False, 5, ETAG), ""),
        (put(), put_outcome(3, TOKEN, False, True, 5, ETAG), f"x-amz-version-id: {3:016x}{TOKEN.hex()}\r\n"),
        *(
            (put(checksum=checksum_of(b"body", name)), put_outcome(3, TOKEN, True, True, 5, ETAG), name)
            for name in CHECKSUMS
        ),
        (delete(), nothing_done("null"), ""),
        (delete(), nothing_done("", True, True), "x-amz-delete-marker: true\r\n"),
        (delete(), nothing_done("null", True, True), "x-amz-version-id: null\r\nx-amz-delete-marker: true\r\n"),
    ],
)
def test_the_head_of_an_answer_says_what_was_committed(write: SmallWrite, outcome: bytes, lines: str) -> None:
    write.take(outcome)
    assert write.answer == b"" and write.sequence == decode_outcome(outcome).sequence
    smallwrites.answer([write], b"Date: now\r\n", lambda: "ID", b"\r\ntail\r\n\r\n")
    root = merkle.root(bodyhash.whole(b"body")[16:48], 4).hex()
    checksum = ""
    if lines in CHECKSUMS:
        value = b64encode(checksum_of(b"body", lines).value).decode()
        checksum = f"x-amz-checksum-{lines.lower()}: {value}\r\nx-amz-checksum-type: FULL_OBJECT\r\n"
        lines = ""
    first = "HTTP/1.1 200 OK" if write.is_put else "HTTP/1.1 204 No Content"
    of_put = f'Content-Length: 0\r\nETag: "{ETAG}"\r\n{checksum}x-rs3d-merkle-root: {root}\r\n' if write.is_put else ""
    head = f"{first}\r\nDate: now\r\n{of_put}{lines}x-amz-request-id: ID\r\ntail\r\n\r\n"
    assert write.answer == head.encode()


def test_answers_leave_for_those_who_are_still_there() -> None:
    near, far = socket.socketpair()
    closed, other = socket.socketpair()
    writes = [put(), delete(), delete(), delete()]
    with near, far, closed, other:
        near.setblocking(False)
        for write, fd in zip(writes, (near.fileno(), near.fileno(), -1, closed.fileno()), strict=True):
            write.park(fd, None, lambda _: None, 0, bytearray(b"request and more"), 7)
        other.close()
        writes[0].take(put_outcome(3, TOKEN, True, True, 5, ETAG))
        for write in writes[2:]:
            write.take(nothing_done("null"))
        smallwrites.answer(writes, b"", lambda: "ID", b"")
        smallwrites.send_answers(writes)
        assert writes[0].request == b"request"
        assert far.recv(1000) == writes[0].answer and writes[1].answer is None
    assert [write.is_sent for write in writes] == [True, False, False, False]
    assert [write.taken_bytes for write in writes[1:]] == [0, 0, 0]


def test_a_full_socket_takes_what_it_can() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                near.send(bytes(1 << 16))
        write = delete()
        write.park(near.fileno(), None, lambda _: None, 0, bytearray(9), 9)
        write.take(nothing_done("null"))
        smallwrites.answer([write], b"", lambda: "ID", b"")
        smallwrites.send_answers([write])
        assert write.answer and not write.is_sent


def test_a_request_beyond_its_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match="request: "):
        put().park(3, None, lambda _: None, 0, bytearray(9), 10)


def test_the_kernel_passes_its_own_test() -> None:
    assert smallwrites.selftest() == 8
