"""Body buffers: each its own memory, on pages, two of a MiB in one huge page; lent as often as there are some."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from rs3d.engine.buffers import HUGE_PAGE_BYTES, SMALL_BYTES, BufferPool, Lease, address_of
from rs3d.errors import SlowDown
from tests.engine.bodies import noise

MIB = 1024 * 1024


def lend(pool: BufferPool, count: int) -> list[Lease]:
    return [pool.lease() for _ in range(count)]


@pytest.mark.parametrize("size_bytes", [64 * 1024, MIB, 3 * MIB])
def test_each_buffer_is_memory_of_its_own_on_pages(size_bytes: int) -> None:
    leases = lend(BufferPool(5, size_bytes, 0), 5)
    for number, lease in enumerate(leases):
        assert len(lease.view) == size_bytes and address_of(lease.view) % mmap.PAGESIZE == 0
        lease.view[:] = bytes([number]) * size_bytes
    assert [lease.view[0] for lease in leases] == [lease.view[-1] for lease in leases] == list(range(5))
    for lease in leases:
        lease.release()


def test_two_of_a_mebibyte_lie_in_one_huge_page() -> None:
    first, second = lend(BufferPool(2, MIB, 0), 2)
    places = sorted(address_of(lease.view) for lease in (first, second))
    assert places[0] % HUGE_PAGE_BYTES == 0 and places[1] == places[0] + MIB


def test_a_buffer_is_only_made_when_none_is_free_and_takes_no_memory_beside_it() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    pool = BufferPool(4, MIB, 0)
    before = resident()
    for _ in range(20):
        lease = pool.lease()
        lease.view[:] = bytes(MIB)
        lease.release()
    assert resident() - before < 2 * HUGE_PAGE_BYTES


def test_no_huge_pages_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345)
    (lease,) = lend(BufferPool(1, MIB, 0), 1)
    lease.view[:] = noise(MIB)
    assert lease.view == noise(MIB)


def test_small_ones_are_lent_when_all_are_and_then_none() -> None:
    pool = BufferPool(1, MIB, 1)
    large, small = lend(pool, 2)
    assert len(small.view) == SMALL_BYTES and pool.leased == 2 and pool.try_large() is None
    with pytest.raises(SlowDown):
        pool.lease()
    large.release()
    large.release()
    with pytest.raises(ValueError, match="given back"):
        _ = large.view
    assert len(pool.lease().view) == MIB
    small.release()
    assert pool.leased == 1
