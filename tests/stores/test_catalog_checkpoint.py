"""Checkpoints of the catalog: what counts after a cut, who goes back and who does not, and what is refused.

That nothing is lost at a cut anywhere is tests/crash's; here are the states, one by one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import pytest

from rs3d import errors
from rs3d.cli.main import main
from rs3d.format.checkpoint import SLOT_BYTES, Checkpoint, CheckpointState, decode_checkpoint, encode_slot
from rs3d.format.lmdbpages import decode_meta, decode_metas, named_trees, pages_of
from rs3d.stores import catalogcheckpoint
from rs3d.stores.catalogcheckpoint import CHECKPOINT, FAILED
from rs3d.stores.catalogsettling import settle, settle_for_reading
from rs3d.stores.committeropen import CommitterSettings, open_committer
from rs3d.stores.files import SYSTEM_FILES
from tests.stores.committed import CommittedStore

PAGE = 4096


@pytest.fixture(autouse=True)
def only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint is made because time has passed."""
    monkeypatch.setattr(catalogcheckpoint, "INTERVAL_S", 1e9)


def data_of(store: CommittedStore) -> Path:
    return store.root / "catalog" / "data.mdb"


def checkpoint_of(store: CommittedStore) -> Checkpoint:
    raw = (store.root / "catalog" / CHECKPOINT).read_bytes()
    return decode_checkpoint(memoryview(raw), what=CHECKPOINT)


def die(store: CommittedStore) -> None:
    """As the process does: nothing is synced, nothing closed in order."""
    store.catalog.close()
    store.core.log.close()
    store.tables.give_up()


def reopen(store: CommittedStore) -> int:
    """Open the store after `die`; the number of records that the opening applied."""
    store.open()
    return store.opened.recovered.applied


def keys_after_a_cut(store: Filled, data: bytes) -> list[str]:
    """The power was cut, and that is what is left of the catalog's file."""
    bucket = store.bucket_id
    die(store)
    data_of(store).write_bytes(data)
    reopen(store)
    return store.keys(bucket)


class Filled(CommittedStore):
    """A store with a bucket, some keys below the last checkpoint and some above it."""

    def __init__(self, root: Path, **opening: Any) -> None:
        super().__init__(root, **opening)
        self.bucket_id = self.bucket()
        for number in range(20):
            self.put(self.bucket_id, f"before {number:02}")
        self.tables.sync()
        self.synced = data_of(self).read_bytes()
        for number in range(20):
            self.put(self.bucket_id, f"behind {number:02}")
            self.remove(self.bucket_id, f"before {number:02}")
        self.expected = [f"behind {number:02}" for number in range(20)]


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return Filled(tmp_path)


def test_a_catalog_that_was_not_closed_goes_back_and_the_log_rolls_it_forward(filled: Filled) -> None:
    assert checkpoint_of(filled).state is CheckpointState.OPEN
    die(filled)
    assert reopen(filled) == 40
    assert filled.keys(filled.bucket_id) == filled.expected
    filled.close()


