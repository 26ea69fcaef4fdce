"""Decoded bodies that are kept in memory: those very bytes, bounded, freed once and never under a user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from rs3d.engine import decodedbodies
from rs3d.engine.decodedbodies import IDLE_ROUNDS, KEPT_ROUNDS, DecodedBodies, MemoryFile
from rs3d.engine.heldfiles import HELD_S, HeldFile
from rs3d.engine.library import OpenedStore, open_store_parts
from rs3d.engine.openfiles import OpenFiles
from rs3d.engine.requests import BucketRequest
from rs3d.stores.blobmemo import WINDOW_NS
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.objects import Extent, ObjectVersion
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.engine.test_layers import text_of
from tests.stores.blobfolder import descriptors
from tests.stores.nowait import reads_without_waiting

DATA = text_of(300_000)


def memory_files() -> int:
    """Descriptors of kept bodies in this process."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # of the listing itself
            found += os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:decoded")
    return found


@pytest.fixture(autouse=True)
def _all_are_freed() -> Iterator[None]:
    before = memory_files()
    yield
    assert memory_files() == before


def content(held: HeldFile[MemoryFile]) -> bytes:
    return os.pread(held.fileno(), 1 << 20, 0)


def extent(number: int, length: int = 1000, offset: int = 0) -> Extent:
    return Extent(BlobId(SegmentId(1), number), offset, length)


def keep(bodies: DecodedBodies, wanted: Extent, body: bytes = DATA) -> bool:
    """Offer the first bytes of a body as often as it takes."""
    view = memoryview(body)[: wanted.length]
    return bodies.offer(wanted, view) or bodies.offer(wanted, view)


def test_a_body_is_kept_when_it_was_decoded_twice_lately() -> None:
    bodies = DecodedBodies(10_000)
    view = memoryview(DATA)[:1000]
    assert [bodies.offer(extent(1), view), bodies.offer(extent(2), view)] == [False, False]
    for _ in range(IDLE_ROUNDS):
        bodies.let_go_old()
    assert [bodies.offer(extent(1), view), bodies.offer(extent(1), view)] == [False, True]
    assert (len(bodies), bodies.kept_bytes) == (1, 1000)
    bodies.let_go_all()
    assert not bodies.offer(extent(1), view)


def test_no_more_are_remembered_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decodedbodies, "MET_BLOBS", 2)
    bodies = DecodedBodies(10_000)
    view = memoryview(DATA)[:1000]
    assert [bodies.offer(extent(number), view) for number in (1, 2, 3, 1, 3)] == [False, False, False, False, True]
    bodies.let_go_all()


def test_only_those_bytes_are_found() -> None:
    bodies = DecodedBodies(10_000)
    assert keep(bodies, extent(1))
    held = bodies.take(extent(1))
    assert held is not None and content(held) == DATA[:1000]
    held.give_back()
    assert bodies.take(extent(2)) is None
    assert bodies.take(extent(1, 999)) is None
    assert bodies.take(extent(1, offset=1)) is None
    assert bodies.taken == 1
    bodies.let_go_all()


def test_another_part_of_a_blob_takes_the_place_of_the_first() -> None:
    bodies = DecodedBodies(2500)
    keep(bodies, extent(1))
    part = extent(1, 1200, offset=1000)
    assert keep(bodies, part, DATA[1000:])
    held = bodies.take(part)
    assert held is not None and content(held) == DATA[1000:2200]
    assert (len(bodies), bodies.kept_bytes, memory_files()) == (1, 1200, 1)
    held.give_back()
    bodies.let_go_all()


def test_a_body_that_is_being_sent_stays_until_it_was() -> None:
    bodies = DecodedBodies(10_000)
    keep(bodies, extent(1))
    held, again = bodies.take(extent(1)), bodies.take(extent(1))
    assert held is not None and again is held
    bodies.let_go_all()
    assert (len(bodies), bodies.kept_bytes, bodies.take(extent(1))) == (0, 0, None)
    held.give_back()
    assert content(held) == DATA[:1000]
    held.give_back()
    assert memory_files() == 0


