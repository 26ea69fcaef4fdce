"""Collecting garbage and sweeping orphans, over a catalog of a few rows."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from rs3d.errors import BlobDamaged, OutcomeUnknown, RecordDamaged
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.damage import DAMAGE_SETTING
from rs3d.stores.garbage import Collected, collect_once
from rs3d.stores.horizon import Horizon
from rs3d.stores.layout import make_directories
from rs3d.stores.memoryblobs import MemoryBlobStore
from rs3d.stores.sweep import OrphanRule, sweep_once
from rs3d.types.chunks import PinBatch
from rs3d.types.identifiers import BlobId, SegmentId, Sequence, UploadId
from tests.conformance.blobstore import SEGMENT, put


class Row(NamedTuple):
    blob: BlobId
    death: Sequence


class SetRow(NamedTuple):
    upload: UploadId


class Segment(NamedTuple):
    segment: SegmentId
    closed: bool
    swept: bool


class Rows:
    """A catalog that is three tables, and its own view; `reads` counts views."""

    def __init__(self) -> None:
        self.garbage_rows: dict[BlobId, Sequence] = {}
        self.blob_rows: set[BlobId] = set()
        self.segments: dict[SegmentId, Segment] = {}
        self.sets: dict[UploadId, int] = {}
        self.reads = 0
        self.settings: dict[str, bytes] = {}
        self.pinned: dict[tuple[BlobId, int], tuple[bytes, ...]] = {}
        self.damaged: set[BlobId] = set()
        """Manifests the records of whose pins cannot be read."""

    def setting(self, name: str) -> bytes | None:
        return self.settings.get(name)

    @contextmanager
    def snapshot(self) -> Iterator[Rows]:
        self.reads += 1
        yield self

    def garbage(self, after: BlobId | None = None) -> Iterator[Row]:
        return iter([Row(*row) for row in sorted(self.garbage_rows.items()) if after is None or row[0] > after])

    def garbage_sets(self) -> Iterator[SetRow]:
        return iter([SetRow(upload) for upload in self.sets])

    def blobs(self, segment: SegmentId | None = None) -> Iterator[tuple[BlobId, object]]:
        return iter([(blob, None) for blob in sorted(self.blob_rows) if blob.segment == segment])

    def blob_segments(self) -> Iterator[Segment]:
        return iter(self.segments.values())

    def pins(self, segment: SegmentId | None = None) -> Iterator[PinBatch]:
        for (manifest, batch), hashes in sorted(self.pinned.items()):
            if segment in (None, manifest.segment):
                yield PinBatch(manifest, batch, len(hashes))

    def pin_batches(self, manifest: BlobId) -> list[PinBatch]:
        return [found for found in self.pins() if found.manifest == manifest]

    def pinned_hashes(self, manifest: BlobId, batch: int) -> tuple[bytes, ...]:
        if manifest in self.damaged:
            raise RecordDamaged(what="log segment 3 at offset 128", reason="its CRC does not hold")
        return self.pinned[manifest, batch]

    def free_chunks(self, manifest: BlobId, batch: int, hashes: tuple[bytes, ...]) -> None:
        assert self.pinned.pop((manifest, batch)) == hashes

    def drop(self, blobs: tuple[BlobId, ...]) -> None:
        for blob in blobs:
            self.garbage_rows.pop(blob, None)

    def mark_swept(self, segment: SegmentId) -> None:
        self.segments[segment] = self.segments[segment]._replace(swept=True)


def blob(number: int) -> BlobId:
    return BlobId(SEGMENT, number)


@pytest.fixture
def local(tmp_path: pathlib.Path) -> Iterator[LocalBlobStore]:
    make_directories(str(tmp_path / "store"))
    store = LocalBlobStore(str(tmp_path / "store"))
    store.make_segment(SEGMENT)
    yield store
    store.close()


def test_store_rule_15_only_what_no_reader_can_see_is_unlinked(local: LocalBlobStore) -> None:
    rows, horizon = Rows(), Horizon()
    for number in range(4):
        put(local, number, b"x")
        rows.garbage_rows[blob(number)] = Sequence(100 + number)
    slot = horizon.enter(Sequence(101))
    assert collect_once(rows, horizon.minimum, local, rows.drop) == Collected(unlinked=2, held=2, freed_sets=0)
    assert local.list_segment(SEGMENT) == [blob(2), blob(3)] == list(rows.garbage_rows)
    horizon.leave(slot)
    assert collect_once(rows, horizon.minimum, local, rows.drop) == Collected(unlinked=2, held=0, freed_sets=0)
    assert local.list_segment(SEGMENT) == []


def test_store_rule_07_nothing_is_unlinked_while_a_loss_is_not_acknowledged(local: LocalBlobStore) -> None:
    rows = Rows()
    put(local, 1, b"x")
    rows.garbage_rows[blob(1)] = Sequence(100)
    rows.settings[DAMAGE_SETTING] = b"lost"
    assert collect_once(rows, lambda: Sequence(10**9), local, rows.drop) == Collected(0, 0, 0)
    rows.segments[SEGMENT] = Segment(SEGMENT, closed=True, swept=False)
    assert sweep_once(rows, local, rows.mark_swept, rows.free_chunks).orphans == ()
    assert local.list_segment(SEGMENT) == [blob(1)]


def test_store_rule_15_a_reader_that_appears_after_the_rows_were_read_is_seen(local: LocalBlobStore) -> None:
    rows, horizon = Rows(), Horizon()
    put(local, 1, b"x")
    rows.garbage_rows[blob(1)] = Sequence(100)

    def minimum_with_late_reader() -> Sequence:
        assert rows.reads == 1  # rows first, pages second
        horizon.enter(Sequence(99))
        return horizon.minimum()

    assert collect_once(rows, minimum_with_late_reader, local, rows.drop).held == 1
    local.open(blob(1)).close()


def test_store_rule_13_rows_stay_until_the_files_are_gone_and_a_repeat_is_harmless(local: LocalBlobStore) -> None:
    rows, horizon = Rows(), Horizon()
    put(local, 1, b"x")
    rows.garbage_rows[blob(1)] = Sequence(1)

    def committer_dies(blobs: tuple[BlobId, ...]) -> None:
        assert local.list_segment(SEGMENT) == []
        raise OutcomeUnknown(reason="the committer died")

    with pytest.raises(OutcomeUnknown):
        collect_once(rows, horizon.minimum, local, committer_dies)
    assert collect_once(rows, horizon.minimum, local, rows.drop).unlinked == 1
    assert not rows.garbage_rows


def test_a_long_list_goes_in_steps_behind_rows_that_are_held(local: LocalBlobStore) -> None:
    rows, memory, steps = Rows(), MemoryBlobStore(), []
    for number in range(2500):
        rows.garbage_rows[blob(number)] = Sequence(5 if number < 1200 else 3)

    def commit(blobs: tuple[BlobId, ...]) -> None:
        steps.append(len(blobs))
        rows.drop(blobs)

    done = collect_once(rows, lambda: Sequence(4), memory, commit)
    assert (done.unlinked, done.held, steps) == (1300, 1200, [800, 500])


def test_store_rule_16_members_of_dead_sets_are_freed_step_by_step() -> None:
    rows = Rows()
    rows.sets[UploadId(Sequence(9), bytes(16))] = 2500
    steps = []

    def free(upload: UploadId) -> int:
        rows.sets[upload] = max(0, rows.sets[upload] - 1000)
        steps.append(rows.sets[upload])
        return rows.sets[upload]

    done = collect_once(rows, lambda: Sequence(1), MemoryBlobStore(), rows.drop, free)
    assert (steps, done.freed_sets) == ([1500, 500, 0], 1)


@pytest.fixture
def swept_rows(local: LocalBlobStore) -> Rows:
    """Blob 1 is referred to, 2 is garbage, 3 an orphan, 4 an orphan without a sidecar."""
    rows = Rows()
    for number in (1, 2, 3):
        put(local, number, b"x")
    writer = local.create(blob(4))
    writer.write(memoryview(b"half"))
    rows.blob_rows = {blob(1)}
    rows.garbage_rows = {blob(2): Sequence(1)}
    rows.segments[SEGMENT] = Segment(SEGMENT, closed=True, swept=False)
    return rows


def test_store_rule_10_orphans_of_closed_epochs_are_swept(local: LocalBlobStore, swept_rows: Rows) -> None:
    done = sweep_once(swept_rows, local, swept_rows.mark_swept, swept_rows.free_chunks)
    assert (done.segments, done.orphans) == (1, (blob(3), blob(4)))
    assert local.list_segment(SEGMENT) == [blob(1), blob(2)]
    assert sweep_once(swept_rows, local, swept_rows.mark_swept, swept_rows.free_chunks).segments == 0


def test_store_rule_10_an_upload_in_flight_is_never_an_orphan(local: LocalBlobStore, swept_rows: Rows) -> None:
    swept_rows.segments[SEGMENT] = Segment(SEGMENT, closed=False, swept=False)
    assert sweep_once(swept_rows, local, swept_rows.mark_swept, swept_rows.free_chunks).segments == 0
    assert len(local.list_segment(SEGMENT)) == 4


def test_store_rule_07_after_a_loss_orphans_are_quarantined(
    local: LocalBlobStore, swept_rows: Rows, tmp_path: pathlib.Path
) -> None:
    sweep_once(swept_rows, local, swept_rows.mark_swept, swept_rows.free_chunks, OrphanRule.QUARANTINE)
    names = sorted(path.name.split("-")[1] for path in (tmp_path / "store" / "quarantine").iterdir())
    assert names == ["00000003.data", "00000003.meta", "00000003.note", "00000004.data", "00000004.note"]
    assert local.list_segment(SEGMENT) == [blob(1), blob(2)]


def test_the_directory_of_an_empty_segment_goes_with_its_last_orphan(local: LocalBlobStore) -> None:
    rows = Rows()
    put(local, 7, b"x")
    rows.segments[SEGMENT] = Segment(SEGMENT, closed=True, swept=False)
    sweep_once(rows, local, rows.mark_swept, rows.free_chunks)
    assert local.list_segments() == []


def test_blobs_of_a_neighbouring_segment_are_not_taken_for_known(local: LocalBlobStore) -> None:
    rows = Rows()
    put(local, 7, b"x")
    neighbours = {BlobId(SegmentId(SEGMENT + 1), 7), BlobId(SegmentId(SEGMENT - 1), 7)}
    rows.blob_rows = set(neighbours)
    rows.garbage_rows = dict.fromkeys(neighbours, Sequence(1))
    rows.segments[SEGMENT] = Segment(SEGMENT, closed=True, swept=False)
    assert sweep_once(rows, local, rows.mark_swept, rows.free_chunks).orphans == (blob(7),)
    with pytest.raises(BlobDamaged):
        local.open(blob(7))


def pin(rows: Rows, number: int, batches: int) -> BlobId:
    for batch in range(batches):
        rows.pinned[blob(number), batch] = (bytes([number, batch]) * 16,)
    return blob(number)


def test_the_pins_of_a_dead_manifest_are_freed_before_its_files_go(local: LocalBlobStore) -> None:
    rows = Rows()
    put(local, 1, b"x")
    rows.garbage_rows[pin(rows, 1, 3)] = Sequence(5)
    put(local, 2, b"x")
    rows.garbage_rows[pin(rows, 2, 1)] = Sequence(9)
    freed: list[int] = []

    def free(manifest: BlobId, batch: int, hashes: tuple[bytes, ...]) -> None:
        assert local.list_segment(SEGMENT) == [blob(1), blob(2)], "the files are still there"
        rows.free_chunks(manifest, batch, hashes)
        freed.append(batch)

    done = collect_once(rows, lambda: Sequence(5), local, rows.drop, None, free)
    assert (done.unlinked, done.held, done.freed_batches, freed) == (1, 1, 3, [0, 1, 2])
    assert local.list_segment(SEGMENT) == [blob(2)]


def test_freeing_pins_goes_on_where_it_was_interrupted(local: LocalBlobStore) -> None:
    rows = Rows()
    put(local, 1, b"x")
    rows.garbage_rows[pin(rows, 1, 3)] = Sequence(5)

    def dies_at_the_second(manifest: BlobId, batch: int, hashes: tuple[bytes, ...]) -> None:
        if batch == 1:
            raise OutcomeUnknown(reason="the committer died")
        rows.free_chunks(manifest, batch, hashes)

    with pytest.raises(OutcomeUnknown):
        collect_once(rows, lambda: Sequence(5), local, rows.drop, None, dies_at_the_second)
    assert list(rows.garbage_rows) == local.list_segment(SEGMENT) == [blob(1)]
    done = collect_once(rows, lambda: Sequence(5), local, rows.drop, None, rows.free_chunks)
    assert (done.unlinked, done.freed_batches) == (1, 2)


def test_a_manifest_whose_pins_cannot_be_read_stays_and_holds_nothing_else_up(local: LocalBlobStore) -> None:
    rows = Rows()
    for number in (1, 2, 3):
        put(local, number, b"x")
        rows.garbage_rows[pin(rows, number, 1)] = Sequence(5)
    rows.damaged.add(blob(2))
    done = collect_once(rows, lambda: Sequence(5), local, rows.drop, None, rows.free_chunks)
    assert (done.unlinked, done.held, done.freed_batches) == (2, 1, 2)
    assert list(rows.garbage_rows) == local.list_segment(SEGMENT) == [blob(2)]
    assert list(rows.pinned) == [(blob(2), 0)]


def test_a_record_that_compaction_moved_meanwhile_is_looked_up_again(local: LocalBlobStore) -> None:
    rows = Rows()
    put(local, 1, b"x")
    rows.garbage_rows[pin(rows, 1, 2)] = Sequence(5)
    read, moved = rows.pinned_hashes, [True]

    def moved_once(manifest: BlobId, batch: int) -> tuple[bytes, ...]:
        if batch == 1 and moved:
            moved.clear()
            raise RecordDamaged(what="log segment 3", reason="is missing")
        return read(manifest, batch)

    rows.pinned_hashes = moved_once  # type: ignore[method-assign]
    done = collect_once(rows, lambda: Sequence(5), local, rows.drop, None, rows.free_chunks)
    assert (done.unlinked, done.freed_batches, moved) == (1, 2, [])


def test_blobs_that_pin_chunks_stay_where_nobody_frees_them(local: LocalBlobStore) -> None:
    rows = Rows()
    put(local, 1, b"x")
    rows.garbage_rows[pin(rows, 1, 1)] = Sequence(5)
    assert collect_once(rows, lambda: Sequence(5), local, rows.drop).held == 1
    assert local.list_segment(SEGMENT) == [blob(1)]


def test_store_rule_10_what_a_body_that_was_never_committed_pinned_is_freed_by_the_sweep(
    local: LocalBlobStore, swept_rows: Rows
) -> None:
    for number in (1, 2, 3):  # referred to, garbage, and an orphan
        pin(swept_rows, number, 2)
    pin(swept_rows, 77, 1)  # its files never came to be
    done = sweep_once(swept_rows, local, swept_rows.mark_swept, swept_rows.free_chunks)
    assert done.freed_batches == 3
    assert {manifest for manifest, _ in swept_rows.pinned} == {blob(1), blob(2)}


def test_a_segment_whose_pins_cannot_be_freed_stays_to_be_swept(local: LocalBlobStore, swept_rows: Rows) -> None:
    swept_rows.damaged.add(pin(swept_rows, 3, 1))
    with pytest.raises(RecordDamaged):
        sweep_once(swept_rows, local, swept_rows.mark_swept, swept_rows.free_chunks)
    assert not swept_rows.segments[SEGMENT].swept
    assert blob(3) in local.list_segment(SEGMENT)


def test_store_rule_10_pins_of_an_upload_in_flight_are_nobodys_but_its_own(
    local: LocalBlobStore, swept_rows: Rows
) -> None:
    swept_rows.segments[SEGMENT] = Segment(SEGMENT, closed=False, swept=False)
    pin(swept_rows, 3, 1)
    sweep_once(swept_rows, local, swept_rows.mark_swept, swept_rows.free_chunks)
    assert (blob(3), 0) in swept_rows.pinned
