"""Files that are kept open for a moment: opened once, closed once, never under a user."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
import trio.testing

from rs3d.engine import openfiles
from rs3d.engine.configuration import Verify
from rs3d.engine.heldfiles import HELD_MOST, HELD_S, HeldFile
from rs3d.engine.library import OpenedStore, open_store_parts
from rs3d.engine.openfiles import OpenFiles
from rs3d.engine.requests import BucketRequest, Delivery
from rs3d.errors import ObjectDamaged
from rs3d.stores.interfaces import BlobReader
from rs3d.types.objects import Extent
from tests.engine.bodies import noise
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.engine.test_layers import text_of
from tests.stores.blobfolder import descriptors

LIMITS = replace(SMALL_LIMITS, piece_bytes=1024 * 1024)
BODY = noise(100_000)


@dataclass
class World:
    root: Path
    opened: OpenedStore
    files: OpenFiles
    extents: list[Extent]

    def take(self, number: int = 0) -> HeldFile[BlobReader] | None:
        extent = self.extents[number]
        return self.files.take_verified(extent.blob, extent.offset, extent.length)

    def descriptors(self) -> int:
        return open_data_files(self.root)


def open_data_files(root: Path) -> int:
    """Descriptors of data files, unlinked ones too."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # of the listing itself
            target = os.readlink(f"/proc/self/fd/{name}")
            found += target.startswith(str(root)) and ".data" in target
    return found


def data_files(root: Path) -> list[Path]:
    return list(root.rglob("*.data"))


