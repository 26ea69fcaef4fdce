"""`rs3d dump` on the files of stores that crashed, or are in use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rs3d.cli.main import main
from tests.stores.committed import CommittedStore


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A store whose first segment ends in a record that a crash cut, as the second one says. Returns that segment."""
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
    CommittedStore(root).close()
    return segment


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
    assert "no next segment's header is here" in capsys.readouterr().out


def test_dump_of_a_damaged_record_before_that_end_fails(crashed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = bytearray(crashed.read_bytes())
    raw[raw.index(b"content")] ^= 1
    crashed.write_bytes(raw)
    assert main(["dump", str(crashed)]) == 1
    assert "PROBLEM" in capsys.readouterr().out
