"""A piece with layers that is in memory is decoded on the loop; whatever speaks against it leaves it to a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rs3d.engine.library import OpenedStore, open_store_parts
from rs3d.engine.requests import BucketRequest, EncryptionMode, EncryptionRequest, PutRequest
from rs3d.engine.residentblobs import DECODED_ON_LOOP_NS, decoding_ns
from rs3d.engine.threads import Job, Threads
from rs3d.errors import ObjectDamaged
from rs3d.rio.encryption import DecryptingLayer
from rs3d.stores.blobreader import LocalBlobReader
from rs3d.types.objects import Extent
from rs3d.types.recipe import LayerRecipe, Recipe
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.engine.test_layers import text_of
from tests.stores.nowait import reads_without_waiting

LIMITS = replace(SMALL_LIMITS, piece_bytes=1024 * 1024)
LAYERS: dict[str, tuple[tuple[tuple[str, str], ...], bool]] = {
    "sealed": ((), True),
    "lz4": ((("compression", "lz4"),), False),
    "lz4 and sealed": ((("compression", "lz4"),), True),
    "parity": ((("parity", "4+2"),), False),
    "all": ((("compression", "lz4"), ("parity", "4+2")), True),
}
DATA = text_of(300_000)


@contextmanager
def jobs_counted() -> Iterator[list[object]]:
    """The jobs that threads get meanwhile."""
    started: list[object] = []
    start = Threads.start

    def counting(self: Threads, call: Callable[[], object]) -> Job[object]:
        started.append(call)
        return start(self, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Threads, "start", counting)
        yield started


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    if not reads_without_waiting(tmp_path):
        pytest.skip("this file system does not read without waiting")
    return tmp_path / "store"


async def stored(opened: OpenedStore, directory: Path, layers: str) -> Path:
    """`bucket/key` holds DATA and was read once; its data file."""
    settings, sealed = LAYERS[layers]
    wanted = EncryptionRequest(EncryptionMode.STORE) if sealed else None
    engine = opened.engine
    await engine.create_bucket("bucket", BucketRequest(settings=settings))
    await engine.put_object("bucket", "key", DATA, PutRequest(encryption=wanted))
    assert await engine.get_object("bucket", "key") == DATA
    placement = engine.head_object("bucket", "key").version.placement
    assert isinstance(placement, Extent)
    return directory / "blobs" / f"{placement.blob.segment:016x}" / f"{placement.blob.number:08x}.data"


def flip(path: Path, offset: int) -> None:
    """Turn one bit of a file round."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("layers", LAYERS)
async def test_what_was_open_lately_and_is_in_memory_needs_no_thread(directory: Path, layers: str) -> None:
    async with open_store_parts(str(directory), LIMITS, SMALL_STORE) as opened:
        await stored(opened, directory, layers)
        with jobs_counted() as jobs:
            assert await opened.engine.get_object("bucket", "key") == DATA
            for first, last in ((0, 0), (1, 65536), (65535, 200_000), (299_999, 299_999)):
                found = await opened.engine.get_object("bucket", "key", range=f"bytes={first}-{last}")
                assert found == DATA[first : last + 1]
        assert not jobs


@pytest.mark.parametrize("layers", LAYERS)
async def test_damage_is_told_and_parity_mends_it(directory: Path, layers: str) -> None:
    async with open_store_parts(str(directory), LIMITS, SMALL_STORE) as opened:
        path = await stored(opened, directory, layers)
        flip(path, 1000)
        with jobs_counted() as jobs:
            if "parity" in dict(LAYERS[layers][0]):
                assert await opened.engine.get_object("bucket", "key") == DATA
            else:
                with pytest.raises(ObjectDamaged):
                    await opened.engine.get_object("bucket", "key")
        assert jobs


@pytest.mark.parametrize("layers", ["sealed", "lz4 and sealed"])
async def test_what_is_not_in_the_page_cache_is_read_by_a_thread(
    directory: Path, layers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store_parts(str(directory), LIMITS, SMALL_STORE) as opened:
        await stored(opened, directory, layers)
        # Said by the kernels' part, not by the disk: a quick one has read ahead before the probe has looked.
        monkeypatch.setattr(DecryptingLayer, "fill_resident", lambda *_: 0)
        monkeypatch.setattr(LocalBlobReader, "read_now", lambda *_: False)
        with jobs_counted() as jobs:
            assert await opened.engine.get_object("bucket", "key") == DATA
        assert jobs


async def test_of_a_body_of_several_pieces_the_next_is_decoded_while_one_is_sent(directory: Path) -> None:
    async with open_store_parts(str(directory), replace(LIMITS, piece_bytes=65536), SMALL_STORE) as opened:
        await stored(opened, directory, "sealed")
        with jobs_counted() as jobs:
            assert await opened.engine.get_object("bucket", "key") == DATA
        assert jobs


def test_what_decodes_slowly_or_is_unknown_is_no_work_for_the_loop() -> None:
    def cost(*layers: tuple[str, str]) -> float:
        recipe = Recipe(tuple(LayerRecipe(name, 1, (("used", used),)) for name, used in layers))
        return decoding_ns(recipe, 1024 * 1024)

    assert cost() == 0
    assert cost(("encrypt", "")) < cost(("compress", "lz4"), ("encrypt", "")) < cost(("compress", "lz4,zstd"))
    assert cost(("compress", "zstd")) > DECODED_ON_LOOP_NS
    assert cost(("compress", "deflate,lz4")) > 2_000_000
    assert cost(("compress", "codec of another time")) == cost(("layer of another time", "")) > 10_000_000
