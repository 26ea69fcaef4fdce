"""The last stripe of a blob with parity: shorter blocks than the sidecar's, restored by a GET all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.configuration import Verify
from rs3d.engine.requests import BucketRequest
from rs3d.errors import ObjectDamaged
from tests.engine.bodies import noise
from tests.engine.conftest import SMALL_STORE

CONFIG = EngineConfig(verify=Verify.ALWAYS, inline_limit_bytes=64)


@pytest.mark.parametrize("size", [700, 10_000, 200_000])
async def test_d15_one_bad_byte_anywhere_in_a_short_stripe_is_restored_by_a_get(tmp_path: Path, size: int) -> None:
    data = await _stored(tmp_path, size)
    content = data.read_bytes()
    for offset in range(0, len(content), max(1, len(content) // 12)):
        data.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
        async with StorageEngine.open(tmp_path / "store", config=CONFIG, options=SMALL_STORE) as engine:
            assert await engine.get_object("bucket", "key") == noise(size)
        data.write_bytes(content)


async def test_d15_more_than_parity_restores_is_an_error(tmp_path: Path) -> None:
    data = await _stored(tmp_path, 10_000)
    data.write_bytes(bytes(len(data.read_bytes())))
    async with StorageEngine.open(tmp_path / "store", config=CONFIG, options=SMALL_STORE) as engine:
        with pytest.raises(ObjectDamaged):
            await engine.get_object("bucket", "key")


async def _stored(tmp_path: Path, size: int) -> Path:
    """The data file of an object with parity 4+2."""
    async with StorageEngine.open(tmp_path / "store", config=CONFIG, options=SMALL_STORE) as engine:
        await engine.create_bucket("bucket", BucketRequest(settings=(("parity", "4+2"),)))
        await engine.put_object("bucket", "key", noise(size))
    (found,) = (tmp_path / "store" / "blobs").glob("*/*.data")
    return found
