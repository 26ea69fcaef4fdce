"""Kernel `blobarrivals`: what its threads leave on the disk is what `LocalBlobWriter` leaves, or nothing."""

from __future__ import annotations

import errno
import fcntl
import gc
import hashlib
import select
import socket
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rs3d.format.sidecar import plain_body_form
from rs3d.kernels import blobarrivals, blobfiles
from rs3d.kernels.blobarrivals import LEAF_BYTES, Arrival, Arrivals, State
from rs3d.kernels.bodyhash import BodyHash
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.layout import BLOBS, QUARANTINE, BlobFile, file_name, segment_name
from rs3d.types.blobs import BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.recipe import PLAIN
from tests.engine.bodies import noise
from tests.ownprocess import own_descriptors, own_threads, until

SEGMENT = SegmentId(7)
NOW_NS = 1_700_000_000_000_000_000
HEADERS = (("content-type", "image/png"),)
PATIENCE_NS = 20_000_000_000
SIZES = (1, 63, 65_535, 65_536, 65_537, 300_001, LEAF_BYTES - 1, LEAF_BYTES)


class Place:
    """Two stores side by side: what the kernel makes, and what a writer makes of the same."""

    def __init__(self, root: Path) -> None:
        for name in ("kernel", "writer"):
            for top in (BLOBS, QUARANTINE):
                (root / name / top).mkdir(parents=True)
        self.kernel, self.writer = (LocalBlobStore(str(root / name)) for name in ("kernel", "writer"))
        self.root = root
        self.sockets: list[socket.socket] = []
        for store in (self.kernel, self.writer):
            store.make_segment(SEGMENT)

    def of(self, name: str, number: int) -> dict[str, bytes]:
        """The files of a blob."""
        folder = self.root / name / BLOBS / segment_name(SEGMENT)
        names = [file_name(BlobId(SEGMENT, number), kind) for kind in BlobFile]
        return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}

    def write(self, number: int, data: bytes, *, has_md5: bool = True) -> None:
        """By a writer."""
        stream = BodyHash(md5=has_md5)
        stream.update(data)
        writer = self.writer.create(BlobId(SEGMENT, number), size_hint_bytes=len(data), tables=stream)
        writer.write(memoryview(data))
        origin = BlobOrigin(bucket="bucket", key="kèy", headers=HEADERS, written_ns=NOW_NS)
        md5 = stream.digest() if has_md5 else b""
        writer.finish(client_bytes=len(data), recipe=PLAIN, md5=md5, origin=origin)


class Sender:
    """A body, of which `filled` bytes are in the buffer."""

    def __init__(self, place: Place, number: int, data: bytes, filled: int = 0, **told: object) -> None:
        self.near, self.far = socket.socketpair()
        self.far.setblocking(False)
        place.sockets += (self.near, self.far)
        self.data, self.number = data, number
        self.buffer = memoryview(bytearray(LEAF_BYTES))
        self.buffer[:filled] = data[:filled]
        self.arrival = Arrival()
        self.aim(place, filled, **told)  # type: ignore[arg-type]

    def aim(
        self,
        place: Place,
        filled: int,
        *,
        has_md5: bool = True,
        sha256: bytes | None = None,
        patience_ns: int = PATIENCE_NS,
        align_bytes: int = 0,
    ) -> None:
        found = place.kernel.place(BlobId(SEGMENT, self.number), len(self.data))
        assert found is not None
        body, root_at, md5_at = plain_body_form(len(self.data), 16 if has_md5 else 0, "bucket", "kèy", HEADERS, NOW_NS)
        self.arrival.aim(self.far.fileno(), self.buffer, len(self.data), filled, patience_ns)
        top, segment_name, its_align_bytes = found
        self.arrival.place(top, segment_name, SEGMENT, self.number, align_bytes or its_align_bytes)
        self.arrival.describe(body, root_at, md5_at if has_md5 else None, sha256)

    def send(self, start: int, end: int | None = None) -> None:
        self.near.sendall(self.data[start:end])

    def begin(self, end: int) -> None:
        """Send the first of it, and see that its thread has taken that: it is one that comes."""
        self.send(0, end)
        until = time.monotonic() + 30
        while any(fcntl.ioctl(self.far, termios.FIONREAD, bytes(4))):
            assert time.monotonic() < until
            time.sleep(0.001)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for end in made.sockets:
        end.close()
    made.kernel.close()
    made.writer.close()


