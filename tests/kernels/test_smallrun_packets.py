"""What `rs3d.kernels.smallrun` receives, against `rs3d.stores.messages`, and the rows that it looks at beside a key."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs3d.errors import ProtocolMismatch
from rs3d.kernels.crc import crc32c
from rs3d.kernels.smallrun import CLOSED, DONE, EMPTY, GENERAL, OTHER, SmallBatch
from rs3d.stores.committerchannel import channel_pair
from rs3d.stores.messages import (
    BLOB_PUT,
    HEAD,
    MAXIMUM_MESSAGE_BYTES,
    OPERATION,
    SMALL_PUT,
    SMALL_REMOVAL,
    decode_operations,
    gather,
    memfd_notice,
)
from rs3d.stores.smallmessage import SmallMessage
from tests.kernels.smallrunning import PUT, REMOVAL, VERSIONS, Alone, Log, Transaction, small_batch
from tests.kernels.test_smallrun_puts import random_put
from tests.kernels.test_smallrun_removals import removal_of

KINDS = (SMALL_PUT, SMALL_REMOVAL, BLOB_PUT)
LIMITS = (1 << 20, 256)
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A worker's end and the committer's."""
    ends = channel_pair()
    yield ends
    for end in ends:
        end.close()


def operation(kind: int, counter: int, body: bytes) -> tuple[bytes, bytes]:
    return HEAD.pack(OPERATION, kind, 0, len(body), counter, counter // 2), body


def received() -> SmallBatch:
    return SmallBatch(
        SMALL_PUT, SMALL_REMOVAL, BLOB_PUT, lambda kind, counter, body, sender, below: (counter, body, sender, below)
    )


def test_packets_are_taken_apart_as_the_slow_module_takes_them(pair: Pair) -> None:
    chance = random.Random(3)
    batch = received()
    for _ in range(100):
        operations = [
            operation(
                chance.choice((SMALL_PUT, SMALL_REMOVAL, BLOB_PUT)),
                counter,
                chance.randbytes(chance.randrange(16, 3000)),
            )
            for counter in range(chance.randrange(1, 9))
        ]
        packets = [b"".join(gather(operations)), b"".join(operations[0])]
        for packet in packets:
            pair[0].send(packet)
        batch.clear()
        assert batch.receive(pair[1].fileno(), 77, *LIMITS) == EMPTY
        frames = [frame for packet in packets for frame in decode_operations(memoryview(packet))]
        expected = []
        for frame in frames:
            assert isinstance(frame.operation, SmallMessage)
            expected.append((frame.operation.counter, frame.operation.body, 77, frame.answered_below))
        assert list(batch) == expected == batch[:]
        assert (batch[len(batch) - 1], len(batch)) == (expected[-1], len(expected))
        assert batch.taken_bytes == sum(len(packet) for packet in packets)


@given(raw=st.binary(max_size=200), cut=st.integers(0, 200))
@settings(max_examples=400, deadline=None)
def test_what_is_not_small_writes_alone_is_handed_over_whole(raw: bytes, cut: int) -> None:
    whole = b"".join(gather([operation(SMALL_PUT, 1, bytes(40)), operation(SMALL_REMOVAL, 2, bytes(30))]))
    worker, committer = channel_pair()
    with worker, committer:
        packet = (whole[:cut] + raw) or b"x"
        worker.send(packet)
        batch = received()
        how = batch.receive(committer.fileno(), 1, *LIMITS)
        try:
            frames = decode_operations(memoryview(packet))
        except ProtocolMismatch:
            frames = []
        if how == EMPTY:
            assert [(frame.operation.counter, frame.operation.body) for frame in frames] == [m[:2] for m in batch]  # type: ignore[union-attr]
        else:
            assert (how, len(batch), batch.other, batch.descriptors, batch.is_cut) == (OTHER, 0, packet, (), False)
            assert not frames or not all(isinstance(frame.operation, SmallMessage) for frame in frames)


def test_descriptors_come_with_their_packet_and_stay_open(pair: Pair) -> None:
    with open(os.devnull, "rb") as sent:
        socket.send_fds(pair[0], [memfd_notice(5)], [sent.fileno()])
        pair[0].send(b"".join(operation(SMALL_PUT, 6, bytes(40))))
        batch = received()
        assert batch.receive(pair[1].fileno(), 1, *LIMITS) == OTHER
        (descriptor,) = batch.descriptors
        assert os.path.sameopenfile(descriptor, sent.fileno()) and not os.get_inheritable(descriptor)
        os.close(descriptor)
        assert (batch.other, len(batch)) == (memfd_notice(5), 0)
        assert batch.receive(pair[1].fileno(), 1, *LIMITS) == EMPTY
        assert [message[0] for message in batch] == [6]


def test_a_packet_that_is_too_long_is_known_as_cut(pair: Pair) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    pair[0].send(b"".join(operation(SMALL_PUT, 1, bytes(MAXIMUM_MESSAGE_BYTES))))
    batch = received()
    assert (batch.receive(pair[1].fileno(), 1, *LIMITS), batch.is_cut, len(batch)) == (OTHER, True, 0)


def test_limits_end_a_turn_and_the_rest_waits(pair: Pair) -> None:
    batch = received()
    for counter in range(6):
        pair[0].send(b"".join(operation(SMALL_PUT, counter, bytes(40))))
    assert batch.receive(pair[1].fileno(), 1, 1, 256) == EMPTY and len(batch) == 1
    assert batch.receive(pair[1].fileno(), 1, 1 << 20, 2) == EMPTY and len(batch) == 3
    assert batch.receive(pair[1].fileno(), 1, *LIMITS) == EMPTY and len(batch) == 6
    assert batch.receive(pair[1].fileno(), 1, *LIMITS) == EMPTY and len(batch) == 6


def test_a_worker_that_went_is_told_after_its_last_packet(pair: Pair) -> None:
    batch = received()
    pair[1].send(b"never read")
    pair[0].send(b"".join(operation(SMALL_PUT, 1, bytes(40))))
    pair[0].close()
    assert (batch.receive(pair[1].fileno(), 1, *LIMITS), len(batch)) == (CLOSED, 1)


@pytest.mark.parametrize(("kind", "body"), [(0, bytes(40)), (9, bytes(40)), (PUT, bytes(15)), (REMOVAL, b"")])
def test_what_is_no_small_message_is_refused(kind: int, body: bytes) -> None:
    batch = small_batch()
    with pytest.raises(ValueError, match="no message of a small write"):
        batch.add(kind, 1, body, 1, 1)
    assert len(batch) == 0
    with pytest.raises(IndexError):
        batch[0]


@given(
    keys=st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=8, unique=True),
    sought=st.text("\x01abc\x7f", min_size=1, max_size=2),
    flipped=st.none() | st.integers(0, 7),
    is_there=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_row_beside_a_keys_place_sends_it_the_general_way(
    keys: list[bytes], sought: str, flipped: int | None, is_there: bool
) -> None:
    rows = {}
    for number, key in enumerate(sorted(bytes(8) + key for key in keys)):
        value = b"value" + crc32c(b"value", crc32c(key, VERSIONS)).to_bytes(4, "big")
        rows[key] = value[:-1] + bytes((value[-1] ^ 1,)) if number == flipped else value
    put = random_put(random.Random(1), payload=b"p")
    put.key, put.bucket, put.content_type = sought.encode(), put.bucket.__class__(0), b""
    place = bytes(8) + put.key + b"\0\0"
    beside = [*[key for key in sorted(rows) if key < place][-1:], *[key for key in sorted(rows) if key > place][:1]]
    is_sound = all(crc32c(rows[key][:-4], crc32c(key, VERSIONS)).to_bytes(4, "big") == rows[key][-4:] for key in beside)
    transaction = Transaction(rows)
    run = Alone(Log(), transaction)
    if any(key.startswith(place) for key in rows):
        is_sound = False  # another kind of row of that very key
    assert run.take(PUT, put.message)[0] == (DONE if is_sound else GENERAL)
    if is_sound and is_there:
        how, _ = run.take(REMOVAL, removal_of(put.key), counter=2)
        assert how == DONE and transaction.rows["versions"] == rows
