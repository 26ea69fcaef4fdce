"""A row that a flipped bit of its key hides is not made anew by the committer: its neighbours tell of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs3d.engine.library import open_store_parts
from rs3d.errors import RecordDamaged
from rs3d.stores.catalogwriter import CatalogTransaction
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE


def flip(store: Path, part: bytes, offset: int, bit: int) -> None:
    """Turn a bit of `part`, wherever it stands in the catalog's file, `offset` bytes from its beginning."""
    with (store / "catalog" / "data.mdb").open("r+b") as file:
        content = file.read()
        at = content.find(part)
        assert at >= 0
        while at >= 0:
            file.seek(at + offset)
            file.write(bytes([content[at + offset] ^ 1 << bit]))
            at = content.find(part, at + 1)


@pytest.mark.parametrize("bit", range(8))
async def test_d15_a_version_whose_row_is_hidden_is_damage_and_no_new_key(tmp_path: Path, bit: int) -> None:
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE) as opened:
        await opened.engine.create_bucket("bucket")
        for key in ("key-a", "key-m", "key-z"):
            await opened.engine.put_object("bucket", key, b"x")
        bucket = opened.engine.bucket("bucket").bucket_id
        transaction = CatalogTransaction(opened.store.opened.tables)
        try:
            assert transaction.key_state(bucket, "key-m").latest is not None
            assert transaction.key_state(bucket, "key-n").latest is None, "there is none beside sound rows"
            flip(tmp_path / "store", b"key-m", 4, bit)
            transaction.forget_key_state()
            with pytest.raises(RecordDamaged):
                transaction.key_state(bucket, "key-m")
        finally:
            transaction.abort()


@pytest.mark.parametrize("bit", range(8))
async def test_d15_a_bucket_whose_row_is_hidden_is_damage_and_no_free_name(tmp_path: Path, bit: int) -> None:
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE) as opened:
        for name in ("abc", "mno", "xyz"):
            await opened.engine.create_bucket(name)
        transaction = CatalogTransaction(opened.store.opened.tables)
        try:
            assert transaction.bucket_named("mno") is not None and transaction.bucket_named("mnp") is None
            flip(tmp_path / "store", b"mno", 0, bit)
            with pytest.raises(RecordDamaged):
                transaction.bucket_named("mno")
        finally:
            transaction.abort()
