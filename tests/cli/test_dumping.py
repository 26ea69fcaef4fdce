"""`rs3d dump` on the files of stores that crashed, or are in use."""

from __future__ import annotations

import json
import random
from pathlib import Path

import lmdb
import pytest

from rs3d.cli.main import main
from rs3d.format.dump import dump_file, render
from rs3d.stores.catalogtables import TableName
from rs3d.stores.lock import LockMode, LockRange, StoreLock
from rs3d.types.operations import PutSetting
from tests.stores.committed import CommittedStore


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A store that was killed in the middle of a batch, and not opened since. Returns its last segment."""
    root = tmp_path / "store"
    root.mkdir()
    store = CommittedStore(root)
    store.put(store.bucket(), "k", b"content")
    segment = root / "log" / f"{store.core.log.number:010d}.meta"
    end = store.core.log.offset
    store.close()
    with segment.open("r+b") as file:
        file.seek(end)
        file.write(b"R3LR" + bytes([1]) * 60)
    return segment


@pytest.fixture
def crashed(cut: Path) -> Path:
    """A store whose first segment ends in a record that a crash cut, as the second one says. Returns that segment."""
    CommittedStore(cut.parents[1]).close()
    return cut


def test_dump_notes_what_recovery_dropped_at_the_end_of_a_segment(
    crashed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dump", str(crashed), "--json"]) == 0
    dump = json.loads(capsys.readouterr().out)
    assert dump["problems"] == []
    left = [piece for piece in dump["pieces"] if piece["title"] == "bytes that a crash left"]
    assert [piece["size"] for piece in left] == [64]
    assert "no part of the log" in left[0]["fields"]["note"]


def test_dump_of_the_same_segment_away_from_its_log_cannot_know(
    crashed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / crashed.name
    alone.write_bytes(crashed.read_bytes())
    assert main(["dump", str(alone)]) == 1
    assert "no next segment's header and no catalog is here" in capsys.readouterr().out


def test_dump_notes_what_a_crash_left_in_the_last_segment_as_check_does(
    cut: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dump", str(cut), "--json"]) == 0
    dump = json.loads(capsys.readouterr().out)
    left = [piece for piece in dump["pieces"] if piece["title"] == "bytes that a crash left"]
    assert [piece["size"] for piece in left] == [64]
    assert "the next opening drops them" in left[0]["fields"]["note"]


@pytest.mark.parametrize("place", ["record", "no catalog", "empty catalog", "damaged catalog"])
def test_dump_of_a_last_segment_without_what_the_catalog_knows_of_fails(
    cut: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if place == "record":
        record = bytearray(cut.read_bytes())
        record[record.index(b"content")] ^= 1
        cut.write_bytes(record)
    else:
        catalog = cut.parents[1] / "catalog" / "data.mdb"
        raw = catalog.read_bytes()
        catalog.unlink()
        if place != "no catalog":
            catalog.write_bytes(b"" if place == "empty catalog" else raw[:8192] + bytes(len(raw) - 8192))
    assert main(["dump", str(cut)]) == 1
    assert "PROBLEM" in capsys.readouterr().out


def test_dump_of_a_segment_prepared_behind_the_last_one_has_no_problem_and_of_one_before_it_has(
    cut: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = int(cut.name[:10])
    ahead = cut.with_name(f"{number + 1:010d}.meta")
    ahead.write_bytes(bytes(cut.stat().st_size))
    assert main(["dump", str(ahead)]) == 0
    assert "prepared, not begun yet" in capsys.readouterr().out
    cut.write_bytes(bytes(cut.stat().st_size))
    assert main(["dump", str(cut)]) == 1


def test_dump_of_a_damaged_record_before_that_end_fails(crashed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = bytearray(crashed.read_bytes())
    raw[raw.index(b"content")] ^= 1
    crashed.write_bytes(raw)
    assert main(["dump", str(crashed)]) == 1
    assert "PROBLEM" in capsys.readouterr().out


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """The catalog's file of a closed store of 40 objects, one of them with a row that needs pages of its own."""
    root = tmp_path / "store"
    root.mkdir()
    store = CommittedStore(root)
    bucket = store.bucket()
    for at in range(40):
        store.put(bucket, f"key {at:03d} " + "n" * 300)
    store.commit(PutSetting(id=store.id(), name="large", value=b"v" * 5000))
    store.close()
    return root / "catalog" / "data.mdb"


