"""A HEAD that is answered from what is known is never older than the rows of its bucket and key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import lmdb
import pytest

from rs3d.engine import knownheads
from rs3d.engine.library import OpenedStore, open_store_parts
from rs3d.engine.requests import (
    CompletedPart,
    CompleteRequest,
    DeleteRequest,
    EncryptionMode,
    EncryptionRequest,
    PutRequest,
    ReadConditions,
)
from rs3d.engine.results import ObjectHead
from rs3d.errors import (
    CustomerKeyNotApplicable,
    InvalidRange,
    NoSuchBucket,
    NoSuchKey,
    NotModified,
    RecordDamaged,
    SlowDown,
)
from rs3d.types.buckets import Versioning
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.engine.test_encryption import customer
from tests.stores.test_hidden_rows import flip


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[OpenedStore]:
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE) as opened:
        await opened.engine.create_bucket("bucket")
        yield opened


def known(opened: OpenedStore, key: str = "key") -> ObjectHead | None:
    return opened.engine._runtime.known_heads.find("bucket", key)


def met(opened: OpenedStore, key: str = "key") -> ObjectHead:
    """The head, made and known from here on."""
    made = opened.engine.head_object("bucket", key)
    assert known(opened, key) is made, "it is not known"
    assert opened.engine.head_object("bucket", key) is made
    return made


async def test_a_known_head_gives_way_to_every_change_of_its_object(opened: OpenedStore) -> None:
    engine = opened.engine
    for body in (b"first", b"x" * 5000, b"first"):
        await engine.put_object("bucket", "key", body)
        assert known(opened) is None
        assert met(opened).version.meta.size_bytes == len(body)
    await engine.set_object_tags("bucket", "key", (("a", "b"),))
    assert met(opened).version.mutable.tags == (("a", "b"),)
    await engine.delete_object("bucket", "key")
    with pytest.raises(NoSuchKey):
        engine.head_object("bucket", "key")


async def test_a_known_head_gives_way_to_every_change_of_its_bucket(opened: OpenedStore) -> None:
    engine = opened.engine
    await engine.put_object("bucket", "key", b"body")
    assert not met(opened).reports_version
    await engine.set_versioning("bucket", Versioning.ENABLED)
    assert met(opened).reports_version
    marker = await engine.delete_object("bucket", "key")
    with pytest.raises(NoSuchKey):
        engine.head_object("bucket", "key")
    for version in (marker.version_text, "null"):
        await engine.delete_object("bucket", "key", DeleteRequest(version=version))
    await engine.delete_bucket("bucket")
    with pytest.raises(NoSuchBucket):
        engine.head_object("bucket", "key")
    await engine.create_bucket("bucket")
    with pytest.raises(NoSuchKey):
        engine.head_object("bucket", "key")


async def test_whoever_asks_for_more_is_not_answered_from_what_is_known(opened: OpenedStore) -> None:
    engine = opened.engine
    await engine.put_object("bucket", "key", b"body")
    made = met(opened)
    asked = engine.head_object("bucket", "key", range="bytes=1-2")
    assert asked is not made and asked.length_bytes == 2 and made.length_bytes == 4
    assert engine.head_object("bucket", "key", part_number=1).content_range is not None
    assert engine.head_object("bucket", "key", version="null") is not made
    with pytest.raises(InvalidRange):
        engine.head_object("bucket", "key", range="bytes=9-")
    with pytest.raises(NotModified):
        engine.head_object("bucket", "key", conditions=ReadConditions(if_none_match=(made.version.meta.etag,)))
    with pytest.raises(CustomerKeyNotApplicable):
        engine.head_object("bucket", "key", customer_key=customer(1))
    assert known(opened) is made


async def test_sealed_versions_and_those_of_parts_are_not_kept(opened: OpenedStore) -> None:
    engine = opened.engine
    await engine.put_object("bucket", "key", b"x", PutRequest(encryption=EncryptionRequest(EncryptionMode.STORE)))
    assert engine.head_object("bucket", "key").version.mutable.wrapped_key and known(opened) is None
    upload = await engine.create_multipart_upload("bucket", "key")
    part = await engine.upload_part("bucket", "key", upload, 1, b"body")
    parts = (CompletedPart(number=1, etag=part.etag),)
    await engine.complete_multipart_upload("bucket", "key", upload, CompleteRequest(parts=parts))
    assert engine.head_object("bucket", "key").version.meta.part_count == 1 and known(opened) is None


@pytest.mark.parametrize("length, keeps", [(464, True), (465, False), (1024, False)])
async def test_keys_of_any_length_are_found(opened: OpenedStore, length: int, keeps: bool) -> None:
    key = "k" * length
    await opened.engine.put_object("bucket", key, b"body")
    for _ in range(2):
        assert opened.engine.head_object("bucket", key).version.key == key
    assert (known(opened, key) is not None) == keeps


async def test_no_more_is_known_than_the_limit(opened: OpenedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knownheads, "KNOWN_HEADS_LIMIT", 3)
    for number in range(8):
        await opened.engine.put_object("bucket", f"k{number}", b"x" * number)
    for number in (*range(8), *range(8)):
        assert met(opened, f"k{number}").version.meta.size_bytes == number
        assert 0 < len(opened.engine._runtime.known_heads._known) <= 3


async def test_d15_a_known_head_whose_row_is_damaged_meanwhile_is_damage(opened: OpenedStore, tmp_path: Path) -> None:
    await opened.engine.put_object("bucket", "key-m", b"body")
    met(opened, "key-m")
    stored = opened.engine._runtime.known_heads._known["bucket", "key-m"].row
    flip(tmp_path / "store", stored, 3, 0)
    with pytest.raises(RecordDamaged):
        opened.engine.head_object("bucket", "key-m")


async def test_errors_of_the_catalog_are_those_of_a_view(opened: OpenedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await opened.engine.put_object("bucket", "key", b"body")
    met(opened)

    def full() -> None:
        raise lmdb.ReadersFullError("no slot")

    class Unfollowable:
        def get(self, *_: object) -> bytes:
            raise lmdb.CorruptedError("no page")

        def abort(self) -> None:
            ended.append(self)

    ended: list[Unfollowable] = []
    monkeypatch.setattr(opened.store.catalog, "_begin", full)
    with pytest.raises(SlowDown):
        known(opened)
    monkeypatch.setattr(opened.store.catalog, "_begin", Unfollowable)
    with pytest.raises(RecordDamaged):
        known(opened)
    assert len(ended) == 1
    monkeypatch.setattr(opened.store.catalog, "_closed", True)
    with pytest.raises(RuntimeError):
        known(opened)
