"""What a reading process remembers of versions is never older than the row it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs3d.engine import StorageEngine
from rs3d.engine.requests import BucketRequest
from rs3d.errors import NoSuchKey
from rs3d.stores import catalog as catalog_module


async def test_a_remembered_version_gives_way_to_its_successor(tmp_path: Path) -> None:
    async with StorageEngine.open(str(tmp_path / "store")) as engine:
        await engine.create_bucket("bucket", BucketRequest())
        for body in (b"first", b"second and longer", b"first"):
            await engine.put_object("bucket", "key", body)
            for _ in range(2):
                assert engine.head_object("bucket", "key").version.meta.size_bytes == len(body)
                reader = await engine.open_object("bucket", "key")
                assert await reader.read() == body
        await engine.delete_object("bucket", "key")
        with pytest.raises(NoSuchKey):
            engine.head_object("bucket", "key")


async def test_payloads_of_remembered_versions_are_their_own(tmp_path: Path) -> None:
    async with StorageEngine.open(str(tmp_path / "store")) as engine:
        await engine.create_bucket("bucket", BucketRequest())
        bodies = {f"k{number}": b"%d" % number * (number + 1) for number in range(20)}
        for key, body in bodies.items():
            await engine.put_object("bucket", key, body)
        for _ in range(2):
            for key, body in bodies.items():
                # The HEAD of another key in between: what was looked up last is not what is read.
                reader = await engine.open_object("bucket", key)
                engine.head_object("bucket", "k7")
                assert await reader.read() == body


async def test_no_more_is_remembered_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "KNOWN_VERSIONS_LIMIT", 3)
    async with StorageEngine.open(str(tmp_path / "store")) as engine:
        await engine.create_bucket("bucket", BucketRequest())
        for number in range(8):
            await engine.put_object("bucket", f"k{number}", b"x" * number)
        for number in (*range(8), *range(8)):
            assert engine.head_object("bucket", f"k{number}").version.meta.size_bytes == number
            known = engine._runtime.catalog.known_versions  # type: ignore[attr-defined]
            assert 0 < len(known) <= 3