@pytest.mark.parametrize("names", ["old names", "new names", "names of two ages"])
@pytest.mark.parametrize("pages", ["old pages", "new pages", "every second page"])
def test_whatever_mixture_a_cut_leaves_nothing_is_lost(filled: Filled, names: str, pages: str) -> None:
    old, new = filled.synced, data_of(filled).read_bytes()
    front = {"old names": old, "new names": new, "names of two ages": old[:PAGE] + new[PAGE : 2 * PAGE]}[names]
    length = len(old) if pages == "old pages" else len(new)
    remainders = {"old pages": (), "new pages": (0, 1), "every second page": (1,)}[pages]
    left = b"".join(
        (new if at % 2 in remainders else old)[at * PAGE : (at + 1) * PAGE] or bytes(PAGE)
        for at in range(2, length // PAGE)
    )
    assert keys_after_a_cut(filled, front[: 2 * PAGE] + left) == filled.expected
    filled.close()


def test_pages_of_the_checkpoint_stay_as_they_are_however_much_is_committed(filled: Filled) -> None:
    view = memoryview(filled.synced)
    newest = decode_metas(view)[0]
    assert newest.commit == decode_meta(memoryview(checkpoint_of(filled).meta), 0).commit
    trees = [newest.free, newest.tables, *(tree for _, tree in named_trees(view, newest))]
    used = {
        number
        for tree in trees
        for run in pages_of(view, newest, tree, names_tables=tree is newest.tables)
        for number in range(run.first, run.first + run.pages)
    }
    assert len(used) > 10
    for number in range(150):
        filled.put(filled.bucket_id, f"more {number:03}")
    now = data_of(filled).read_bytes()
    for number in used:
        assert now[number * PAGE :][:PAGE] == filled.synced[number * PAGE :][:PAGE], number
    filled.close()


def test_pages_are_used_again_once_they_belong_to_no_checkpoint(tmp_path: Path) -> None:
    store = Filled(tmp_path)
    lengths = []
    for number in range(300):
        store.put(store.bucket_id, f"key {number % 10}")
        if number % 10 == 0:
            store.tables.sync()
        if number in (150, 299):
            lengths.append(data_of(store).stat().st_size)
    assert lengths[0] == lengths[1]
    store.close()


def test_a_closed_catalog_is_opened_as_it_is(filled: Filled) -> None:
    filled.close()
    assert checkpoint_of(filled).state is CheckpointState.CLOSED
    before = data_of(filled).read_bytes()
    settle_for_reading(str(filled.root / "catalog"), SYSTEM_FILES)
    assert data_of(filled).read_bytes() == before
    assert reopen(filled) == 0
    assert checkpoint_of(filled).state is CheckpointState.OPEN
    filled.close()


def test_who_looks_at_a_store_that_was_not_closed_sees_its_checkpoint(filled: Filled) -> None:
    highest = decode_metas(memoryview(data_of(filled).read_bytes()))[0].commit
    die(filled)
    settle_for_reading(str(filled.root / "catalog"), SYSTEM_FILES)
    found = decode_metas(memoryview(data_of(filled).read_bytes()))
    wanted = decode_meta(memoryview(checkpoint_of(filled).meta), 0)
    assert wanted.commit < highest
    assert [page.commit for page in found] == [highest] * 2  # readers, and lock.mdb, know that number
    assert [(page.last_page, page.tables, page.free) for page in found] == [
        (wanted.last_page, wanted.tables, wanted.free)
    ] * 2
    settle_for_reading(str(filled.root / "catalog"), SYSTEM_FILES)  # again, and no further
    assert reopen(filled) == 40
    filled.close()


def test_a_catalog_that_others_have_open_for_reading_goes_back_all_the_same(filled: Filled) -> None:
    """No committer could start so far, and processes serve what there is."""
    bucket = filled.bucket_id
    die(filled)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(filled.root / "catalog")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None and reader.stdin is not None
        assert reader.stdout.readline() == b"20\n"
        assert reopen(filled) == 40
        filled.put(bucket, "zzz")
        reader.stdin.write(b"\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == b"21\n"
    assert filled.keys(bucket) == [*filled.expected, "zzz"]
    filled.close()


READER = """
import sys
from rs3d.stores.catalogtables import Access, open_tables
tables = open_tables(sys.argv[1], access=Access.READ, map_bytes=64 << 20)
for _ in range(2):
    with tables.environment.begin() as view:
        print(view.stat(tables.current.handle)["entries"], flush=True)
    sys.stdin.readline()
"""


def test_a_successor_goes_on_with_what_the_page_cache_has(filled: Filled) -> None:
    die(filled)
    filled.settings = replace(filled.settings, is_successor=True)
    number = checkpoint_of(filled).number
    assert reopen(filled) == 0
    assert checkpoint_of(filled).number > number
    # Of that a checkpoint was made before anything was committed: the old one counts no more.
    assert filled.keys(filled.bucket_id) == filled.expected
    synced = data_of(filled).read_bytes()
    filled.put(filled.bucket_id, "zzz")
    filled.settings = replace(filled.settings, is_successor=False)
    assert keys_after_a_cut(filled, synced) == [*filled.expected, "zzz"]
    filled.close()


def test_half_a_catalog_that_was_being_made_is_made_anew(filled: Filled) -> None:
    filled.close()
    empty = encode_slot(Checkpoint(99, CheckpointState.EMPTY, bytes(152)))
    (filled.root / "catalog" / CHECKPOINT).write_bytes(empty * 2)
    data_of(filled).write_bytes(data_of(filled).read_bytes()[: 8 * PAGE])
    assert reopen(filled) > 0
    assert filled.keys(filled.bucket_id) == filled.expected
    filled.close()


def test_a_catalog_without_its_file_is_made_anew(filled: Filled) -> None:
    filled.close()
    data_of(filled).unlink()
    assert reopen(filled) > 0
    assert filled.keys(filled.bucket_id) == filled.expected
    filled.close()


def test_a_catalog_from_before_there_were_checkpoints_counts_as_it_is(filled: Filled) -> None:
    filled.close()
    (filled.root / "catalog" / CHECKPOINT).unlink()
    settle_for_reading(str(filled.root / "catalog"), SYSTEM_FILES)
    assert not (filled.root / "catalog" / CHECKPOINT).exists()
    assert reopen(filled) == 0
    assert checkpoint_of(filled).state is CheckpointState.OPEN
    assert filled.keys(filled.bucket_id) == filled.expected
    filled.close()


@pytest.mark.parametrize("slot", [0, 1])
def test_one_slot_is_enough(filled: Filled, slot: int) -> None:
    die(filled)
    path = filled.root / "catalog" / CHECKPOINT
    raw = bytearray(path.read_bytes())
    raw[slot * SLOT_BYTES + 40] ^= 1
    path.write_bytes(raw)
    assert reopen(filled) == 40
    assert filled.keys(filled.bucket_id) == filled.expected
    filled.close()


@pytest.mark.parametrize("left", ["nothing", "zeros", "flipped"])
def test_a_checkpoint_that_cannot_be_read_is_damage_and_the_command_is_named(filled: Filled, left: str) -> None:
    die(filled)
    path = filled.root / "catalog" / CHECKPOINT
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    raw[SLOT_BYTES + 40] ^= 1
    path.write_bytes({"nothing": b"", "zeros": bytes(2 * SLOT_BYTES), "flipped": bytes(raw)}[left])
    with pytest.raises(errors.StoreDamaged, match=r"checkpoint\.meta.*rs3d check --rebuild"):
        filled.open()
    with pytest.raises(errors.StoreDamaged, match=r"checkpoint\.meta"):
        settle_for_reading(str(filled.root / "catalog"), SYSTEM_FILES)
    shutil.rmtree(filled.root / "catalog")  # what that command does, but for putting it aside
    filled.open()
    assert filled.keys(filled.bucket_id) == filled.expected
    filled.close()


def test_a_catalogs_file_that_is_older_than_its_checkpoint_is_refused(filled: Filled) -> None:
    filled.tables.sync()
    die(filled)
    data_of(filled).write_bytes(filled.synced)
    with pytest.raises(errors.StoreDamaged, match="older than"):
        filled.open()


def test_a_closed_catalog_whose_file_is_another_is_refused(filled: Filled) -> None:
    filled.tables.sync()
    older = data_of(filled).read_bytes()
    filled.put(filled.bucket_id, "the last one")
    filled.close()
    newest = data_of(filled).read_bytes()
    data_of(filled).write_bytes(older)
    with pytest.raises(errors.StoreDamaged, match=r"older than.*rs3d check --rebuild"):
        filled.open()
    with pytest.raises(errors.StoreDamaged, match="older than"):
        settle_for_reading(str(filled.root / "catalog"), SYSTEM_FILES)
    data_of(filled).write_bytes(newest)
    closed = (filled.root / "catalog" / CHECKPOINT).read_bytes()
    filled.open()
    filled.put(filled.bucket_id, "and one more")
    filled.close()
    (filled.root / "catalog" / CHECKPOINT).write_bytes(closed)
    with pytest.raises(errors.StoreDamaged, match="newer than"):
        filled.open()


NAME_OF_A_COMMIT = range(16, 152)
"""What of the page a CRC elsewhere does not hold: all behind its head."""


@pytest.mark.parametrize("which", ["newest", "other"])
def test_a_bit_that_flips_in_the_name_of_the_last_commit_is_mended_or_refused(filled: Filled, which: str) -> None:
    filled.close()
    intact = data_of(filled).read_bytes()
    newest, other = decode_metas(memoryview(intact))
    at = (newest if which == "newest" else other).offset
    mended = refused = 0
    for bit in range(NAME_OF_A_COMMIT.start * 8, NAME_OF_A_COMMIT.stop * 8, 5):
        damaged = bytearray(intact)
        damaged[at + bit // 8] ^= 1 << bit % 8
        data_of(filled).write_bytes(damaged)
        try:
            settle_for_reading(str(filled.root / "catalog"), SYSTEM_FILES)
        except errors.StoreDamaged:
            refused += 1
            continue
        found = data_of(filled).read_bytes()
        assert decode_metas(memoryview(found))[0].commit == newest.commit, bit
        assert found[newest.offset :][16:152] == intact[newest.offset :][16:152], bit
        mended += found != bytes(damaged)
    assert refused > 5
    assert mended > 100 if which == "newest" else mended == 0
    data_of(filled).write_bytes(intact)
    assert reopen(filled) == 0
    assert filled.keys(filled.bucket_id) == filled.expected
    filled.close()


def test_a_failed_sync_ends_all_writing_and_no_successor_believes_the_page_cache(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(environment: lmdb.Environment) -> None:
        raise lmdb.Error("Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(catalogcheckpoint, "sync_pages", fail)
        failing.setattr(catalogcheckpoint, "INTERVAL_S", 0.0)
        filled.put(filled.bucket_id, "zzz")  # begins a checkpoint; its own records are durable
        checkpoints = filled.tables.checkpoints
        assert checkpoints is not None and checkpoints._thread is not None
        checkpoints._thread.join()
        filled.core.rest()
        assert filled.core.read_only is not None and "Input/output error" in filled.core.read_only
        with pytest.raises(errors.StoreReadOnly, match="Input/output error"):
            filled.put(filled.bucket_id, "refused")
        die(filled)
    assert (filled.root / "catalog" / FAILED).exists()
    filled.settings = replace(filled.settings, is_successor=True)
    with pytest.raises(errors.StoreReadOnly, match="start it again"):
        filled.open()
    filled.settings = replace(filled.settings, is_successor=False)
    assert reopen(filled) == 41
    assert not (filled.root / "catalog" / FAILED).exists()
    assert filled.keys(filled.bucket_id) == [*filled.expected, "zzz"]
    filled.close()


def test_where_the_map_is_nearly_full_no_commit_begins_without_a_checkpoint(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """liblmdb that finds the map full while it commits ends all writing: pages must not wait for a checkpoint then."""
    checkpoints = filled.tables.checkpoints
    assert checkpoints is not None
    made = checkpoints.made
    filled.put(filled.bucket_id, "roomy")
    filled.core.change_rows(lambda transaction: None)
    assert checkpoints.made == made
    monkeypatch.setattr(type(checkpoints), "is_tight", property(lambda self: True))
    filled.put(filled.bucket_id, "tight")
    assert checkpoints.made == made + 1
    filled.core.change_rows(lambda transaction: None)  # compaction's own
    assert checkpoints.made == made + 2
    filled.close()


def test_a_map_is_nearly_full_when_little_of_it_was_never_used(tmp_path: Path) -> None:
    store = CommittedStore(tmp_path, map_bytes=2 << 20)
    bucket = store.bucket()
    checkpoints = store.tables.checkpoints
    assert checkpoints is not None and not checkpoints.is_tight
    for number in range(200):
        store.put(bucket, f"{number:03}" + "k" * 400, b"")
        if checkpoints.is_tight:
            break
    else:
        pytest.fail("it never was")
    assert data_of(store).stat().st_size >= (2 << 20) * 3 // 4 - 64 * PAGE
    store.close()


def test_a_checkpoint_is_made_beside_the_commits_and_once_more_when_they_end(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = filled.tables.checkpoints
    assert checkpoints is not None
    filled.tables.sync()
    assert filled.core.rest_s is None
    monkeypatch.setattr(catalogcheckpoint, "INTERVAL_S", 0.0)
    made, number = checkpoints.made, checkpoint_of(filled).number
    filled.put(filled.bucket_id, "zzz")
    assert filled.core.rest_s is not None
    while checkpoints.made == made:
        filled.core.rest()
    assert checkpoint_of(filled).number == number + 1
    assert filled.core.rest_s is None
    filled.core.rest()
    assert checkpoint_of(filled).number == number + 1  # nothing was committed: nothing to do
    filled.close()


def test_a_store_is_marked_before_its_first_checkpoint_so_that_older_versions_refuse_it(tmp_path: Path) -> None:
    from rs3d.clock import SystemClock
    from rs3d.crypto.masterkey import MasterKey
    from rs3d.format.storemeta import CHECKPOINTS
    from rs3d.stores.layoutmeta import create_store, read_store_meta, replace_store_meta

    root = str(tmp_path / "store")
    os.mkdir(root)
    meta = create_store(root, MasterKey(bytes(range(32)), "test"), clock=SystemClock())
    assert meta.features == (CHECKPOINTS,)
    replace_store_meta(root, replace(meta, features=()))
    settings = CommitterSettings(store_id=meta.store_id, segment_bytes=256 << 10, map_bytes=64 << 20)
    opened = open_committer(root, settings)
    assert read_store_meta(root) == meta
    opened.close()


def test_dump_tells_what_a_checkpoint_is_of(filled: Filled, capsys: pytest.CaptureFixture[str]) -> None:
    path = filled.root / "catalog" / CHECKPOINT
    assert main(["dump", str(path), "--json"]) == 0
    dump = json.loads(capsys.readouterr().out)
    commit = decode_meta(memoryview(checkpoint_of(filled).meta), 0).commit
    assert dump["kind"] == "checkpoint"
    assert [piece["fields"] for piece in dump["pieces"]] == [
        {"number": checkpoint_of(filled).number, "state": "open", "commit": commit}
    ] * 2
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)
    assert main(["dump", str(path)]) == 1
    assert "CRC does not hold" in capsys.readouterr().out
    filled.close()


def test_settling_a_catalog_that_is_not_there_begins_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    file = settle(str(tmp_path / "catalog"), SYSTEM_FILES)
    assert file is not None
    assert file.newest.state is CheckpointState.EMPTY
    file.close()
    settle_for_reading(str(tmp_path / "nowhere"), SYSTEM_FILES)
