"""PITFALLS D20: every key is stored, found, copied, listed and removed as the bytes it is, and never another."""

from __future__ import annotations

import pytest

from rs3d.engine import StorageEngine
from rs3d.engine.requests import CopyRequest, CopySource, DeleteItem, ListRequest, ListVersionsRequest
from rs3d.errors import InvalidKey
from rs3d.types.buckets import Versioning
from tests.engine.keys import nasty_keys


async def test_d20_put_get_copy_and_delete_over_the_key_corpus(engine: StorageEngine) -> None:
    keys = nasty_keys()[::5]
    await engine.create_bucket("other")
    for number, key in enumerate(keys):
        await engine.put_object("bucket", key, b"%d" % number)
    for number, key in enumerate(keys):
        assert engine.head_object("bucket", key).version.key == key
        assert await engine.get_object("bucket", key) == b"%d" % number
        page = engine.list_objects("bucket", ListRequest(prefix=key, maximum=1))
        assert [entry.key for entry in page.entries] == [key]
        await engine.copy_object("other", key, CopyRequest(source=CopySource(bucket="bucket", key=key)))
    await engine.delete_objects("bucket", [DeleteItem(key=key) for key in keys[::2]])
    assert {entry.key for entry in engine.list_objects("bucket").entries} == set(keys[1::2])
    assert [entry.key for entry in engine.list_objects("other").entries] == sorted(keys, key=str.encode)
    for number, key in enumerate(keys):
        assert await engine.get_object("other", key) == b"%d" % number


async def test_d20_versions_and_uploads_over_the_key_corpus(engine: StorageEngine) -> None:
    keys = nasty_keys()[::11]
    await engine.set_versioning("bucket", Versioning.ENABLED)
    for key in keys:
        await engine.put_object("bucket", key, b"old")
        await engine.put_object("bucket", key, b"new")
        await engine.create_multipart_upload("bucket", key)
    ordered = sorted(keys, key=str.encode)
    for key in keys:
        page = engine.list_object_versions("bucket", ListVersionsRequest(prefix=key, maximum=2))
        assert [entry.key for entry in page.entries] == [key, key]
        assert await engine.get_object("bucket", key, version=page.entries[1].version_text) == b"old"
    assert [upload.key for upload in engine.list_multipart_uploads("bucket").uploads] == ordered


async def test_keys_that_are_none(engine: StorageEngine) -> None:
    for key in ("", "k" * 1025, "é" * 513, "\ud800"):
        with pytest.raises(InvalidKey):
            await engine.put_object("bucket", key, b"")
        with pytest.raises(InvalidKey):
            await engine.create_multipart_upload("bucket", key)
        with pytest.raises(InvalidKey):
            await engine.delete_object("bucket", key)
