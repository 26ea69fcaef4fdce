"""Packs written anew: every byte stays readable, the dead ones go, and whatever happens meanwhile is respected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rs3d.engine import EngineConfig
from rs3d.engine import packrewriting as rewriting
from rs3d.engine.library import OpenedStore, StoreOptions, open_store_parts
from rs3d.engine.requests import BucketChange
from rs3d.errors import BlobDamaged, OutcomeUnknown
from rs3d.stores.check import assert_files_reachable
from rs3d.types.chunks import PackUse
from rs3d.types.operations import MoveChunks
from tests.engine.bodies import noise

CONFIG = EngineConfig(inline_limit_bytes=1000, piece_bytes=65536, dedup="fixed:4KiB", dedup_min_object_bytes=4096)
OPTIONS = StoreOptions(log_segment_bytes=2 << 20, map_bytes=64 << 20, minimum_free_bytes=1 << 20)
KEPT = noise(40_960, 1)
GONE = noise(200_000, 2)


@asynccontextmanager
async def opened(root: Path, **settings: str) -> AsyncIterator[OpenedStore]:
    """A store with one pack: a fifth of it is alive."""
    async with open_store_parts(str(root), CONFIG, OPTIONS) as parts:
        await parts.engine.create_bucket("bkt")
        if settings:
            await parts.engine.change_bucket("bkt", BucketChange(settings=settings))
        await parts.engine.put_object("bkt", "gone", KEPT + GONE)
        await parts.engine.put_object("bkt", "kept", KEPT)
        await parts.engine.delete_object("bkt", "gone")
        await parts.collector.collect()
        yield parts


def only_pack(parts: OpenedStore) -> PackUse:
    with parts.store.catalog.snapshot() as view:
        (found,) = view.packs()
    return found


async def settle(parts: OpenedStore) -> None:
    await parts.collector.collect()
    await parts.collector.collect()


@pytest.mark.parametrize("settings", [{}, {"compression": "zstd:3"}, {"parity": "2+1"}])
async def test_the_living_chunks_move_and_the_old_pack_goes(tmp_path: Path, settings: dict[str, str]) -> None:
    root = tmp_path / "store"
    async with opened(root, **settings) as parts:
        old = only_pack(parts)
        done = await parts.engine.rewrite_pack(old.pack, 0.5)
        new = only_pack(parts)
        assert new.pack != old.pack and done.chunks == new.chunks == old.chunks == 10
        assert done.freed_bytes == old.total_stored_bytes - new.total_stored_bytes >= 190_000
        assert new.live_stored_bytes == old.live_stored_bytes
        assert await parts.engine.get_object("bkt", "kept") == KEPT
        await settle(parts)
        assert not (root / "blobs" / f"{old.pack.text()}.data").exists()
    assert_files_reachable(str(root))
    async with open_store_parts(str(root), CONFIG, OPTIONS) as parts:
        assert await parts.engine.get_object("bkt", "kept") == KEPT
        assert (await parts.engine.rewrite_pack(new.pack, 0.5)).chunks == 0, "it has no dead chunks any more"
    assert_files_reachable(str(root))


async def test_a_pack_with_enough_alive_is_left_as_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as parts:
        old = only_pack(parts)
        assert await parts.engine.rewrite_pack(old.pack, 0.1) == (0, 0)
        assert only_pack(parts) == old


async def test_a_body_put_again_while_its_pack_is_rewritten_keeps_its_chunks(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with opened(root) as parts:
        old = only_pack(parts)
        engine, commit = parts.engine, parts.store.committer.commit

        async def put_first(operation: Any) -> Any:
            if isinstance(operation, MoveChunks):
                parts.store.committer.commit = commit  # type: ignore[method-assign]
                await engine.put_object("bkt", "again", KEPT + GONE[:50_000])
                await engine.delete_object("bkt", "kept")
                await parts.collector.collect()
            return await commit(operation)

        parts.store.committer.commit = put_first  # type: ignore[method-assign]
        assert (await engine.rewrite_pack(old.pack, 0.5)).chunks == 10
        await settle(parts)
        assert await engine.get_object("bkt", "again") == KEPT + GONE[:50_000]
    assert_files_reachable(str(root))


async def test_pitfall_d12_chunks_that_die_between_the_copy_and_the_move_stay_dead(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with opened(root) as parts:
        old = only_pack(parts)
        engine, commit = parts.engine, parts.store.committer.commit

        async def delete_first(operation: Any) -> Any:
            if isinstance(operation, MoveChunks):
                parts.store.committer.commit = commit  # type: ignore[method-assign]
                await engine.delete_object("bkt", "kept")
                await settle(parts)
            return await commit(operation)

        parts.store.committer.commit = delete_first  # type: ignore[method-assign]
        assert await engine.rewrite_pack(old.pack, 0.5) == (0, 0)
        with parts.store.catalog.snapshot() as view:
            assert list(view.packs()) == [] and view.dedup_totals().chunks == 0
        await settle(parts)
    assert_files_reachable(str(root))


async def test_pitfall_d2_what_does_not_read_back_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    async with opened(root) as parts:
        old = only_pack(parts)

        def wrong(*_: object) -> object:
            raise BlobDamaged(blob="new", reason="does not read back")

        monkeypatch.setattr(rewriting, "_read_back", wrong)
        with pytest.raises(BlobDamaged):
            await parts.engine.rewrite_pack(old.pack, 0.5)
        assert only_pack(parts) == old
        assert await parts.engine.get_object("bkt", "kept") == KEPT
    assert_files_reachable(str(root))


async def test_store_rule_13_with_an_unknown_outcome_both_packs_stay(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with opened(root) as parts:
        old = only_pack(parts)
        commit = parts.store.committer.commit

        async def done_but_unknown(operation: Any) -> Any:
            outcome = await commit(operation)
            if isinstance(operation, MoveChunks):
                raise OutcomeUnknown(reason="the committer died")
            return outcome

        parts.store.committer.commit = done_but_unknown  # type: ignore[method-assign]
        with pytest.raises(OutcomeUnknown):
            await parts.engine.rewrite_pack(old.pack, 0.5)
        parts.store.committer.commit = commit  # type: ignore[method-assign]
        assert await parts.engine.get_object("bkt", "kept") == KEPT
        await settle(parts)
        assert await parts.engine.get_object("bkt", "kept") == KEPT
    assert_files_reachable(str(root))


async def test_store_rule_15_a_body_being_read_is_read_to_its_end(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as parts:
        old = only_pack(parts)
        slot = parts.horizon.enter(parts.engine._runtime.last_sequence)
        await parts.engine.rewrite_pack(old.pack, 0.5)
        await parts.engine.delete_object("bkt", "kept")
        await settle(parts)
        with parts.store.catalog.snapshot() as view:
            assert view.dedup_totals().chunks == 10, "a reader may still look its chunks up"
        parts.blobs.open(old.pack).close()
        parts.horizon.leave(slot)
        await settle(parts)
        with parts.store.catalog.snapshot() as view:
            assert view.dedup_totals().chunks == 0
