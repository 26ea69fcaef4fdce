"""io_uring: reads and writes what os.pread and os.pwrite see; bounded; safe to tear down at any moment."""

from __future__ import annotations

import errno
import gc
import os
import random
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from rs3d.kernels import uring
from rs3d.kernels.uring import Completion, Ring, Start, Sync
from tests.ownprocess import own_descriptors

WORKS, REASON = uring.probe()
needs_ring = pytest.mark.skipif(not WORKS, reason=f"io_uring cannot be used here: {REASON}")


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    made = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    yield made
    os.close(made)


@pytest.fixture(params=list(Start))
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    with Ring(8, request.param) as made:
        yield made


def test_the_probe_and_making_a_ring_agree() -> None:
    if WORKS:
        Ring(1).close()
        assert REASON == ""
    else:
        with pytest.raises(OSError, match=REASON):
            Ring(1)
        assert REASON


@needs_ring
def test_written_bytes_are_in_the_file_and_read_back(ring: Ring, fd: int) -> None:
    data = random.Random(1).randbytes(300_000)
    for number, at in enumerate(range(0, 300_000, 50_000)):
        ring.write(fd, data[at : at + 50_000], at, number)
    assert ring.queued == ring.in_flight == 6
    assert ring.submit() == 6
    assert sorted(ring.wait(6)) == [Completion(number, 50_000) for number in range(6)]
    assert os.pread(fd, 400_000, 0) == data
    buffers = [bytearray(100_000) for _ in range(3)]
    for number, buffer in enumerate(buffers):
        ring.read(fd, buffer, number * 100_000, 100 + number)
    assert sorted(ring.wait(3)) == [Completion(100 + number, 100_000) for number in range(3)]
    assert b"".join(buffers) == data
    assert ring.in_flight == 0


@needs_ring
def test_syncs_and_short_reads_complete(ring: Ring, fd: int) -> None:
    os.pwrite(fd, b"12345", 0)
    ring.fsync(fd, Sync.DATA, 1)
    ring.fsync(fd, Sync.ALL, 2)
    ring.read(fd, bytearray(10), 3, 3)
    ring.read(fd, bytearray(10), 5, 4)
    assert sorted(ring.wait(4)) == [(1, 0), (2, 0), (3, 2), (4, 0)]


@needs_ring
def test_failures_are_results_not_exceptions(ring: Ring) -> None:
    ring.read(10_000, bytearray(1), 0, 1)
    assert ring.wait() == [Completion(1, -errno.EBADF)]


@needs_ring
def test_a_full_ring_takes_no_more_until_it_is_reaped(ring: Ring, fd: int) -> None:
    for number in range(ring.entries):
        ring.write(fd, b"x", number, number)
    with pytest.raises(BlockingIOError) as caught:
        ring.write(fd, b"x", 0, 99)
    assert caught.value.errno == errno.EAGAIN
    assert len(ring.wait(ring.entries)) == ring.entries
    ring.write(fd, b"x", 0, 99)
    assert ring.wait() == [Completion(99, 1)]


@needs_ring
def test_a_ring_goes_around_many_times(fd: int) -> None:
    done = []
    with Ring(3) as ring:
        assert ring.entries == 4
        for number in range(100):
            ring.write(fd, number.to_bytes(2, "big"), 2 * number, number)
            done += ring.wait(1) if number % 3 == 0 else ring.reap()
            if ring.in_flight == 4:
                done += ring.wait()
        done += ring.wait(100)
    assert sorted(done) == [Completion(number, 2) for number in range(100)]
    assert os.pread(fd, 300, 0) == b"".join(number.to_bytes(2, "big") for number in range(100))


@needs_ring
def test_buffers_are_pinned_until_their_completion_is_reaped(ring: Ring, fd: int) -> None:
    buffer = bytearray(10)
    os.pwrite(fd, b"0123456789", 0)
    ring.read(fd, buffer, 0, 1)
    with pytest.raises(BufferError):
        buffer.clear()
    ring.wait()
    buffer.clear()


@needs_ring
async def test_trio_is_woken_by_the_eventfd(fd: int) -> None:
    with Ring(8) as ring:
        os.pwrite(fd, b"woken", 0)
        buffer = bytearray(5)
        ring.read(fd, buffer, 0, 1)
        ring.submit()
        found: list[Completion] = []
        with trio.fail_after(5):
            while not found:
                await trio.lowlevel.wait_readable(ring.event_fd)
                found = ring.reap()
        assert found == [Completion(1, 5)]
        assert buffer == b"woken"


@needs_ring
def test_the_eventfd_is_quiet_after_a_reap(ring: Ring, fd: int) -> None:
    assert ring.reap() == []
    ring.write(fd, b"x", 0, 1)
    ring.wait()
    assert select.select([ring.event_fd], [], [], 0) == ([], [], [])


@needs_ring
def test_closing_cancels_a_read_that_would_wait_for_ever_and_releases_its_buffer() -> None:
    reader, writer = os.pipe()
    buffer = bytearray(10)
    ring = Ring(4)
    for number in range(4):
        ring.read(reader, buffer, 0, number)
    ring.submit()
    ring.close()
    ring.close()
    assert ring.closed
    buffer.clear()
    os.close(reader)
    os.close(writer)


@needs_ring
def test_what_the_kernel_does_not_cancel_at_once_is_cancelled_again() -> None:
    """Reads of one pipe that are being begun may answer EALREADY: one ring in some hundreds waited for ever."""
    for _ in range(3000):
        reader, writer = os.pipe()
        ring = Ring(4)
        for number in range(4):
            ring.read(reader, bytearray(10), 0, number)
        ring.submit()
        ring.close()
        assert ring.closed
        os.close(reader)
        os.close(writer)


@needs_ring
def test_a_ring_that_is_dropped_with_requests_queued_or_in_flight_releases_everything(fd: int) -> None:
    before = len(own_descriptors())
    buffer = bytearray(1 << 20)
    reader, writer = os.pipe()
    ring = Ring(8)
    ring.read(reader, buffer, 0, 1)
    ring.submit()
    ring.write(fd, buffer, 0, 2)
    del ring
    gc.collect()
    buffer.clear()
    os.close(reader)
    os.close(writer)
    assert len(own_descriptors()) == before


@needs_ring
def test_wrong_uses_are_refused(ring: Ring, fd: int) -> None:
    with pytest.raises(BufferError):
        ring.read(fd, b"read-only", 0, 1)  # type: ignore[arg-type, unused-ignore]
    with pytest.raises(ValueError, match="not a place"):
        ring.write(fd, b"x", -1, 1)
    assert ring.in_flight == 0
    for entries in (0, -1, uring.ENTRIES_LIMIT + 1):
        with pytest.raises(ValueError, match="entries"):
            Ring(entries)
    ring.close()
    with pytest.raises(ValueError, match="closed"):
        ring.write(fd, b"x", 0, 1)
    with pytest.raises(ValueError, match="closed"):
        ring.submit()
    with pytest.raises(ValueError, match="closed"):
        _ = ring.event_fd


def test_the_self_test_passes() -> None:
    assert uring.selftest() == (2 if WORKS else 1)