@pytest.fixture
def pool() -> Iterator[Arrivals]:
    made = Arrivals(16)
    yield made
    made.close()


def wait(pool: Arrivals, count: int = 1) -> list[Arrival]:
    """As many as have ended."""
    ended: list[Arrival] = []
    while len(ended) < count:
        assert select.select([pool], [], [], 30)[0]
        ended += pool.ended()
    assert pool.ended() == []  # the word of one that was taken along with another may come later
    return ended


def store(place: Place, pool: Arrivals, sender: Sender, filled: int = 0) -> State:
    pool.start(sender.arrival)
    sender.send(filled)
    assert wait(pool) == [sender.arrival]
    return sender.arrival.state


@pytest.mark.parametrize("name", blobarrivals.variants())
@pytest.mark.parametrize("has_md5", [True, False])
def test_the_same_files_as_by_a_writer(place: Place, name: str, has_md5: bool) -> None:
    before = blobarrivals.variant()
    blobarrivals.use_variant(name)
    try:
        pool = Arrivals(2)
    finally:
        blobarrivals.use_variant(before)
    for number, size in enumerate(SIZES):
        data = noise(size)
        sender = Sender(place, number, data, size // 3, has_md5=has_md5, sha256=hashlib.sha256(data).digest())
        assert store(place, pool, sender, size // 3) is State.STORED
        place.write(number, data, has_md5=has_md5)
        assert place.of("kernel", number) == place.of("writer", number)
        assert len(place.of("kernel", number)) == 2
        arrival = sender.arrival
        assert arrival.sha256 == hashlib.sha256(data).digest()
        assert arrival.md5 == (hashlib.md5(data).digest() if has_md5 else b"")
        reader = place.kernel.open(BlobId(SEGMENT, number))
        assert arrival.merkle_root == reader.info.merkle_root
        reader.close()
        assert (arrival.filled_bytes, arrival.error, arrival.is_slow) == (size, 0, False)
    pool.close()


def test_a_body_that_is_there_already_needs_no_socket(place: Place, pool: Arrivals) -> None:
    data = noise(50_000)
    assert store(place, pool, Sender(place, 1, data, len(data)), len(data)) is State.STORED
    assert place.of("kernel", 1)[file_name(BlobId(SEGMENT, 1), BlobFile.DATA)] == data


@pytest.mark.parametrize("size", SIZES)
def test_a_body_that_is_given_is_hashed_where_it_lies(place: Place, pool: Arrivals, size: int) -> None:
    data = noise(size)
    sender = Sender(place, 1, data)
    for _ in range(2):  # with another before it, of which nothing is left
        sender.arrival.give(data, sender.buffer)
        assert store(place, pool, sender, size) is State.STORED
        place.write(1, data)
        assert place.of("kernel", 1) == place.of("writer", 1)
        assert sender.arrival.filled_bytes == size and sender.buffer[:size] == data
        for name in ("kernel", "writer"):
            for file in place.of(name, 1):
                (place.root / name / BLOBS / segment_name(SEGMENT) / file).unlink()
    held = sys.getrefcount(data)
    sender.arrival.let_go()
    assert sys.getrefcount(data) == held - 1


@pytest.mark.parametrize("has_md5", [True, False])
def test_the_packet_of_one_that_is_stored_is_sent_and_nobody_is_woken(
    place: Place, pool: Arrivals, has_md5: bool
) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    place.sockets += (near, far)
    sender = Sender(place, 1, noise(70_000), has_md5=has_md5)
    sender.arrival.commit_by(near.fileno(), bytes(100), 8, 60)
    pool.start(sender.arrival)
    sender.send(0)
    packet = far.recv(1000)
    assert not select.select([pool], [], [], 0)[0]
    assert pool.ended() == [sender.arrival] and sender.arrival.is_sent
    arrival = sender.arrival
    etag = arrival.md5 + bytes(16) if has_md5 else arrival.sha256
    assert packet == bytes(8) + etag + bytes(20) + arrival.merkle_root + bytes(8)
    arrival.let_go()
    sender.number = 2
    sender.aim(place, 0)
    assert store(place, pool, sender) is State.STORED and not arrival.is_sent  # it was of that one alone


@pytest.mark.parametrize("what", ["no socket", "other", "withheld"])
def test_a_packet_that_is_not_sent_is_told_as_an_end(place: Place, pool: Arrivals, what: str) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    place.sockets += (near, far)
    if what == "no socket":
        far.close()
    sender = Sender(place, 1, noise(70_000), sha256=bytes(32) if what == "other" else None)
    sender.arrival.commit_by(near.fileno(), bytes(100), 8, 60)
    pool.start(sender.arrival)
    if what == "withheld":
        pool.withhold(sender.arrival)
    sender.send(0)
    assert wait(pool) == [sender.arrival] and not sender.arrival.is_sent
    assert sender.arrival.state is (State.OTHER if what == "other" else State.STORED)
    if what != "no socket":
        assert not select.select([far], [], [], 0)[0]


@pytest.mark.parametrize(("length", "etag_at", "root_at"), [(2049, 0, 0), (63, 32, 0), (63, 0, 32), (10, 11, 0)])
def test_packets_without_a_place_for_the_digests_are_refused(length: int, etag_at: int, root_at: int) -> None:
    with pytest.raises(ValueError, match="a packet of"):
        Arrival().commit_by(0, bytes(length), etag_at, root_at)


def test_what_cannot_be_given_is_refused(place: Place, pool: Arrivals) -> None:
    sender = Sender(place, 1, noise(1000))
    for length, room in ((0, 1), (LEAF_BYTES + 1, LEAF_BYTES + 1), (2, 1)):
        with pytest.raises(ValueError, match=r"no body of one leaf|do not fit"):
            sender.arrival.give(bytes(length), bytearray(room))
    pool.start(sender.arrival)
    with pytest.raises(RuntimeError, match="under way"):
        sender.arrival.give(b"ab", bytearray(2))
    sender.send(0)
    wait(pool)


def test_many_at_once_are_hashed_together_and_each_is_itself(place: Place, pool: Arrivals) -> None:
    senders = [Sender(place, number, noise(LEAF_BYTES - number)) for number in range(16)]
    for sender in senders:
        pool.start(sender.arrival)
    assert pool.is_full and pool.outstanding == 16
    threads = [threading.Thread(target=sender.send, args=(0,)) for sender in senders]
    for thread in threads:
        thread.start()
    wait(pool, 16)
    for thread, sender in zip(threads, senders, strict=True):
        thread.join()
        assert sender.arrival.state is State.STORED
        place.write(sender.number, sender.data)
        assert place.of("kernel", sender.number) == place.of("writer", sender.number)
    assert pool.pieces == 16 and 1 <= pool.rounds <= 16 and pool.outstanding == 0


def test_a_body_that_was_written_waits_for_one_that_comes(place: Place) -> None:
    pool = Arrivals(2, company_ns=blobarrivals.MOST_COMPANY_NS)
    first, second = Sender(place, 1, noise(70_000)), Sender(place, 2, noise(80_000))
    pool.start(second.arrival)
    second.begin(1000)
    pool.start(first.arrival)
    first.send(0)
    assert not select.select([pool], [], [], 0.05)[0]
    second.send(1000)
    wait(pool, 2)
    assert {first.arrival.state, second.arrival.state} == {State.STORED}
    assert (pool.rounds, pool.pieces) == (1, 2)
    pool.close()


def test_nobody_waits_for_one_that_comes_no_more(place: Place) -> None:
    pool = Arrivals(2, company_ns=blobarrivals.MOST_COMPANY_NS)
    first, second = Sender(place, 1, noise(70_000)), Sender(place, 2, noise(80_000))
    pool.start(second.arrival)
    second.begin(1000)
    pool.start(first.arrival)
    first.send(0)
    assert not select.select([pool], [], [], 0.05)[0]
    second.arrival.stop()
    assert set(wait(pool, 2)) == {second.arrival, first.arrival}
    assert (first.arrival.state, pool.rounds) == (State.STORED, 1)
    assert store(place, pool, Sender(place, 3, noise(1000))) is State.STORED  # alone
    pool.close()


def test_nobody_waits_for_a_slow_one(place: Place) -> None:
    pool = Arrivals(2, company_ns=1)
    first, second = Sender(place, 1, noise(70_000)), Sender(place, 2, noise(80_000))
    pool.start(second.arrival)
    second.begin(1000)
    assert store(place, pool, first) is State.STORED
    second.arrival.stop()
    pool.close()


def test_an_arrival_is_used_again(place: Place, pool: Arrivals) -> None:
    data = noise(20_000)
    sender = Sender(place, 1, data)
    sender.arrival.stop()  # of none: it is no word about the next
    assert sender.arrival.owner is None
    sender.arrival.owner = self_made = object()
    for number in (1, 2):
        sender.number = number
        sender.aim(place, 0)
        pool.start(sender.arrival)
        sender.send(0)
        (ended,) = wait(pool)
        assert ended.state is State.STORED and ended.owner is self_made
        ended.let_go()
        assert len(place.of("kernel", number)) == 2


def test_bytes_that_are_not_those_declared_leave_nothing(place: Place, pool: Arrivals) -> None:
    sender = Sender(place, 1, noise(LEAF_BYTES), sha256=bytes(32))
    assert store(place, pool, sender) is State.OTHER
    assert place.of("kernel", 1) == {} and bytes(sender.buffer) == sender.data


@pytest.mark.parametrize("how", ["end", "slow", "stop", "reset"])
def test_a_body_that_does_not_come_whole_is_told_with_what_came(place: Place, pool: Arrivals, how: str) -> None:
    sender = Sender(place, 1, noise(300_000), 1000, patience_ns=1 if how == "slow" else PATIENCE_NS)
    sender.send(1000, 70_000)
    pool.start(sender.arrival)
    if how == "end":
        sender.near.shutdown(socket.SHUT_WR)
    elif how == "stop":
        sender.arrival.stop()
    elif how == "reset":
        sender.near.close()
    wait(pool)
    arrival = sender.arrival
    assert arrival.state is State.CUT and arrival.is_slow == (how == "slow")
    assert how == "stop" or arrival.filled_bytes == 70_000
    assert sender.buffer[: arrival.filled_bytes] == sender.data[: arrival.filled_bytes]
    assert place.of("kernel", 1) == {}


@pytest.mark.parametrize("kind", BlobFile)
def test_a_name_that_is_taken_is_told(place: Place, pool: Arrivals, kind: BlobFile) -> None:
    taken = place.root / "kernel" / BLOBS / segment_name(SEGMENT) / file_name(BlobId(SEGMENT, 1), kind)
    taken.write_bytes(b"another's")
    sender = Sender(place, 1, noise(40_000))
    assert store(place, pool, sender) is State.FAILED
    assert sender.arrival.error == errno.EEXIST
    if kind is BlobFile.DATA:
        assert list(place.of("kernel", 1).values()) == [b"another's"]


def test_a_segment_that_is_missing_is_told(place: Place, pool: Arrivals) -> None:
    sender = Sender(place, 1, noise(40_000))
    sender.arrival.place(place.kernel._blobs, "nowhere", SEGMENT, 1, 0)
    assert store(place, pool, sender) is State.FAILED
    assert sender.arrival.error == errno.ENOENT


def test_no_descriptor_is_left(place: Place, pool: Arrivals) -> None:
    senders = [
        Sender(place, number, noise(40_000), sha256=sha256)
        for number, sha256 in ((1, None), (2, None), (3, bytes(32)), (2, None))
    ]
    states = [store(place, pool, senders[0])]
    before = own_descriptors()
    states += [store(place, pool, sender) for sender in senders[1:]]
    assert states == [State.STORED, State.STORED, State.OTHER, State.FAILED]
    assert own_descriptors() == before


def test_threads_are_as_many_as_are_needed_and_end(place: Place) -> None:
    before = own_threads()
    pool = Arrivals(8, steps_behind=3)
    for number in range(5):
        store(place, pool, Sender(place, number, noise(1000)))
    assert len(own_threads() - before) == 2  # one that hashes while the other writes
    waiting = Sender(place, 5, noise(1000))
    pool.start(waiting.arrival)
    store(place, pool, Sender(place, 6, noise(1000)))
    assert len(own_threads() - before) == 3
    waiting.arrival.stop()
    pool.close()
    assert until(lambda: own_threads() <= before) and pool.outstanding == 0
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.start(Sender(place, 7, noise(1000)).arrival)


def test_what_is_under_way_is_left_alone(place: Place) -> None:
    pool = Arrivals(1)
    sender, other = Sender(place, 1, noise(1000)), Sender(place, 2, noise(1000))
    pool.start(sender.arrival)
    arrival = sender.arrival
    calls: tuple[Callable[[], object], ...] = (
        lambda: pool.start(arrival),
        lambda: sender.aim(place, 0),
        lambda: arrival.place(0, "a", 1, 1, 0),
        lambda: arrival.describe(bytes(64), 0, None, None),
        arrival.let_go,
    )
    for call in calls:
        with pytest.raises(RuntimeError, match="under way"):
            call()
    with pytest.raises(RuntimeError, match="all threads are busy"):
        pool.start(other.arrival)
    sender.send(0)
    assert wait(pool) == [arrival] and arrival.state is State.STORED
    pool.close()


@pytest.mark.parametrize("is_cycle", [False, True])
def test_an_arrival_that_ends_lets_its_buffer_go(is_cycle: bool) -> None:
    buffer, arrival = bytearray(10), Arrival()
    arrival.aim(0, buffer, 10, 0, 0)
    with pytest.raises(BufferError):
        buffer.append(0)
    if is_cycle:
        arrival.owner = [arrival]
    del arrival
    gc.collect()
    buffer.append(0)


def test_what_nobody_described_is_not_begun(place: Place, pool: Arrivals) -> None:
    with pytest.raises(ValueError, match="nobody has said"):
        pool.start(Arrival())
    sender = Sender(place, 1, noise(1000))
    sender.arrival.let_go()
    with pytest.raises(ValueError, match="nobody has said"):
        pool.start(sender.arrival)


@pytest.mark.parametrize(
    ("length", "filled", "patience_ns"),
    [(0, 0, 0), (LEAF_BYTES + 1, 0, 0), (100, 101, 0), (100, -1, 0), (101, 0, 0), (100, 0, -1)],
)
def test_what_does_not_fit_is_refused(length: int, filled: int, patience_ns: int) -> None:
    with pytest.raises(ValueError, match=r"no body of one leaf|do not fit|not a time"):
        Arrival().aim(0, bytearray(100), length, filled, patience_ns)


def test_bad_descriptions_are_refused() -> None:
    arrival = Arrival()
    for body, root_at, md5_at, sha256 in (
        (bytes(blobarrivals.MOST_BODY_BYTES + 1), 0, 32, None),
        (bytes(31), 0, None, None),
        (bytes(64), 33, None, None),
        (bytes(64), 1 << 63, None, None),
        (bytes(64), 0, 49, None),
        (bytes(64), 0, 32, bytes(31)),
    ):
        with pytest.raises(ValueError, match=r"no place|no SHA-256"):
            arrival.describe(body, root_at, md5_at, sha256)
    for name, align in (("a/b", 0), ("", 0), ("a\0", 0), ("a", 3)):
        with pytest.raises(ValueError, match=r"no name|no power"):
            arrival.place(0, name, 1, 1, align)
    with pytest.raises(BufferError):
        arrival.aim(0, b"read-only", 9, 0, 0)
    for threads, steps, company_ns in ((0, 0, 0), (65, 0, 0), (1, -1, 0), (1, 0, -1), (1, 0, 1 << 62)):
        with pytest.raises(ValueError, match=r"threads|steps|company"):
            Arrivals(threads, steps_behind=steps, company_ns=company_ns)


def test_bytes_go_past_the_page_cache_where_they_can(place: Place, pool: Arrivals) -> None:
    assert store(place, pool, Sender(place, 1, noise(LEAF_BYTES), align_bytes=blobfiles.ALIGN_BYTES)) is State.STORED
    place.write(1, noise(LEAF_BYTES))
    assert place.of("kernel", 1) == place.of("writer", 1)
