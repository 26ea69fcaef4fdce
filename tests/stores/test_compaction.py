"""Compaction: the log shrinks, the catalog means the same, and replaying what is left gives it again (STORE.md 3,
PITFALLS D2)."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from types import GeneratorType

import pytest

from rs3d.errors import InvalidArgument, OutcomeUnknown, RecordDamaged
from rs3d.format.rows import LOG_DEAD, LOG_REPLACED, LOG_SEGMENT, LogSegmentRow
from rs3d.stores.compaction import Compacted, compact
from rs3d.stores.compactionmoves import unfinished_moves
from rs3d.stores.logreader import segment_names
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BucketId, Sequence
from rs3d.types.objects import BlobSet, Extent, Inline, MutablePart
from tests.crash.recording import replaced
from tests.stores.committed import CommittedStore, live_bytes, rows_without_positions


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    opened = CommittedStore(tmp_path, segment_bytes=64 << 10)
    yield opened
    opened.close()


def run(store: CommittedStore, first: int = 0, last: int = 0) -> Compacted:
    done = Compacted()
    for _ in compact(store.core, first=first, last=last, result=done):
        pass
    return done


def segments(store: CommittedStore) -> dict[int, LogSegmentRow]:
    table = store.tables.log_segments
    with store.tables.environment.begin() as view:
        return {
            int.from_bytes(key, "big"): LogSegmentRow._make(LOG_SEGMENT.unpack(table.unseal(key, sealed)))
            for key, sealed in view.cursor(db=table.handle)
        }


def busy_history(store: CommittedStore) -> BucketId:
    """Overwrites, versions, patches, markers, copies, multipart, removed buckets, settings: alive and dead."""
    bucket = store.bucket()
    store.versioning(bucket, Versioning.ENABLED)
    gone = store.bucket("gone")
    store.put(gone, "x")
    store.remove(gone, "x")
    store.commit(ops.RemoveBucket(id=store.id(), bucket=gone))
    kept = store.put(bucket, "patched")
    with store.view() as view:
        found = view.latest(bucket, "patched")
    assert found is not None
    for revision in range(3):
        tags = (("n", str(revision)),)
        store.commit(
            ops.PatchVersion(
                id=store.id(),
                bucket=bucket,
                key="patched",
                version=found.version,
                mutable=MutablePart(revision=revision, tags=tags),
            )
        )
    upload = store.open_upload(bucket, "multipart")
    for number in (1, 2, 3):
        store.put_part(bucket, "multipart", upload, number, 100)
    store.complete(bucket, "multipart", upload, (1, 3))
    store.copy_set(bucket, "copy of multipart", upload, 200)
    with store.view() as view:
        original = view.latest(bucket, "multipart")
    assert original is not None
    store.remove(bucket, "multipart", original.version)
    aborted = store.open_upload(bucket, "aborted")
    store.put_part(bucket, "aborted", aborted, 1, 100)
    store.commit(ops.AbortUpload(id=store.id(), bucket=bucket, key="aborted", upload=aborted))
    store.versioning(bucket, Versioning.SUSPENDED)
    blob = store.put_blob(bucket, "blob")
    with store.view() as view:
        latest = view.latest(bucket, "blob")
    assert latest is not None
    store.put(bucket, "copy of blob", placement=latest.placement, meta=latest.meta)
    store.remove(bucket, "blob")
    for number in range(60):
        store.put(bucket, f"overwritten {number % 7}", bytes(4000))
    for number in range(3):
        store.remove(bucket, f"overwritten {number}", "null")
    store.remove(bucket, "overwritten 3")
    store.commit(ops.PutSetting(id=store.id(), name="a", value=b"1"))
    store.commit(ops.PutSetting(id=store.id(), name="a", value=b""))
    store.commit(ops.PutSetting(id=store.id(), name="b", value=b"2"))
    assert kept.sequence and blob
    return bucket


def test_store_rule_03_compaction_keeps_every_row_and_payload(store: CommittedStore) -> None:
    bucket = busy_history(store)
    before = rows_without_positions(store.tables)
    before_live = live_bytes(store.tables)
    done = run(store)
    assert done.sources and done.kept_bytes < done.source_bytes
    after = rows_without_positions(store.tables)
    assert after == before
    assert before_live - live_bytes(store.tables) < 1000  # only what SET_KEPT no longer says
    assert all(segments(store)[number].live_bytes == 0 for number in done.sources)
    with store.view() as view:
        for key, row in view.list_objects(bucket, b"", b""):
            found = view.latest(bucket, key.decode())
            assert found is not None and found.meta.size_bytes == row.size_bytes
            if isinstance(found.placement, BlobSet):
                assert [part.number for part in view.set_parts(found)] == [1, 3]
        latest = view.latest(bucket, "overwritten 6")
        assert latest is not None and view.inline_payload(latest) == bytes(4000)


@pytest.mark.parametrize("runs", [[(0, 0)], [(2, 3)], [(2, 2), (1, 0)], [(3, 4), (1, 2)]])
def test_store_rule_08_a_compacted_log_replays_to_the_same_tables(
    store: CommittedStore, runs: list[tuple[int, int]]
) -> None:
    busy_history(store)
    store.close_epoch()
    for first, last in runs:
        run(store, first, last)
    before = rows_without_positions(store.tables)
    store.without_catalog()
    store.close_epoch()
    after = rows_without_positions(store.tables)
    assert after == before


def test_replaced_segments_are_unlinked_only_when_they_are_dropped(store: CommittedStore, tmp_path: Path) -> None:
    busy_history(store)
    last = store.core.clock.last
    done = run(store)
    with store.view() as view:
        dead = list(view.replaced_log_segments())
    assert [number for number, _ in dead] == list(done.sources)
    assert all(death > done.sequence > last for _, death in dead)
    names = {path.name for path in (tmp_path / "log").iterdir()}
    assert all(f"{number:010d}.meta" in names for number in done.sources)
    store.commit(ops.DropLogSegments(id=store.id(), numbers=done.sources))
    left = {path.name for path in (tmp_path / "log").iterdir()}
    assert names - left == {f"{number:010d}.meta" for number in done.sources}
    with store.view() as view:
        assert list(view.replaced_log_segments()) == []
    store.reopen()


def test_a_segment_that_is_part_of_the_log_is_not_dropped(store: CommittedStore) -> None:
    busy_history(store)
    with pytest.raises(InvalidArgument):
        store.commit(ops.DropLogSegments(id=store.id(), numbers=(1,)))


@pytest.mark.parametrize("steps", range(2, 12))
def test_store_rule_03_a_compaction_cut_short_anywhere_leaves_a_whole_store(store: CommittedStore, steps: int) -> None:
    bucket = busy_history(store)
    before = rows_without_positions(store.tables)
    work = compact(store.core, first=0, last=0, result=Compacted())
    assert isinstance(work, GeneratorType)
    for _ in range(steps):
        next(work, None)
    store.close()
    store.clock.advance(1)
    with contextlib.suppress(OSError):  # its end would remove the temporary file, which a crash leaves
        work.close()
    store.open()
    for _ in unfinished_moves(store.core):
        pass
    assert {row.state for row in segments(store).values()} & {LOG_REPLACED} == set()
    after = rows_without_positions(store.tables)
    for tables in (before, after):
        del tables["epochs"]
    before["operations"] = after["operations"] = {}
    assert after == before
    with store.view() as view:
        for key, _ in view.list_objects(bucket, b"", b""):
            assert view.latest(bucket, key.decode()) is not None


@pytest.mark.parametrize("compactions", [0, 1, 2])
def test_d02_a_run_whose_record_only_the_log_has_is_kept_and_completed(store: CommittedStore, compactions: int) -> None:
    """Death between the log's sync and the catalog's commit of `segments replaced`; then so many compactions more."""
    bucket = busy_history(store)
    keys = store.keys(bucket)
    with only_the_log_has(store), pytest.raises(OutcomeUnknown):
        run(store)
    store.reopen()
    for number in range(compactions):
        complete(store)
        keys.append(f"after {number}")
        for size in (3000, 30_000):
            store.put(bucket, keys[-1], bytes(size))
            store.core.log.rotate(store.core.clock.now_ns())
        run(store)
        store.reopen()
    complete(store)
    store.reopen()
    assert store.keys(bucket) == sorted(keys)
    store.without_catalog()
    assert store.keys(bucket) == sorted(keys)
    with store.view() as view:
        for key in keys:
            found = view.latest(bucket, key)
            assert found is not None and (not isinstance(found.placement, Inline) or view.inline_payload(found))


def test_d02_what_an_earlier_run_replaced_is_told_by_the_run_that_replaces_it(store: CommittedStore) -> None:
    """Two compactions, and of what they replaced only the files of the second one are unlinked when the power
    and the catalog are lost."""
    bucket = busy_history(store)
    first = run(store)
    store.put(bucket, "between", bytes(20_000))
    store.core.log.rotate(store.core.clock.now_ns())
    keys = store.keys(bucket)
    second = run(store, 1, store.core.log.number - 1)
    assert first.number in second.sources and set(first.sources) < set(second.sources)
    store.core.log.unlink_segments(tuple(set(second.sources) - {first.number, *first.sources}))
    store.without_catalog()
    assert store.keys(bucket) == keys
    complete(store)
    left = {name.number for name in segment_names(str(store.root / "log")).values()}
    assert second.number in left and not left & set(second.sources)


@contextlib.contextmanager
def only_the_log_has(store: CommittedStore) -> Iterator[None]:
    """What is committed now is synced in the log, and no more is done."""
    flush = store.core.log.flush

    def flush_and_die() -> None:
        flush()
        raise OSError(errno.EIO, "the process dies here")

    with replaced((store.core.log, "flush", flush_and_die)):
        yield


def complete(store: CommittedStore) -> None:
    """What a committer does in the background after an opening, and the collector."""
    for _ in unfinished_moves(store.core):
        pass
    states = segments(store)
    assert LOG_REPLACED not in {row.state for row in states.values()}
    dead = tuple(number for number, row in states.items() if row.state == LOG_DEAD)
    store.commit(ops.DropLogSegments(id=store.id(), numbers=dead))


def test_a_damaged_source_stops_the_compaction_and_changes_nothing(store: CommittedStore, tmp_path: Path) -> None:
    busy_history(store)
    before = rows_without_positions(store.tables)
    path = tmp_path / "log" / f"{1:010d}.meta"
    raw = bytearray(path.read_bytes())
    raw[5000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(RecordDamaged):
        run(store)
    assert rows_without_positions(store.tables) == before
    assert not [name for name in (tmp_path / "log").iterdir() if "-" in name.name]


def test_store_rule_03_nothing_above_the_lowest_cursor_is_rewritten(store: CommittedStore) -> None:
    busy_history(store)
    lowest = segments(store)[1].last_sequence
    store.commit(ops.MoveCursor(id=store.id(), consumer="events", sequence=Sequence(lowest)))
    done = run(store)
    assert done.sources in ((), (1,))


def test_a_run_may_be_compacted_again(store: CommittedStore) -> None:
    bucket = busy_history(store)
    first = run(store)
    for number in range(7):
        store.put(bucket, f"overwritten {number}", b"new")
    again = run(store, 1, 0)
    assert first.number in again.sources
    store.commit(ops.DropLogSegments(id=store.id(), numbers=(*first.sources, *again.sources)))
    before = rows_without_positions(store.tables)
    store.reopen()
    after = rows_without_positions(store.tables)
    assert before["versions"] == after["versions"]
    assert segments(store)[again.number].state != LOG_DEAD


def test_what_older_records_keep_from_being_dropped_is_not_rewritten_again_and_again(store: CommittedStore) -> None:
    bucket = store.bucket()
    for number in range(40):
        store.put(bucket, f"kept {number}", bytes(4000))
    for number in range(300):
        store.put(bucket, f"gone {number}", b"x")
        store.remove(bucket, f"gone {number}")
    for number in range(20):
        store.put(bucket, f"kept {number}", bytes(4000))
    done = [run(store) for _ in range(4)]
    assert done[0].sequence and 0 < done[0].kept_bytes < done[0].source_bytes
    rows = segments(store)
    assert rows[done[0].number].live_bytes < rows[done[0].number].record_bytes / 2, "its records are removals"
    assert not done[-1].sequence, [one.sources for one in done]
    for number in range(20):  # what dies later makes it worth it again, the old run with it
        store.put(bucket, f"kept {number}", b"")
    assert run(store).sequence


def fill_segment(store: CommittedStore, bucket: BucketId) -> None:
    """Put until a new log segment has begun."""
    before = len(segments(store))
    while len(segments(store)) == before:
        store.put(bucket, "filling", b"x" * 4000)


def test_segments_without_records_between_those_of_a_run_are_replaced_with_it(store: CommittedStore) -> None:
    bucket = store.bucket()
    for number in range(3):
        store.put(bucket, f"k{number}", b"v")
        store.reopen()
        store.without_catalog()  # the records of the last segment move to the next one and leave it empty
    before = set(segments(store))
    done = run(store, 1, 0)
    assert set(done.sources) == set(range(1, max(done.sources) + 1)) > before & set(done.sources)
    assert {segments(store)[number].state for number in done.sources} == {LOG_DEAD}
    store.commit(ops.DropLogSegments(id=store.id(), numbers=done.sources))
    store.without_catalog()
    assert store.keys(bucket) == ["k0", "k1", "k2"]


def test_a_blob_that_dies_only_in_a_replay_leaves_the_garbage_when_it_is_referred_to_again(
    store: CommittedStore,
) -> None:
    bucket = store.bucket()
    blob = store.put_blob(bucket, "first")
    placement = Extent(blob, 0, 100_000)
    fill_segment(store, bucket)
    store.put(bucket, "between", size=100_000, placement=placement)
    fill_segment(store, bucket)
    store.remove(bucket, "first")
    store.put(bucket, "last", size=100_000, placement=placement)
    store.remove(bucket, "between")
    fill_segment(store, bucket)
    assert run(store, 2, 2).sources == (2,)  # the copy that had kept the blob alive in between is dropped
    store.without_catalog()
    with store.view() as view:
        assert view.blob_references(blob) == 1
        assert blob not in {row.blob for row in view.garbage()}
