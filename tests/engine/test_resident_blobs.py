"""Blobs with layers that are decoded on the loop again and again: the same bytes, each reading counted once, no truth
and no key kept too long."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rs3d.engine.encryption import data_key_of
from rs3d.engine.layerwork import LAYER_WORK, Direction
from rs3d.engine.library import OpenedStore, open_store_parts
from rs3d.engine.openfiles import OpenFiles
from rs3d.engine.requests import BucketRequest, EncryptionMode, EncryptionRequest, PutRequest
from rs3d.errors import KeyNotFound
from rs3d.rio.keys import EncryptionKey
from rs3d.types.objects import Extent, ObjectVersion
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.engine.test_layers import text_of
from tests.stores.blobfolder import descriptors
from tests.stores.nowait import reads_without_waiting

DATA = text_of(300_000)
SETTINGS = {
    "sealed": ((), True),
    "lz4": ((("compression", "lz4"),), False),
    "lz4 and sealed": ((("compression", "lz4"),), True),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    if not reads_without_waiting(tmp_path):
        pytest.skip("this file system does not read without waiting")
    return tmp_path / "store"


@dataclass
class Stored:
    """DATA in a blob that was read once."""

    files: OpenFiles
    version: ObjectVersion
    extent: Extent
    key: EncryptionKey | None
    asked: int = 0
    """How often the key was asked for."""

    def read(self, first: int = 0, length: int = len(DATA)) -> bytes | None:
        out = bytearray(length)
        part = Extent(self.extent.blob, self.extent.offset + first, length)
        return bytes(out) if self.files.decode(part, memoryview(out), self.version, self._ask) else None

    @property
    def mappings(self) -> int:
        """How many of this process are of its file."""
        name = f"/{self.extent.blob.segment:016x}/{self.extent.blob.number:08x}.data"
        return sum(line.endswith(name) for line in Path("/proc/self/maps").read_text().splitlines())

    def _ask(self) -> EncryptionKey | None:
        self.asked += 1
        return self.key


async def stored(opened: OpenedStore, layers: str) -> Stored:
    settings, sealed = SETTINGS[layers]
    wanted = EncryptionRequest(EncryptionMode.STORE) if sealed else None
    await opened.engine.create_bucket("bucket", BucketRequest(settings=settings))
    await opened.engine.put_object("bucket", "key", DATA, PutRequest(encryption=wanted))
    assert await opened.engine.get_object("bucket", "key") == DATA
    return found(opened)


def found(opened: OpenedStore) -> Stored:
    head = opened.engine.head_object("bucket", "key")
    extent = head.version.placement
    assert isinstance(extent, Extent)
    key = data_key_of(opened.engine._runtime.sealing, head.bucket, head.version, None)
    return Stored(OpenFiles(opened.blobs), head.version, extent, key)


def data_file(directory: Path, extent: Extent) -> Path:
    return directory / "blobs" / f"{extent.blob.segment:016x}" / f"{extent.blob.number:08x}.data"


@pytest.mark.parametrize("layers", SETTINGS)
async def test_every_range_is_that_of_the_clients_bytes_and_is_counted_once(directory: Path, layers: str) -> None:
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        blob = await stored(opened, layers)
        before = descriptors(directory)
        LAYER_WORK.take()
        total = 0
        ranges = ((0, 300_000), (0, 131_072), (131_072, 168_928), (1, 70_000), (299_999, 1), (65_536, 65_536))
        for first, length in ranges:
            assert blob.read(first, length) == DATA[first : first + length]
            total += length
        assert (blob.asked, len(blob.files), descriptors(directory)) == (1, 1, before + 1)
        blob.files.let_go_all()
        work = LAYER_WORK.take()
        innermost = work[Direction.READ, "compress" if layers.startswith("lz4") else "encrypt"]
        assert (innermost.bodies, innermost.bytes_out) == (6, total)
        assert (len(blob.files), descriptors(directory)) == (0, before)
        assert blob.read() == DATA and blob.asked == 2
        blob.files.let_go_all()


@pytest.mark.parametrize("layers", SETTINGS)
async def test_damage_is_left_to_others_and_forgotten_when_it_is_mended(directory: Path, layers: str) -> None:
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        blob = await stored(opened, layers)
        path = data_file(directory, blob.extent)
        right = path.read_bytes()
        assert blob.read() == DATA
        for at in (0, len(right) // 2, len(right) - 1):
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([right[at] ^ 8]))
            is_index = at == len(right) - 1 and layers == "lz4"  # read before, and kept
            assert blob.read() == (DATA if is_index else None)
            with path.open("r+b") as file:
                file.write(right)
            assert blob.read() == DATA
        path.unlink()
        blob.files.let_go_all()
        assert blob.read() is None
        path.write_bytes(right)


@pytest.mark.parametrize("layers", ["sealed", "lz4"])
async def test_a_file_that_is_cut_off_while_it_is_mapped_is_left_to_others(directory: Path, layers: str) -> None:
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        blob = await stored(opened, layers)
        path = data_file(directory, blob.extent)
        right = path.read_bytes()
        for _ in range(3):
            assert blob.read() == DATA
        assert blob.mappings == 1
        os.truncate(path, len(right) // 2)
        assert blob.read() is None and len(blob.files) == 0
        path.write_bytes(right)
        assert blob.read() == DATA
        blob.files.let_go_all()
        assert blob.mappings == 0


async def test_another_record_of_a_blob_opens_it_with_its_own_key(directory: Path) -> None:
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        blob = await stored(opened, "sealed")
        assert blob.read() == DATA
        blob.version = replace(blob.version)
        blob.key = EncryptionKey(bytes(range(32)))
        assert blob.read() is None, "the key of the record before was used"
        blob.key = None
        assert blob.read() is None
        assert (blob.asked, len(blob.files)) == (3, 0)


async def test_a_key_that_cannot_be_had_leaves_nothing_open(directory: Path) -> None:
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        blob = await stored(opened, "sealed")
        before = descriptors(directory)

        def missing() -> EncryptionKey | None:
            raise KeyNotFound(provider="p", key_id="k")

        out = memoryview(bytearray(len(DATA)))
        assert not blob.files.decode(blob.extent, out, blob.version, missing)
        assert descriptors(directory) == before


async def test_what_nobody_opened_lately_is_left_to_a_thread(directory: Path) -> None:
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        await stored(opened, "sealed")
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        blob = found(opened)
        assert blob.read() is None
        assert await opened.engine.get_object("bucket", "key") == DATA
        assert blob.read() == DATA
        blob.files.let_go_all()
