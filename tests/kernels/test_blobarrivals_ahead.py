"""Kernel `blobarrivals`: bodies whose hash begins before it is known where they go."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

import pytest

from rs3d.kernels import blobarrivals
from rs3d.kernels.blobarrivals import LEAF_BYTES, Arrival, Arrivals, State
from rs3d.stores.layout import BLOBS, BlobFile, file_name, segment_name
from rs3d.types.identifiers import BlobId
from tests.engine.bodies import noise
from tests.kernels.test_blobarrivals import SEGMENT, SIZES, Place, Sender, place, pool, wait
from tests.ownprocess import own_threads, until

__all__ = ["place", "pool"]


def ahead(place: Place, pool: Arrivals, number: int, data: bytes, *, pause_s: float = 0.0, **told: object) -> Sender:
    """A body that is begun `pause_s` after its hash."""
    sender = Sender(place, number, data, **told)  # type: ignore[arg-type]
    pool.begin_hashing(sender.arrival, data)
    time.sleep(pause_s)
    sender.arrival.give(data, sender.buffer)
    pool.start(sender.arrival)
    assert wait(pool) == [sender.arrival]
    return sender


@pytest.mark.parametrize("name", blobarrivals.variants())
@pytest.mark.parametrize("pause_s", [0.0, 0.02])
@pytest.mark.parametrize("has_md5", [True, False])
def test_the_same_files_as_by_a_writer(place: Place, name: str, pause_s: float, has_md5: bool) -> None:
    before = blobarrivals.variant()
    blobarrivals.use_variant(name)
    try:
        pool = Arrivals(2)
    finally:
        blobarrivals.use_variant(before)
    for number, size in enumerate(SIZES):
        data = noise(size)
        sender = ahead(place, pool, number, data, pause_s=pause_s, has_md5=has_md5)
        place.write(number, data, has_md5=has_md5)
        assert sender.arrival.state is State.STORED
        assert place.of("kernel", number) == place.of("writer", number)
        assert sender.arrival.md5 == (hashlib.md5(data).digest() if has_md5 else b"")
        assert sender.arrival.filled_bytes == size and sender.buffer[:size] == data
    assert pool.pieces == len(SIZES)
    pool.close()


def test_an_arrival_is_used_again_either_way(place: Place, pool: Arrivals) -> None:
    data, sender = noise(LEAF_BYTES), Sender(place, 1, noise(LEAF_BYTES))
    for number in range(1, 5):
        sender.number = number
        sender.arrival.let_go()
        if number % 2:
            pool.begin_hashing(sender.arrival, data)
            sender.arrival.give(data, sender.buffer)
            found = place.kernel.place(BlobId(SEGMENT, number), len(data))
            assert found is not None
            sender.arrival.place(found[0], found[1], SEGMENT, number, found[2])
        else:
            sender.aim(place, 0)
        pool.start(sender.arrival)
        if not number % 2:
            sender.send(0)
        assert wait(pool) == [sender.arrival] and sender.arrival.state is State.STORED
        place.write(number, data)
        assert place.of("kernel", number) == place.of("writer", number)


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
def test_one_that_is_forsaken_ends_without_a_file(place: Place, pool: Arrivals, pause_s: float) -> None:
    data, arrival = noise(LEAF_BYTES), Arrival()
    held = sys.getrefcount(data)
    pool.begin_hashing(arrival, data)
    time.sleep(pause_s)
    pool.forsake(arrival)
    assert wait(pool) == [arrival] and arrival.state is State.CUT and pool.outstanding == 0
    arrival.let_go()
    assert sys.getrefcount(data) == held
    assert os.listdir(place.root / "kernel" / BLOBS / segment_name(SEGMENT)) == []
    pool.forsake(arrival)  # without effect, as on one that was started
    assert ahead(place, pool, 1, data).arrival.state is State.STORED
    assert pool.ended() == []


def test_bytes_that_are_not_those_declared_leave_nothing(place: Place, pool: Arrivals) -> None:
    sender = ahead(place, pool, 1, noise(300_000), sha256=bytes(32))
    assert sender.arrival.state is State.OTHER and place.of("kernel", 1) == {}


@pytest.mark.parametrize("kind", BlobFile)
@pytest.mark.parametrize("pause_s", [0.0, 0.02])
def test_a_name_that_is_taken_is_told(place: Place, pool: Arrivals, kind: BlobFile, pause_s: float) -> None:
    taken = place.root / "kernel" / BLOBS / segment_name(SEGMENT) / file_name(BlobId(SEGMENT, 1), kind)
    taken.write_bytes(b"another's")
    assert ahead(place, pool, 1, noise(LEAF_BYTES), pause_s=pause_s).arrival.state is State.FAILED
    if kind is BlobFile.DATA:
        assert list(place.of("kernel", 1).values()) == [b"another's"]


def test_what_is_hashed_is_what_is_begun(place: Place, pool: Arrivals) -> None:
    data, sender = noise(40_000), Sender(place, 1, noise(40_000))
    arrival = sender.arrival
    pool.begin_hashing(arrival, data)
    with pytest.raises(ValueError, match="another body"):
        arrival.give(bytes(40_000), sender.buffer)
    with pytest.raises(RuntimeError, match="hashed already"):
        sender.aim(place, 0)
    with pytest.raises(RuntimeError, match="under way"):
        pool.begin_hashing(arrival, data)
    with pytest.raises(RuntimeError, match="under way"):
        arrival.let_go()
    pool.forsake(arrival)
    wait(pool)


@pytest.mark.parametrize("length", [0, LEAF_BYTES + 1])
def test_what_is_no_body_of_one_leaf_is_refused(pool: Arrivals, length: int) -> None:
    with pytest.raises(ValueError, match="no body of one leaf"):
        pool.begin_hashing(Arrival(), bytes(length))
    assert pool.outstanding == 0


def test_no_more_than_there_are_threads_and_none_when_closed() -> None:
    pool, first, data = Arrivals(1), Arrival(), noise(1000)
    pool.begin_hashing(first, data)
    with pytest.raises(RuntimeError, match="all threads are busy"):
        pool.begin_hashing(Arrival(), data)
    pool.forsake(first)
    wait(pool)
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.begin_hashing(first, data)


def test_its_thread_ends_and_may_run_anywhere_again(place: Place) -> None:
    before = own_threads()
    pool = Arrivals(2)
    for number in range(4):
        ahead(place, pool, number, noise(LEAF_BYTES))
    allowed = [os.sched_getaffinity(int(thread)) for thread in own_threads() - before]
    assert allowed == 3 * [os.sched_getaffinity(0)]
    pool.close()
    assert until(lambda: own_threads() <= before)


def test_others_go_on_beside_it(place: Place, tmp_path: Path) -> None:
    pool, data = Arrivals(8, rounds=1), noise(LEAF_BYTES)
    senders = [Sender(place, number, data) for number in range(6)]
    pool.begin_hashing(senders[0].arrival, data)
    for sender in senders:
        sender.arrival.give(data, sender.buffer)
        pool.start(sender.arrival)
    assert {sender.state for sender in wait(pool, 6)} == {State.STORED}
    for number in range(6):
        place.write(number, data)
        assert place.of("kernel", number) == place.of("writer", number)
    pool.close()
