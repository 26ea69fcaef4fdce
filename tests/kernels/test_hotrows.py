"""`rs3d.kernels.hotrows`; what it writes is held against `CatalogTransaction.flush` in
`tests/stores/test_catalog_known.py`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rs3d.kernels.hotrows import HotRows, selftest

TABLES = [(name, 0) for name in ("counters", "operations", "segments", "state")]


class Transaction:
    """Rows by table and key."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, bytes], bytes] = {}

    def put(self, key: bytes, value: bytes, dupdata: bool, overwrite: bool, append: bool, table: str) -> bool:
        self.rows[table, key] = value
        return True

    def delete(self, key: bytes, value: bytes, table: str) -> bool:
        return self.rows.pop((table, key), None) is not None


def known() -> Any:
    return SimpleNamespace(
        tail=(7, 0, 0, 1, 2, 3, 4),
        active=(1, 7, 7, 0, 0, 4, 1, 1, 9, 9),
        active_number=7,
        counters={5: [0] * 6},
        outcomes={6: {1: b"a"}},
    )


def run(**changed: Any) -> Any:
    bucket = SimpleNamespace(is_changed=True, keys=1, object_bytes=2)
    fields = {"buckets": {5: bucket, 8: None}, "answered": {6: 1}, "dead": {}, "live_bytes": 8, "records": 1}
    return SimpleNamespace(**{**fields, "record_bytes": 8, "first_sequence": 10, "last_sequence": 11, **changed})


def written(known: Any, run: Any, segment: int = 7) -> dict[tuple[str, bytes], bytes] | None:
    rows, transaction = HotRows(TABLES, b"tail", tuple, tuple), Transaction()
    return transaction.rows if rows.write(transaction, known, run, segment, 4096, 12) else None


@pytest.mark.parametrize("missing", ["tail", "active", "number", "counters", "outcomes", "segment"])
def test_nothing_is_done_where_something_is_not_known(missing: str) -> None:
    found = known()
    if missing in ("tail", "active"):
        setattr(found, missing, None)
    elif missing == "number":
        found.active_number = 6
    elif missing in ("counters", "outcomes"):
        getattr(found, missing).clear()
    before = {name: repr(value) for name, value in vars(found).items()}
    assert written(found, run(), 8 if missing == "segment" else 7) is None
    assert {name: repr(value) for name, value in vars(found).items()} == before


def test_the_row_of_a_sender_without_outcomes_goes() -> None:
    found = known()
    rows = written(found, run(answered={6: 2}))
    assert rows is not None and found.outcomes == {}
    assert sorted(table for table, _ in rows) == ["counters", "segments", "state"]


def test_only_outcomes_in_front_are_forgotten() -> None:
    found = known()
    found.outcomes = {6: {3: b"", 5: b"b", 2: b"c"}}
    assert written(found, run(answered={6: 4})) is not None
    assert found.outcomes == {6: {5: b"b", 2: b"c"}}


def test_of_dead_records_those_of_the_active_segment_are_taken() -> None:
    found, made = known(), run(dead={7: 3, 4: 5})
    assert written(found, made) is not None
    assert (made.dead, found.active[9]) == ({4: 5}, 9 + 8 - 3)


def test_a_number_that_fits_no_row_is_refused() -> None:
    with pytest.raises(OverflowError):
        written(known(), run(dead={7: 1000}))


def test_the_self_test_checks_something() -> None:
    assert selftest() >= 7