def test_dump_shows_the_commits_and_tables_of_a_catalog(catalog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", str(catalog), "--json"]) == 0
    dump = json.loads(capsys.readouterr().out)
    assert (dump["kind"], dump["problems"]) == ("catalog", [])
    commits = [piece["fields"]["commit"] for piece in dump["pieces"] if piece["title"] == "page that names a commit"]
    assert len(commits) == 2
    assert abs(commits[0] - commits[1]) == 1
    rows = {piece["title"]: piece["fields"]["rows"] for piece in dump["pieces"] if piece["title"].startswith("table ")}
    assert set(rows) == {f"table {name.value}" for name in TableName}
    assert (rows["table buckets"], rows["table current"], rows["table garbage"]) == (1, 40, 0)


@pytest.mark.parametrize("table", [name.value for name in TableName])
def test_dump_shows_the_rows_that_liblmdb_reads(catalog: Path, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", str(catalog), "--rows", table, "--json"]) == 0
    pieces = json.loads(capsys.readouterr().out)["pieces"]
    shown = [(piece["fields"]["key"], piece["fields"]["value"]) for piece in pieces if piece["title"] == "row"]
    with lmdb.open(str(catalog.parent), max_dbs=32, readonly=True) as environment:
        handle = environment.open_db(table.encode(), create=False)
        with environment.begin(db=handle) as view:
            assert shown == [(bytes(key).hex(), bytes(value)[:-4].hex()) for key, value in view.cursor()]


def test_dump_tells_of_a_row_whose_value_was_changed(catalog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = bytearray(catalog.read_bytes())
    raw[raw.rindex(b"v" * 5000) + 2500] ^= 1
    catalog.write_bytes(raw)
    assert main(["dump", str(catalog), "--rows", "settings", "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "the CRC of its value does not hold" in problem["reason"]
    assert raw[problem["offset"] :].startswith(b"large")


def test_dump_says_where_the_rows_lie(catalog: Path) -> None:
    raw = catalog.read_bytes()
    rows = [piece for piece in dump_file(raw, "x", rows_table="current").pieces if piece.title == "row"]
    for row in rows:
        key, value = bytes.fromhex(str(row.fields["key"])), bytes.fromhex(str(row.fields["value"]))
        assert raw[row.offset : row.offset + row.size][:-4] == key + value
    assert len({row.offset for row in rows}) == 40


def test_dump_of_a_catalog_in_use_says_who_uses_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "store"
    root.mkdir()
    store = CommittedStore(root)
    with StoreLock.acquire(str(root), LockRange.USE, LockMode.SHARED, "worker"):
        assert main(["dump", str(root / "catalog" / "data.mdb")]) == 1
    store.close()
    shown = capsys.readouterr().out
    assert "table buckets" in shown
    assert "is in use by" in shown
    assert f"rs3d check --data {root}" in shown


def test_dump_has_no_rows_of_a_table_that_is_not_there(catalog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", str(catalog), "--rows", "chairs"]) == 1
    assert "there is no table chairs" in capsys.readouterr().out


def test_dump_has_no_rows_of_other_files(crashed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", str(crashed), "--rows", "buckets"]) != 0
    assert "only the catalog has tables" in capsys.readouterr().err


def test_a_catalog_damaged_or_cut_anywhere_never_ends_the_dump(catalog: Path) -> None:
    raw = catalog.read_bytes()
    chance, told = random.Random(7), 0
    for _ in range(300):
        bad = bytearray(raw)
        for _ in range(8):  # half of the bytes are the heads of pages, where the pointers are
            page = chance.randrange(len(raw) // 4096) * 4096
            bad[page + chance.randrange(chance.choice((48, 4096)))] = chance.randrange(256)
        for table in ("settings", "versions"):
            dump = dump_file(bytes(bad), "x", rows_table=table)
            told += list(render(dump))[-1] != "no problems found"
    assert told
    for length in range(1, len(raw), 997):
        cut = dump_file(raw[:length], "x", rows_table="versions")
        list(render(cut))
        # The last page that a row needs may lie well before the end.
        assert cut.problems or length > len(raw) // 4, f"{length} bytes"


def test_pages_that_lead_in_a_circle_are_a_problem(catalog: Path) -> None:
    raw = bytearray(catalog.read_bytes())
    roots = [piece.offset for piece in dump_file(bytes(raw), "x").pieces if piece.title == "table versions"]
    root = roots[0] // 4096
    assert raw[roots[0] + 10] == 1  # a branch
    first = int.from_bytes(raw[roots[0] + 16 : roots[0] + 18], "little")
    raw[roots[0] + first : roots[0] + first + 6] = root.to_bytes(6, "little")
    problems = dump_file(bytes(raw), "x", rows_table="versions").problems
    assert any("in a circle" in problem.reason for problem in problems)
