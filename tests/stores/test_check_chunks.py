"""The check of deduplication: every kind of wrong count is named, and set right where that can be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
import trio

from rs3d.engine import EngineConfig
from rs3d.engine.library import StoreOptions, open_store_parts
from rs3d.format.chunkrows import CHUNK, DEDUP_TOTALS, PACK
from rs3d.stores.catalogtables import Table
from rs3d.stores.catalogwriter import DEDUP_KEY, CatalogTransaction
from rs3d.stores.check import CheckMode, assert_files_reachable, check_store
from rs3d.stores.checkchunks import check_chunks
from rs3d.stores.checkreport import CheckReport, Severity, no_progress
from rs3d.stores.chunkmending import mend_chunks
from rs3d.types.identifiers import BucketId
from tests.engine.bodies import noise
from tests.stores.catalogcopies import count_as_it_is
from tests.stores.chunked import check_counts, chunk, garbage, pin, place, placed, put_body, wanted
from tests.stores.committed import CommittedStore, rows_without_positions


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    opened = CommittedStore(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def bucket(store: CommittedStore) -> BucketId:
    made = store.bucket()
    put_body(store, made, "a", [1, 2, 3])
    put_body(store, made, "b", [2, 3, 4])
    return made


def findings(store: CommittedStore, *, reads_log: bool = True) -> list[tuple[str, str]]:
    report = CheckReport("store")
    with store.view() as view:
        check_chunks(view, report, no_progress, reads_log=reads_log)
    return [(found.what.partition(" ")[0], found.command) for found in report.findings]


def mend(store: CommittedStore) -> CheckReport:
    report = CheckReport("store")
    mend_chunks(store.core, store.catalog, report, no_progress)
    return report


def change(store: CommittedStore, table: Table, key: bytes, value: bytes | None) -> None:
    t = CatalogTransaction(store.tables)
    if value is None:
        t.delete(table, key)
    else:
        t.put(table, key, value)
    t.commit()


REPAIR, REBUILD = "rs3d check --repair --data DIR", "rs3d check --rebuild --data DIR"


def test_a_sound_store_is_clean_and_mending_changes_nothing(store: CommittedStore, bucket: BucketId) -> None:
    before = rows_without_positions(store.tables)
    assert findings(store) == []
    assert mend(store).repaired == 0
    assert rows_without_positions(store.tables) == before


@pytest.mark.parametrize("references", [1, 3])
def test_pitfall_p8_a_wrong_count_is_named_and_set_to_what_pins_the_chunk(
    store: CommittedStore, bucket: BucketId, references: int
) -> None:
    with store.view() as view:
        row = dict(view.chunk_rows())[chunk(2).hash]
    change(store, store.tables.chunks, chunk(2).hash, CHUNK.pack(*row._replace(references=references)))
    assert ("chunk", REPAIR) in findings(store)
    assert mend(store).repaired
    assert findings(store) == []
    check_counts(store)


def test_a_chunk_that_nothing_pins_goes_and_its_pack_with_it(store: CommittedStore, bucket: BucketId) -> None:
    pack = store.new_blob()
    dangling = placed(9, pack).place
    assert dangling is not None
    value = CHUNK.pack(pack.to_bytes(), dangling.offset, dangling.stored_bytes, dangling.client_bytes, 1, 5)
    change(store, store.tables.chunks, chunk(9).hash, value)
    change(store, store.tables.packs, pack.to_bytes(), PACK.pack(1, dangling.stored_bytes, 1 << 20))
    t = CatalogTransaction(store.tables)
    blob = t.blob((place(store, 1) or pytest.fail()).pack.to_bytes())
    assert blob is not None
    t.put_blob(pack.to_bytes(), blob._replace(references=1))
    t.commit()
    assert findings(store) == [("chunk", REPAIR), ("totals", REPAIR)]
    mend(store)
    assert findings(store) == []
    assert place(store, 9) is None and garbage(store) == {pack}
    check_counts(store)


def test_wrong_packs_and_totals_are_counted_anew(store: CommittedStore, bucket: BucketId) -> None:
    pack = (place(store, 1) or pytest.fail()).pack.to_bytes()
    change(store, store.tables.packs, pack, PACK.pack(7, 1, 1 << 20))
    change(store, store.tables.state, DEDUP_KEY, DEDUP_TOTALS.pack(1, 2, 3, 4))
    assert sorted(findings(store)) == [("pack", REPAIR), ("totals", REPAIR)] == sorted(findings(store, reads_log=False))
    mend(store)
    assert findings(store) == []
    check_counts(store)


def test_a_pinned_chunk_or_a_pack_without_a_row_needs_a_rebuild(store: CommittedStore, bucket: BucketId) -> None:
    pack = (place(store, 1) or pytest.fail()).pack
    change(store, store.tables.chunks, chunk(2).hash, None)
    change(store, store.tables.packs, pack.to_bytes(), None)
    assert {("chunk", REBUILD), ("pack", REBUILD)} <= set(findings(store))
    mend(store)
    assert {("chunk", REBUILD), ("pack", REBUILD)} <= set(findings(store))
    store.close_epoch()
    store.without_catalog()
    assert findings(store) == []


def test_pins_of_a_body_that_was_never_committed_are_named_and_freed(store: CommittedStore, bucket: BucketId) -> None:
    manifest, pack = store.new_blob(), store.new_blob()
    pin(store, manifest, [placed(1, pack), placed(8, pack)])
    pin(store, manifest, [wanted(2)], batch=1)
    assert findings(store) == [("blob", REPAIR)]
    assert findings(store, reads_log=False) == [], "while others write, a body may be under way"
    store.close_epoch()
    assert mend(store).repaired == 2
    assert findings(store) == []
    assert place(store, 8) is None and garbage(store) == {pack}
    check_counts(store)
    before = rows_without_positions(store.tables)
    store.without_catalog()
    store.close_epoch()
    assert {name: rows for name, rows in rows_without_positions(store.tables).items() if name != "operations"} == {
        name: rows for name, rows in before.items() if name != "operations"
    }


# ------------------------------------------------------------------------------------------------ a store on a disk

CONFIG = EngineConfig(inline_limit_bytes=1000, piece_bytes=65536, dedup="fixed:4KiB", dedup_min_object_bytes=10_000)
OPTIONS = StoreOptions(log_segment_bytes=2 << 20, map_bytes=64 << 20, minimum_free_bytes=1 << 20)


async def make(root: str) -> None:
    async with open_store_parts(root, CONFIG, OPTIONS) as opened:
        await opened.engine.create_bucket("bucket")
        for key in ("a", "b", "c"):
            await opened.engine.put_object("bucket", key, noise(60_000, 1))
        await opened.engine.put_object("bucket", "d", noise(40_000, 2))
        await opened.engine.delete_object("bucket", "c")
        await opened.collector.collect()
        await opened.collector.collect()


def test_rs3d_check_repairs_counts_on_disk_and_files_are_those_that_rows_name(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    trio.run(make, root)
    assert_files_reachable(root)
    environment = lmdb.open(os.path.join(root, "catalog"), max_dbs=32, map_size=64 << 20)
    handle = environment.open_db(b"chunks", create=False)
    table = Table("chunks", handle)
    with environment.begin(write=True) as transaction:
        key, sealed = next(iter(transaction.cursor(db=handle)))
        row = CHUNK.unpack(table.unseal(key, sealed))
        transaction.put(key, table.seal(key, CHUNK.pack(*row[:5], 40)), db=handle)
    environment.close()
    count_as_it_is(root)
    report = check_store(root)
    assert report.worst is Severity.ERROR
    assert [found.command for found in report.findings if found.what == f"chunk {key.hex()}"] == [REPAIR]
    assert check_store(root, mode=CheckMode.REPAIR).is_clean
    assert_files_reachable(root)
    trio.run(read_back, root)


async def read_back(root: str) -> None:
    async with open_store_parts(root, CONFIG, OPTIONS) as opened:
        for key, body in (("a", noise(60_000, 1)), ("b", noise(60_000, 1)), ("d", noise(40_000, 2))):
            assert await opened.engine.get_object("bucket", key) == body
