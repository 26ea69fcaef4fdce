"""The log as a change feed, and one record read by position (STORE.md 20)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.errors import RecordDamaged
from rs3d.format.rows import Place
from rs3d.stores.compaction import Compacted, compact
from rs3d.stores.logfeed import feed_lag, read_feed
from rs3d.stores.logreader import LogReader
from rs3d.types import operations as ops
from rs3d.types.identifiers import Sequence
from tests.stores.committed import STORE_ID, CommittedStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommittedStore]:
    opened = CommittedStore(tmp_path, segment_bytes=64 << 10)
    yield opened
    opened.close()


def feed(store: CommittedStore, after: int = 0) -> list[tuple[str, str]]:
    found = read_feed(store.catalog, str(store.root / "log"), STORE_ID, Sequence(after))
    return [(record.kind, str(record.body.get("key", ""))) for record in found]


def test_store_rule_20_a_consumer_sees_what_lies_behind_its_cursor(store: CommittedStore) -> None:
    bucket = store.bucket()
    for number in range(40):
        store.put(bucket, f"{number:02d}", bytes(4000))
    middle = store.put(bucket, "middle").sequence
    store.remove(bucket, "00")
    store.reopen()
    store.put(bucket, "last")
    assert feed(store, middle) == [("version removed", "00"), ("epoch opened", ""), ("version put", "last")]
    assert [key for kind, key in feed(store) if kind == "version put"] == [
        *(f"{number:02d}" for number in range(40)), "middle", "last",
    ]  # fmt: skip
    assert feed_lag(store.catalog, middle) < feed_lag(store.catalog, Sequence(0))


def test_store_rule_20_a_cursor_is_a_sequence_and_outlives_compaction(store: CommittedStore) -> None:
    bucket = store.bucket()
    for number in range(40):
        store.put(bucket, "overwritten", bytes(4000), etag=f"{number:032x}")
    seen = store.put(bucket, "seen").sequence
    store.commit(ops.MoveCursor(id=store.id(), consumer="events", sequence=seen))
    store.put(bucket, "unseen")
    store.reopen()
    for _ in compact(store.core, first=0, last=0, result=Compacted()):
        pass
    with store.view() as view:
        cursor = view.cursor("events")
        assert cursor == seen and view.cursor("nobody") is None
    assert [key for kind, key in feed(store, seen) if kind == "version put"] == ["unseen"]


def test_the_feed_never_shows_its_own_cursors(store: CommittedStore) -> None:
    store.commit(ops.MoveCursor(id=store.id(), consumer="events", sequence=Sequence(1)))
    assert all(kind != "cursor moved" for kind, _ in feed(store))


def test_a_feed_over_a_damaged_segment_says_so(store: CommittedStore) -> None:
    bucket = store.bucket()
    begin = store.core.log.offset
    store.put(bucket, "key")
    path = store.root / "log" / f"{store.core.log.number:010d}.meta"
    raw = bytearray(path.read_bytes())
    raw[begin + 60] ^= 1
    path.write_bytes(raw)
    with pytest.raises(RecordDamaged):
        feed(store)


@pytest.mark.parametrize(
    "place", [Place(77, 128, 100, 0), Place(1, 136, 100, 0), Place(1, 128, 41, 0), Place(1, 1 << 30, 100, 0)]
)
def test_a_position_where_no_such_record_begins_is_damage(store: CommittedStore, place: Place) -> None:
    reader = LogReader(str(store.root / "log"), STORE_ID)
    with pytest.raises(RecordDamaged):
        reader.read(place)
    reader.close()


def test_a_large_payload_is_read_apart_and_checked(store: CommittedStore) -> None:
    bucket = store.bucket()
    payload = os.urandom(40_000)
    begin = store.core.log.offset
    store.put(bucket, "key", payload)
    with store.view() as view:
        found = view.latest(bucket, "key")
        assert found is not None and view.inline_payload(found) == payload
    path = store.root / "log" / f"{store.core.log.number:010d}.meta"
    raw = bytearray(path.read_bytes())
    raw[begin + 20_000] ^= 1
    path.write_bytes(raw)
    with store.view() as view:
        found = view.latest(bucket, "key")  # HEAD needs no payload
        assert found is not None
        with pytest.raises(RecordDamaged, match="payload"):
            view.inline_payload(found)


def test_unlinked_segments_are_let_go(store: CommittedStore) -> None:
    bucket = store.bucket()
    store.put(bucket, "key")
    with store.view() as view:
        assert view.latest(bucket, "key") is not None
    reader = store.catalog.log
    (store.root / "log" / f"{store.core.log.number:010d}.meta").unlink()
    reader.release_unlinked()
    with store.view() as view, pytest.raises(RecordDamaged, match="no such segment"):
        view.version(bucket, "key", "null")
