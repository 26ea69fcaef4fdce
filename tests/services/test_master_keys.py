"""Rotation of the master key: everything ends up under the new one, wherever it is interrupted; data is not touched."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rs3d.crypto.masterkey import MasterKey, add_key, drop_keys
from rs3d.crypto.providers.keyring import Keyring
from rs3d.engine import StorageEngine
from rs3d.engine.library import open_store_parts
from rs3d.engine.requests import (
    EncryptionMode,
    EncryptionRequest,
    KeyRequest,
    KmsRequest,
    PutRequest,
    UserRequest,
)
from rs3d.errors import MasterKeyWrong, OutcomeUnknown
from rs3d.services import masterkeys
from rs3d.services.masterkeys import MasterKeyService
from rs3d.stores.layoutmeta import read_store_meta, replace_store_meta
from rs3d.types.operations import PutSetting
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE

STORE = EncryptionRequest(EncryptionMode.STORE)
KMS = EncryptionRequest(EncryptionMode.KMS, kms=KmsRequest("own"))


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[tuple[StorageEngine, MasterKeyService]]:
    async with open_store_parts(str(root), SMALL_LIMITS, SMALL_STORE) as parts:
        sealer = parts.engine._runtime.deps.sealer
        path = str(root / "master.key")
        service = MasterKeyService(
            str(root),
            parts.engine,
            parts.store.catalog,
            parts.store.committer,
            sealer,  # type: ignore[arg-type]
            lambda: MasterKey.from_file(path),
        )
        yield parts.engine, service


async def fill(root: Path) -> None:
    async with opened(root) as (engine, _):
        await engine.create_user(UserRequest(name="anna", display_name="Anna"))
        keyring = engine.key_directory.providers["local"]
        assert isinstance(keyring, Keyring)
        keyring.create("own")
        for number in range(3):
            await engine.create_key(KeyRequest(user="anna", access_key=f"ANNA{number}", secret=f"secret-{number}-42"))
            await engine.create_bucket(f"bucket-{number}")
            await engine.put_object(f"bucket-{number}", "k", b"x" * 5000, PutRequest(encryption=STORE))
            await engine.put_object(f"bucket-{number}", "kms", b"y" * 5000, PutRequest(encryption=KMS))


async def check(engine: StorageEngine) -> None:
    for number in range(3):
        found = engine.credentials(f"ANNA{number}")
        assert found is not None and found.secret == f"secret-{number}-42"
        assert await engine.get_object(f"bucket-{number}", "k") == b"x" * 5000
        assert await engine.get_object(f"bucket-{number}", "kms") == b"y" * 5000


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.glob("blobs/*/*")}


async def test_store_rule_21_everything_is_sealed_under_the_new_key_and_the_old_one_may_go_missing(
    tmp_path: Path,
) -> None:
    root = tmp_path / "store"
    await fill(root)
    before = files(root)
    async with opened(root) as (engine, service):
        old = (await _ids(service))[0]
        new = add_key(str(root / "master.key"))
        done = await service.settle()
        assert (done.access_keys, done.buckets) == (3, 3)
        await check(engine)
        assert read_store_meta(str(root)).master_key_id == new.id
        assert [epoch.key_id for epoch in service.epochs()] == [old, new.id] and service.epochs()[1].resealed_ns
        assert (await service.settle()).buckets == 0
    assert files(root) == before, "data is never touched"
    drop_keys(str(root / "master.key"), frozenset({old}))
    async with opened(root) as (engine, _):
        await check(engine)


async def _ids(service: MasterKeyService) -> list[str]:
    return [key.id for key in service.ring()]


@pytest.mark.parametrize("commits", range(9))
async def test_a_rotation_cut_off_after_any_operation_is_carried_to_its_end(tmp_path: Path, commits: int) -> None:
    root = tmp_path / "store"
    await fill(root)
    async with opened(root) as (engine, service):
        add_key(str(root / "master.key"))
        committer: Any = engine._runtime.committer
        honest, left = committer.commit, [commits]

        async def commit(operation: object) -> object:
            if not left[0]:
                raise OutcomeUnknown(reason="killed here")
            left[0] -= 1
            return await honest(operation)

        committer.commit = commit
        try:
            await service.settle()
        except OutcomeUnknown:
            assert commits < 8
        committer.commit = honest
        await check(engine)
    async with opened(root) as (engine, service):
        await check(engine)
        assert await service.step() > 0
        ids = await _ids(service)
        assert read_store_meta(str(root)).master_key_id == ids[0]
        assert engine.count_stale_secrets(bytes.fromhex(ids[0])) == 0
    drop_keys(str(root / "master.key"), frozenset(ids[1:]))
    async with opened(root) as (engine, _):
        await check(engine)


async def test_an_old_key_is_kept_while_the_log_may_need_it(tmp_path: Path) -> None:
    root = tmp_path / "store"
    await fill(root)
    async with opened(root) as (_, service):
        add_key(str(root / "master.key"))
        assert [key.state for key in service.ring()] == ["current", "needed"], "nothing was sealed anew yet"
        await service.settle()
        keys = service.ring()
        assert [key.state for key in keys] == ["current", "needed"] and keys[1].log_segments > 0
        assert service.retirable() == []
        for path in (root / "log").glob("*.meta"):  # as if compaction had rewritten them all
            os.unlink(path)
        assert service.retirable() == [keys[1].id]


async def test_a_secret_whose_key_is_gone_is_refused_by_name(tmp_path: Path) -> None:
    root = tmp_path / "store"
    await fill(root)
    async with opened(root) as (_, service):
        old = (await _ids(service))[0]
        new = add_key(str(root / "master.key"))
        assert await _ids(service) == [new.id, old]
        drop_keys(str(root / "master.key"), frozenset({old}))
        with pytest.raises(MasterKeyWrong, match=old):
            await service.settle()
    with pytest.raises(MasterKeyWrong, match="the store was made with key"):
        async with opened(root):
            pass


async def test_a_rotation_that_was_cut_off_makes_what_names_the_key_durable_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was killed between renaming store.meta and syncing its directory left a name that a cut may take back: were
    the end logged on the strength of it, the key that the old store.meta names could be dropped."""
    root, done = tmp_path / "store", list[str]()
    await fill(root)
    async with opened(root) as (engine, service):
        new = add_key(str(root / "master.key"))
        committer: Any = engine._runtime.committer
        honest = committer.commit

        async def commit(operation: object) -> object:
            if isinstance(operation, PutSetting) and read_store_meta(str(root)).master_key_id == new.id:
                if not done:
                    raise OutcomeUnknown(reason="killed here")
                done.append("end")
            return await honest(operation)

        committer.commit = commit
        with pytest.raises(OutcomeUnknown):
            await service.settle()
        assert read_store_meta(str(root)).master_key_id == new.id and not service.epochs()[-1].resealed_ns
        replace = replace_store_meta

        def replaced(*arguments: Any) -> None:
            done.append("store.meta")
            replace(*arguments)

        monkeypatch.setattr(masterkeys, "replace_store_meta", replaced)
        done.append("again")
        await service.settle()
        assert done == ["again", "store.meta", "end"] and service.epochs()[-1].resealed_ns
