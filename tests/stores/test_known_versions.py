"""What a reading process remembers of versions is never older than the row it reads."""

from __future__ import annotations

import os
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


async def test_an_object_met_with_its_payload_is_one_read_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with StorageEngine.open(str(tmp_path / "store")) as engine:
        bucket = await engine.create_bucket("bucket", BucketRequest())
        await engine.put_object("bucket", "key", b"body")
        catalog = engine._runtime.catalog
        preads: list[int] = []
        pread = os.pread

        def counted(descriptor: int, length: int, offset: int) -> bytes:
            preads.append(length)
            return pread(descriptor, length, offset)

        with catalog.snapshot() as view:
            view.latest_with_payload(bucket.bucket_id, "key")  # the segment is open from here on
            monkeypatch.setattr(os, "pread", counted)
            found = view.latest_with_payload(bucket.bucket_id, "key")
            assert found is not None and found[1] is not None
            assert view.known_payload(found[1]) == b"body"
            assert len(preads) == 1
            assert view.known_payload(found[1]) == b"body"
            assert len(preads) == 2  # whoever asks again is told what is there by then


async def test_what_its_caller_keeps_is_not_remembered_twice(tmp_path: Path) -> None:
    async with StorageEngine.open(str(tmp_path / "store")) as engine:
        bucket = await engine.create_bucket("bucket", BucketRequest())
        await engine.put_object("bucket", "key", b"body")
        catalog = engine._runtime.catalog
        with catalog.snapshot() as view:
            assert view.latest_with_payload(bucket.bucket_id, "key") is not None
            assert not catalog.known_versions  # type: ignore[attr-defined]
            view.latest(bucket.bucket_id, "key")
            assert len(catalog.known_versions) == 1  # type: ignore[attr-defined]
