"""Which packs are written anew, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from rs3d.errors import BlobDamaged
from rs3d.services.packs import PackService
from rs3d.types.chunks import PackUse
from rs3d.types.identifiers import BlobId, SegmentId

MIB = 1 << 20


def pack(number: int) -> BlobId:
    return BlobId(SegmentId(9), number)


@dataclass
class Done:
    chunks: int = 1
    freed_bytes: int = 5 * MIB


@dataclass
class Store:
    """Packs, as catalog and engine of the service."""

    rows: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Live and total bytes by number."""
    rewritten: list[int] = field(default_factory=list)
    freed: list[int] = field(default_factory=list)
    useless: set[int] = field(default_factory=set)
    damaged: set[int] = field(default_factory=set)

    @contextmanager
    def snapshot(self) -> Iterator[Store]:
        yield self

    def packs(self, after: BlobId | None = None) -> Iterator[PackUse]:
        for number, (live, total) in sorted(self.rows.items()):
            if after is None or pack(number) > after:
                yield PackUse(pack(number), 1, live, total)

    async def rewrite(self, blob: BlobId, live_share: float) -> Done:
        self.rewritten.append(blob.number)
        if blob.number in self.damaged:
            raise BlobDamaged(blob=blob.text(), reason="rot")
        if blob.number in self.useless:
            return Done(0, 0)
        del self.rows[blob.number]
        return Done()


def service(store: Store) -> PackService:
    return PackService(catalog=store, rewrite=store.rewrite, freed=store.freed.append, interval_s=60)


async def test_a_pack_that_stays_mostly_dead_from_one_look_to_the_next_is_rewritten() -> None:
    store = Store({1: (4 * MIB, 10 * MIB), 2: (6 * MIB, 10 * MIB), 3: (1 * MIB, 4 * MIB)})
    found = service(store)
    assert await found.step() == 60 and store.rewritten == []
    assert await found.step() == 60
    assert (store.rewritten, store.freed, found.rewritten) == ([1], [5 * MIB], 1)


async def test_a_pack_whose_chunks_still_come_is_left_alone() -> None:
    store = Store()
    found = service(store)
    for live in (1, 2, 3, 4):
        store.rows[1] = (live * MIB, 16 * MIB)
        await found.step()
    assert store.rewritten == []


async def test_several_packs_go_one_by_one_and_soon() -> None:
    store = Store(dict.fromkeys(range(2500), (0, 8 * MIB)))
    found = service(store)
    await found.step()
    assert await found.step() < 1
    for _ in range(2499):
        await found.step()
    assert sorted(store.rewritten) == list(range(2500)) and store.rows == {}


async def test_what_turned_out_not_to_pay_is_not_tried_again_until_more_of_it_died() -> None:
    store = Store({1: (4 * MIB, 10 * MIB)}, useless={1})
    found = service(store)
    for _ in range(5):
        await found.step()
    assert store.rewritten == [1]
    store.rows[1] = (3 * MIB, 10 * MIB)
    store.useless.clear()
    for _ in range(3):
        await found.step()
    assert store.rewritten == [1, 1]


async def test_a_damaged_pack_is_said_once_and_holds_no_other_up() -> None:
    store = Store({1: (0, 8 * MIB), 2: (0, 8 * MIB)}, damaged={2})
    found = service(store)
    await found.step()
    with pytest.raises(BlobDamaged):
        await found.step()
    for _ in range(4):
        await found.step()
    assert store.rewritten == [2, 1]