def test_no_more_is_kept_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not keep(DecodedBodies(0), extent(1, 1))
    bodies = DecodedBodies(2500)
    kept = [keep(bodies, extent(number)) for number in range(3)]
    assert (kept, bodies.kept_bytes) == ([True, True, False], 2000)
    with monkeypatch.context() as patch:
        patch.setattr(decodedbodies, "KEPT_BODIES", 2)
        assert not keep(bodies, extent(4, 1))
    with monkeypatch.context() as patch:
        patch.setattr(decodedbodies, "BODY_BYTES", 99)
        assert not keep(bodies, extent(4, 100))
    assert keep(bodies, extent(4, 100))
    bodies.let_go_all()
    assert bodies.kept_bytes == 0


def test_without_memory_nothing_is_kept_and_nothing_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    bodies = DecodedBodies(10_000)
    for call in ("write", "memfd_create"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            assert not keep(bodies, extent(1))
        assert (len(bodies), bodies.kept_bytes, memory_files()) == (0, 0, 0)


def use(bodies: DecodedBodies, wanted: Extent) -> bool:
    held = bodies.take(wanted)
    if held is not None:
        held.give_back()
    return held is not None


def test_what_is_not_used_goes_and_everything_does_in_the_end() -> None:
    bodies = DecodedBodies(10_000)
    for number in (1, 2):
        keep(bodies, extent(number))
    rounds = 0
    while use(bodies, extent(1)):
        bodies.let_go_old()
        rounds += 1
        assert len(bodies) == (2 if rounds <= IDLE_ROUNDS else 1 if rounds < KEPT_ROUNDS else 0)
    assert (rounds, bodies.kept_bytes) == (KEPT_ROUNDS, 0)
    assert rounds * HELD_S * 1e9 <= WINDOW_NS, "no longer than bytes count as verified"


def test_what_was_not_used_lately_makes_room() -> None:
    bodies = DecodedBodies(3000)
    for number in (1, 2, 3):
        keep(bodies, extent(number))
    assert not keep(bodies, extent(4)), "all are in use"
    bodies.let_go_old()
    assert use(bodies, extent(2))
    bodies.let_go_old()
    assert keep(bodies, extent(4))
    assert [use(bodies, extent(number)) for number in (1, 2, 3, 4)] == [False, True, False, True]
    bodies.let_go_all()


@dataclass
class Stored:
    """DATA compressed, in a blob that was read once."""

    files: OpenFiles
    version: ObjectVersion
    extent: Extent

    def read(self) -> bytes:
        """As `WarmReads` does."""
        out = bytearray(len(DATA))
        assert self.files.decode(self.extent, memoryview(out), self.version, lambda: None)
        self.files.offer_decoded(self.extent, memoryview(out))
        return bytes(out)


async def stored(opened: OpenedStore, kept_bytes: int) -> Stored:
    await opened.engine.create_bucket("bucket", BucketRequest(settings=(("compression", "lz4"),)))
    await opened.engine.put_object("bucket", "key", DATA)
    assert await opened.engine.get_object("bucket", "key") == DATA
    version = opened.engine.head_object("bucket", "key").version
    assert isinstance(version.placement, Extent)
    return Stored(OpenFiles(opened.blobs, kept_bytes), version, version.placement)


@pytest.mark.parametrize("room", [len(DATA), len(DATA) - 1])
async def test_a_body_is_kept_from_its_second_decoding_on_and_needs_no_decoder_then(tmp_path: Path, room: int) -> None:
    root = tmp_path / "store"
    if not reads_without_waiting(tmp_path):
        pytest.skip("this file system does not read without waiting")
    async with open_store_parts(str(root), SMALL_LIMITS, SMALL_STORE) as opened:
        blob = await stored(opened, room)
        before = descriptors(root)
        assert blob.read() == DATA
        assert (len(blob.files), len(blob.files.decoded)) == (1, 0), "it may have been the only time"
        assert blob.read() == DATA
        if room < len(DATA):
            assert (len(blob.files), len(blob.files.decoded)) == (1, 0)
        else:
            assert (len(blob.files), len(blob.files.decoded), descriptors(root)) == (0, 1, before)
            held = blob.files.decoded.take(blob.extent)
            assert held is not None and content(held) == DATA
            held.give_back()
        blob.files.let_go_all()
        assert (len(blob.files), len(blob.files.decoded), memory_files()) == (0, 0, 0)
