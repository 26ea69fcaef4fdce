"""Opening after a crash: the log's valid end is applied, its torn end is dropped, damage is named (STORE.md 1, 2, 6,
7, 8)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rs3d.errors import FormatUnknown, NoSuchBucket, OutcomeUnknown, RecordDamaged, StoreDamaged, StoreReadOnly
from rs3d.format.logsegment import HEADER_BYTES, decode_header
from rs3d.format.record import append_record
from rs3d.stores.catalogsnapshot import Snapshot
from rs3d.stores.committeropen import CommitterSettings, open_committer
from rs3d.stores.damage import DAMAGE_SETTING
from rs3d.stores.logreader import ScanEnd, read_header, scan_records, segment_names
from rs3d.stores.replay import Loss
from rs3d.types.identifiers import BucketId
from rs3d.types.operations import PutSetting
from tests.stores.catalogcopies import count_as_it_is
from tests.stores.committed import STORE_ID, CommittedStore, rows_without_positions
from tests.stores.faultfiles import IO_ERROR, Fault, FaultFiles


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    (tmp_path / "store").mkdir()
    opened = CommittedStore(tmp_path / "store", segment_bytes=64 << 10)
    yield opened
    opened.close()


def catalog_of_before(store: CommittedStore, bucket: BucketId, *keys: str) -> list[int]:
    """Commit `keys` one by one, then put the catalog of before in place, as a power cut may. Leaves the store closed.

    Returns:
        The offsets in the active segment behind each of the records.
    """
    store.opened.core.tables.environment.sync(True)
    aside = store.root.parent / "catalog of before"
    store.tables.environment.copy(str(_made(aside)))
    ends = [store.core.log.offset]
    for key in keys:
        store.put(bucket, key, key.encode())
        ends.append(store.core.log.offset)
    store.close()
    shutil.copy(aside / "data.mdb", store.root / "catalog" / "data.mdb")
    count_as_it_is(store.root)
    return ends


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def active_segment(store: CommittedStore) -> Path:
    return store.root / "log" / f"{store.core.log.number:010d}.meta"


def test_store_rule_01_records_beyond_the_catalogs_tail_are_applied(store: CommittedStore) -> None:
    bucket = store.bucket()
    store.put(bucket, "before")
    catalog_of_before(store, bucket, "a", "b", "c")
    store.open()
    assert store.opened.recovered.applied == 3
    assert store.keys(bucket) == ["a", "b", "before", "c"]
    with store.view() as view:
        found = view.latest(bucket, "b")
        assert found is not None and view.inline_payload(found) == b"b"


def test_store_rule_01_the_surviving_tail_lies_in_a_new_segment(store: CommittedStore) -> None:
    bucket = store.bucket()
    old = store.core.log.number
    catalog_of_before(store, bucket, "a")
    store.open()
    with store.view() as view:
        found = view.latest(bucket, "a")
    assert found is not None and found.body_position.segment > old


@pytest.mark.parametrize("kept", [0, 1, 2])
@pytest.mark.parametrize("how", ["cut", "flip the first byte", "flip the last byte", "flip the middle"])
def test_store_rule_01_a_torn_tail_leaves_a_prefix(store: CommittedStore, kept: int, how: str) -> None:
    bucket = store.bucket()
    ends = catalog_of_before(store, bucket, "a", "b", "c")
    path = active_segment(store)
    raw = bytearray(path.read_bytes())
    begin, end = ends[kept], ends[kept + 1]
    if how == "cut":
        raw[begin + 50 : ends[-1]] = bytes(ends[-1] - begin - 50)
    else:
        raw[{"flip the first byte": begin, "flip the last byte": end - 8, "flip the middle": begin + 60}[how]] ^= 0x10
    path.write_bytes(raw)
    store.open()
    assert store.keys(bucket) == ["a", "b", "c"][:kept]
    store.put(bucket, "z")
    store.reopen()
    assert store.keys(bucket) == [*["a", "b", "c"][:kept], "z"]


def test_store_rule_08_the_next_sequence_is_above_the_dropped_tail(store: CommittedStore) -> None:
    bucket = store.bucket()
    store.clock.advance(3600)
    ends = catalog_of_before(store, bucket, "a")
    path = active_segment(store)
    raw = bytearray(path.read_bytes())
    raw[ends[0] + 60] ^= 1
    path.write_bytes(raw)
    store.clock.step_wall(-50)
    dropped = store.clock.wall_ns()
    store.open()
    assert store.put(bucket, "b").sequence > dropped + 49 * 10**9


def test_store_rule_02_records_of_another_segment_never_validate(store: CommittedStore) -> None:
    bucket = store.bucket()
    store.put(bucket, "first life")
    first = active_segment(store)
    store.reopen()
    store.put(bucket, "second life")
    end, second = store.core.log.offset, active_segment(store)
    store.close()
    raw = bytearray(second.read_bytes())
    stale = first.read_bytes()[HEADER_BYTES:8192]
    raw[end : end + len(stale)] = stale
    second.write_bytes(raw)
    store.open()
    assert store.opened.recovered.applied == 0
    assert store.keys(bucket) == ["first life", "second life"]


def test_store_rule_02_a_payload_that_looks_like_a_record_is_only_a_payload(store: CommittedStore) -> None:
    bucket = store.bucket()
    forged = bytearray()
    append_record(forged, seed=0, previous_crc=0, kind=10, sequence=1 << 62, body=b"\x80")
    store.put(bucket, "evil", bytes(forged) * 20)
    store.without_catalog()
    assert store.keys(bucket) == ["evil"]
    assert store.core.clock.last < 1 << 62


def test_store_rule_02_a_segment_is_never_reopened(store: CommittedStore) -> None:
    numbers = []
    for _ in range(3):
        numbers.append(store.core.log.number)
        store.reopen()
    assert numbers == sorted(set(numbers))


def test_the_offset_index_of_a_sealed_segment_finds_every_record(store: CommittedStore) -> None:
    from rs3d.format.logsegment import FOOTER_BYTES, decode_footer, decode_index
    from rs3d.format.record import HEAD_BYTES, decode_head

    bucket = store.bucket()
    first = active_segment(store)
    while active_segment(store) == first:
        store.put(bucket, "key", bytes(4000))
    raw = first.read_bytes()
    footer = decode_footer(raw[-FOOTER_BYTES:])
    assert footer is not None
    head = decode_head(raw, footer.seal_offset)
    assert head is not None
    start = footer.seal_offset + HEAD_BYTES + head.body_bytes
    offsets = decode_index(raw[start : start + head.payload_bytes])
    header = read_header(str(first))
    assert header is not None
    found = [
        record.offset for record in scan_records(str(first), header, ScanEnd(HEADER_BYTES, 0, 0), footer.seal_offset)
    ]
    assert offsets == found and len(found) == footer.record_count


def test_store_rule_05_a_version_whose_record_is_damaged_can_be_removed(store: CommittedStore) -> None:
    bucket = store.bucket()
    begin = store.core.log.offset
    store.put(bucket, "key", b"payload")
    path = active_segment(store)
    raw = bytearray(path.read_bytes())
    raw[begin + 60] ^= 1
    path.write_bytes(raw)
    with store.view() as view, pytest.raises(RecordDamaged):
        view.latest(bucket, "key")
    store.remove(bucket, "key")
    assert store.keys(bucket) == []


def test_store_rule_06_a_failed_sync_is_unknown_and_sticky(tmp_path: Path) -> None:
    files = FaultFiles()
    store = CommittedStore(tmp_path, files=files.as_files())
    bucket = store.bucket()
    store.core.log.preparation.wait()
    files.faults.append(Fault("sync_data", IO_ERROR))
    with pytest.raises(OutcomeUnknown):
        store.put(bucket, "unknown")
    with pytest.raises(StoreReadOnly):
        store.put(bucket, "later")
    with pytest.raises(StoreReadOnly):
        store.remove(bucket, "later")
    assert store.keys(bucket) == []
    files.faults.clear()
    store.close()
    store.open()
    assert store.keys(bucket) in ([], ["unknown"])  # its bytes lay in the page cache: either answer is legal
    store.put(bucket, "after")
    store.close()


def test_store_rule_06_a_failing_operation_leaves_no_record(store: CommittedStore) -> None:
    bucket = store.bucket()
    before = store.core.log.offset
    with pytest.raises(NoSuchBucket):
        store.put(BucketId(bucket + 1), "key")
    assert store.core.log.offset == before


def test_store_rule_06_one_bad_operation_fails_alone(store: CommittedStore) -> None:
    from rs3d.stores.submitted import Submitted

    bucket = store.bucket()
    bad = store.put_operation(bucket, "bad", etag="no etag at all")
    batch = [store.put_operation(bucket, "a"), bad, store.put_operation(bucket, "b")]
    replies = store.core.execute([Submitted(operation, store.epoch) for operation in batch])
    assert [reply.error is None for reply in replies] == [True, False, True]
    assert store.keys(bucket) == ["a", "b"]
    before = rows_without_positions(store.tables)
    store.close_epoch()
    store.without_catalog()
    assert rows_without_positions(store.tables)["versions"] == before["versions"]


def test_store_rule_07_a_missing_segment_is_damage_and_names_the_command(store: CommittedStore) -> None:
    bucket = store.bucket()
    for _ in range(40):
        store.put(bucket, "key", bytes(4000))
    store.close()
    (store.root / "log" / f"{1:010d}.meta").unlink()
    with pytest.raises(StoreDamaged, match="rs3d check"):
        store.open()
    for name in ("data.mdb", "lock.mdb"):
        (store.root / "catalog" / name).unlink()
    with pytest.raises(StoreDamaged, match="missing"):
        store.open()
    store.root = store.root.parent / "another"
    store.root.mkdir()
    store.open()


def test_store_rule_07_an_invalid_record_before_the_tail_is_damage_to_a_rebuild(store: CommittedStore) -> None:
    bucket = store.bucket()
    for _ in range(40):
        store.put(bucket, "key", bytes(4000))
    path = store.root / "log" / f"{1:010d}.meta"
    raw = bytearray(path.read_bytes())
    raw[9000] ^= 1
    path.write_bytes(raw)
    store.reopen()  # the catalog is whole, and does not need that record
    store.close()
    for name in ("data.mdb", "lock.mdb"):
        (store.root / "catalog" / name).unlink()
    with pytest.raises(StoreDamaged):
        store.open()
    store.root = store.root.parent / "another"
    store.root.mkdir()
    store.open()


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("damage", ["a record", "a segment"])
def test_store_rule_07_a_rebuild_that_accepts_loss_is_read_only_until_acknowledged(
    store: CommittedStore, sealed: bool, damage: str
) -> None:
    bucket = store.bucket()
    places = []
    for number in range(40):
        begin = store.core.log.number, store.core.log.offset
        store.put(bucket, f"{number:02d}", bytes(4000))
        places.append(begin if store.core.log.number == begin[0] else (0, 0))
    with store.view() as view:
        segments = {
            key: found.body_position.segment for key in store_keys(view, bucket) if (found := view.latest(bucket, key))
        }
    store.close()
    path = store.root / "log" / f"{2:010d}.meta"
    lost_segment = 2
    if damage == "a segment":
        path.unlink()
        lost = {key for key, segment in segments.items() if segment == lost_segment}
    else:
        raw = bytearray(path.read_bytes())
        offset = next(place[1] for place in places if place[0] == 2 and place[1] > 10_000)
        raw[offset + 100] ^= 1
        if not sealed:
            raw[-32:] = bytes(32)
        path.write_bytes(raw)
        lost = {f"{places.index((2, offset)):02d}"}
    for name in ("data.mdb", "lock.mdb"):
        (store.root / "catalog" / name).unlink()
    with pytest.raises(StoreDamaged):
        store.open()
    store.settings = replace(store.settings, loss=Loss.ACCEPT)
    store.open()
    assert store.opened.recovered.lost
    assert set(segments) - set(store.keys(bucket)) == lost
    store.settings = replace(store.settings, loss=Loss.REFUSE)
    store.reopen()
    with pytest.raises(StoreReadOnly, match="lost"):
        store.put(bucket, "new")
    store.commit(PutSetting(id=store.id(), name=DAMAGE_SETTING, value=b""))
    store.put(bucket, "new")
    store.reopen()
    store.put(bucket, "newer")


def store_keys(view: Snapshot, bucket: BucketId) -> list[str]:
    return [key.decode() for key, _ in view.list_objects(bucket, b"", b"")]


def test_store_rule_01_a_log_older_than_the_catalog_is_damage(store: CommittedStore) -> None:
    bucket = store.bucket()
    store.put(bucket, "kept")
    before, path = store.core.log.offset, active_segment(store)
    for key in ("a", "b"):
        store.put(bucket, key)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:before] + bytes(len(whole) - before))
    with pytest.raises(StoreDamaged, match="ends before"):
        store.open()
    raw = bytearray(whole)
    raw[200] ^= 1  # damage before the last record leaves the store usable
    path.write_bytes(raw)
    store.open()
    assert store.keys(bucket) == ["a", "b", "kept"]


def test_another_stores_log_is_refused(store: CommittedStore, tmp_path: Path) -> None:
    store.bucket()
    store.close()
    with pytest.raises((StoreDamaged, FormatUnknown)):
        open_committer(str(store.root), CommitterSettings(store_id=bytes(16), segment_bytes=64 << 10))
    store.open()


def test_a_prepared_segment_is_used_by_the_next_opener(store: CommittedStore) -> None:
    store.core.log.preparation.wait()
    spare = f"{store.core.log.number + 1:010d}.meta"
    inode = (store.root / "log" / spare).stat().st_ino
    store.reopen()
    assert active_segment(store).name == spare and active_segment(store).stat().st_ino == inode


def test_an_opening_gives_back_what_a_segment_was_prepared_for(store: CommittedStore) -> None:
    bucket = store.bucket()
    store.put(bucket, "key")
    old = active_segment(store)
    assert old.stat().st_blocks * 512 >= 64 << 10
    store.reopen()
    assert old.stat().st_blocks * 512 <= 8192 and old.stat().st_size == 64 << 10
    store.without_catalog()
    assert store.keys(bucket) == ["key"]


def test_a_segment_whose_header_was_torn_is_dropped(store: CommittedStore) -> None:
    bucket = store.bucket()
    store.put(bucket, "kept")
    store.core.log.preparation.wait()
    spare = store.root / "log" / f"{store.core.log.number + 1:010d}.meta"
    store.close()
    raw = bytearray(spare.read_bytes())
    raw[:64] = b"x" * 64
    spare.write_bytes(raw)
    store.open()
    assert store.keys(bucket) == ["kept"] and not (spare.exists() and spare.read_bytes()[:1] == b"x")
    store.put(bucket, "more")
    store.reopen()
    assert store.keys(bucket) == ["kept", "more"]


def test_the_chain_of_headers_names_each_segments_end(store: CommittedStore) -> None:
    bucket = store.bucket()
    for _ in range(60):
        store.put(bucket, "key", bytes(4000))
    headers = {}
    for name, parsed in segment_names(str(store.root / "log")).items():
        raw = (store.root / "log" / name).read_bytes()[:HEADER_BYTES]
        if any(raw):
            headers[parsed.number] = decode_header(raw)
    for number, header in headers.items():
        assert header.store_id == STORE_ID
        if header.previous_number:
            assert header.previous_number in headers and header.previous_number < number
    assert len({header.nonce for header in headers.values()}) == len(headers)