def flip(path: Path, offset: int) -> None:
    """One bit of a file, in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        found = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([found ^ 4]))


@asynccontextmanager
async def world(root: Path, count: int = 1, body: bytes = BODY, **settings: str) -> AsyncIterator[World]:
    """Objects whose bytes were verified a moment ago."""
    async with open_store_parts(str(root), LIMITS, SMALL_STORE) as opened:
        engine, extents = opened.engine, []
        await engine.create_bucket("bucket", BucketRequest(settings=tuple(settings.items())))
        for number in range(count):
            await engine.put_object("bucket", f"k{number}", body)
            async with await engine.open_object("bucket", f"k{number}", delivery=Delivery.SPANS) as reader:
                assert [piece async for piece in reader.pieces()]
            placement = engine.head_object("bucket", f"k{number}").version.placement
            assert isinstance(placement, Extent)
            extents.append(placement)
        made = World(root, opened, engine._runtime.open_files, extents)
        assert made.descriptors() == 0
        yield made
    assert descriptors(root) == 0


async def test_a_file_is_opened_once_and_closed_when_it_was_let_go_and_is_used_no_more(tmp_path: Path) -> None:
    async with world(tmp_path / "store") as w:
        first, second = w.take(), w.take()
        assert first is not None and first is second and w.descriptors() == 1
        first.give_back()
        w.files.let_go_all()
        assert w.descriptors() == 1, "it is used still"
        third = w.take()
        assert third is not None and third is not second
        second.give_back()
        assert w.descriptors() == 1
        third.give_back()
        assert w.descriptors() == 1, "it is kept"
        w.files.let_go_all()
        assert w.descriptors() == 0


async def test_an_object_that_was_deleted_and_collected_is_sent_to_its_end(tmp_path: Path) -> None:
    async with world(tmp_path / "store") as w:
        held = w.take()
        assert held is not None
        await w.opened.engine.delete_object("bucket", "k0")
        await w.opened.collector.collect()
        assert not list(w.root.rglob("*.data"))
        buffer = memoryview(bytearray(len(BODY)))
        held.file.read_into(0, buffer)
        assert buffer == BODY
        w.files.let_go_all()
        held.give_back()


async def test_more_files_than_are_kept_let_all_before_them_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openfiles, "HELD_FILES", 2)
    async with world(tmp_path / "store", 3) as w:
        held = [w.take(number) for number in range(3)]
        assert (len(w.files), w.descriptors()) == (1, 3)
        for file in held:
            assert file is not None
            file.give_back()
        assert w.descriptors() == 1


async def test_what_is_not_verified_any_more_is_looked_at_by_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path / "store") as w:
        held = w.take()
        assert held is not None
        monkeypatch.setattr("rs3d.stores.blobmemo.VerifiedSpans.covers", lambda *_: False)
        flip(data_files(tmp_path)[0], 70_000)  # it could be verified now, were it right
        assert w.take() is None and len(w.files) == 0
        held.give_back()
        assert w.descriptors() == 0 and w.take() is None


@pytest.mark.parametrize("verify", Verify)
async def test_a_small_body_is_read_from_one_file_until_a_byte_of_it_flips(tmp_path: Path, verify: Verify) -> None:
    limits = replace(LIMITS, verify=verify)
    async with open_store_parts(str(tmp_path), limits, SMALL_STORE) as opened:
        engine = opened.engine
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "k", BODY)

        async def read(range: str | None = None) -> bytes:
            async with await engine.open_object("bucket", "k", range=range) as reader:
                return await reader.read()

        for _ in range(4):
            assert await read() == BODY
        assert await read("bytes=70000-99998") == BODY[70_000:-1]
        files = engine._runtime.open_files
        assert len(files) == 1 and open_data_files(tmp_path) == 1
        flip(data_files(tmp_path)[0], 80_000)
        with pytest.raises(ObjectDamaged, match="block 1"):
            await read()
        assert len(files) == 0
        assert await read("bytes=0-65535") == BODY[:65_536], "the block before it is whole"


async def test_a_small_body_whose_file_was_cut_off_while_it_is_kept_is_damaged(tmp_path: Path) -> None:
    async with open_store_parts(str(tmp_path), LIMITS, SMALL_STORE) as opened:
        engine = opened.engine
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "k", BODY)
        for _ in range(4):
            async with await engine.open_object("bucket", "k") as reader:
                assert await reader.read() == BODY
        os.truncate(data_files(tmp_path)[0], 70_000)
        with pytest.raises(ObjectDamaged):
            await engine.open_object("bucket", "k")


async def test_a_small_body_replaced_and_collected_is_the_new_one(tmp_path: Path) -> None:
    async with open_store_parts(str(tmp_path), LIMITS, SMALL_STORE) as opened:
        engine = opened.engine
        await engine.create_bucket("bucket")
        for body in (BODY, BODY[::-1]):
            await engine.put_object("bucket", "k", body)
            await opened.collector.collect()
            for _ in range(4):
                async with await engine.open_object("bucket", "k") as reader:
                    assert await reader.read() == body
        assert len(data_files(tmp_path)) == 1


async def test_what_has_layers_is_not_kept(tmp_path: Path) -> None:
    async with world(tmp_path / "store", body=text_of(100_000), compression="lz4") as w:
        w.opened.blobs._memo.add(w.extents[0].blob, 0, 1 << 20, 1 << 20)
        assert w.take() is None and w.descriptors() == 0


async def test_what_was_not_used_for_a_second_is_let_go_and_everything_after_eight(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with world(tmp_path / "store") as w, trio.open_nursery() as nursery:
        nursery.start_soon(w.files.run)
        held = w.take()
        assert held is not None
        held.give_back()
        assert w.descriptors() == 1
        await trio.sleep(HELD_S * 1.5)
        assert w.descriptors() == 1, "it was used in the first second"
        await trio.sleep(HELD_S)
        assert w.descriptors() == 0 and len(w.files) == 0
        kept = 0
        held = w.take()
        while w.descriptors():
            assert held is not None
            held.give_back()
            await trio.sleep(HELD_S)
            kept += 1
            if w.descriptors():
                assert w.take() is held
        assert kept == HELD_MOST + 1
        nursery.cancel_scope.cancel()
