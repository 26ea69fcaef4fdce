"""A blob that is decoded on the loop again and again: the same bytes, each reading counted once, no truth kept too
long."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs3d.engine.encryption import data_key_of
from rs3d.engine.layerwork import LAYER_WORK, Direction
from rs3d.engine.library import OpenedStore, open_store_parts
from rs3d.engine.requests import BucketRequest, EncryptionMode, EncryptionRequest, PutRequest
from rs3d.engine.residentblobs import ResidentBlob
from rs3d.types.objects import Extent
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.engine.test_layers import text_of
from tests.stores.nowait import reads_without_waiting
from tests.stores.test_blobs_local import descriptors

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


async def stored(opened: OpenedStore, layers: str) -> tuple[ResidentBlob, Extent]:
    """DATA in a blob with these layers that was read once."""
    settings, sealed = SETTINGS[layers]
    wanted = EncryptionRequest(EncryptionMode.STORE) if sealed else None
    await opened.engine.create_bucket("bucket", BucketRequest(settings=settings))
    await opened.engine.put_object("bucket", "key", DATA, PutRequest(encryption=wanted))
    assert await opened.engine.get_object("bucket", "key") == DATA
    head = opened.engine.head_object("bucket", "key")
    extent = head.version.placement
    assert isinstance(extent, Extent)
    key = data_key_of(opened.engine._runtime.sealing, head.bucket, head.version, None)
    return ResidentBlob(opened.blobs, extent.blob, key), extent


def data_file(directory: Path, extent: Extent) -> Path:
    return directory / "blobs" / f"{extent.blob.segment:016x}" / f"{extent.blob.number:08x}.data"


@pytest.mark.parametrize("layers", SETTINGS)
async def test_every_range_is_that_of_the_clients_bytes_and_is_counted_once(directory: Path, layers: str) -> None:
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        resident, _ = await stored(opened, layers)
        before = descriptors(directory)
        LAYER_WORK.take()
        total = 0
        ranges = ((0, 300_000), (0, 131_072), (131_072, 168_928), (1, 70_000), (299_999, 1), (65_536, 65_536))
        for first, length in ranges:
            out = bytearray(length)
            assert resident.read(first, memoryview(out))
            assert out == DATA[first : first + length]
            total += length
        work = LAYER_WORK.take()
        innermost = work[Direction.READ, "compress" if layers.startswith("lz4") else "encrypt"]
        assert (innermost.bodies, innermost.bytes_out) == (6, total)
        assert descriptors(directory) == before


@pytest.mark.parametrize("layers", SETTINGS)
async def test_damage_is_left_to_others_and_forgotten_when_it_is_mended(directory: Path, layers: str) -> None:
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        resident, extent = await stored(opened, layers)
        path = data_file(directory, extent)
        right = path.read_bytes()
        out = bytearray(len(DATA))
        assert resident.read(0, memoryview(out))
        for at in (0, len(right) // 2, len(right) - 1):
            path.write_bytes(right[:at] + bytes([right[at] ^ 8]) + right[at + 1 :])
            is_index = at == len(right) - 1 and layers == "lz4"  # read before, and kept
            assert resident.read(0, memoryview(out)) is is_index
            path.write_bytes(right)
            assert resident.read(0, memoryview(out)) and out == DATA
        path.unlink()
        assert not resident.read(0, memoryview(out))
        path.write_bytes(right)


async def test_what_nobody_opened_lately_is_left_to_a_thread(directory: Path) -> None:
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        resident, _ = await stored(opened, "sealed")
    async with open_store_parts(str(directory), SMALL_LIMITS, SMALL_STORE) as opened:
        head = opened.engine.head_object("bucket", "key")
        extent = head.version.placement
        assert isinstance(extent, Extent)
        key = data_key_of(opened.engine._runtime.sealing, head.bucket, head.version, None)
        resident = ResidentBlob(opened.blobs, extent.blob, key)
        out = bytearray(len(DATA))
        assert not resident.read(0, memoryview(out))
        assert await opened.engine.get_object("bucket", "key") == DATA
        assert resident.read(0, memoryview(out)) and out == DATA
