"""A page of the catalog that a flipped bit has disordered leads a scan back, past rows or nowhere: that is damage, and
no end of a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from rs3d.errors import RecordDamaged
from rs3d.format.keys import bucket_prefix
from rs3d.stores.catalogtables import Table
from rs3d.stores.catalogtrie import walk
from rs3d.types.identifiers import BucketId

BUCKET = BucketId(7)
OURS, EARLIER, LATER = (bucket_prefix(BucketId(number)) for number in (7, 6, 8))
TABLE = Table("current", cast(Any, None))


class Rows:
    """A cursor, and the transaction that it is of, over rows in whatever order. A search leads to the first of them,
    or behind all."""

    def __init__(self, *rows: tuple[bytes, bytes], at: int = 0) -> None:
        self._rows, self._at = rows, at

    def cursor(self, **_: Any) -> Rows:
        return self

    def set_range(self, _: bytes) -> bool:
        return self._at < len(self._rows)

    def key(self) -> bytes:
        return self._rows[self._at][0]

    def item(self) -> tuple[bytes, bytes]:
        return self._rows[self._at]

    def prev(self) -> bool:
        self._at -= 1
        return self._at >= 0

    def next(self) -> bool:
        self._at += 1
        return True

    def first(self) -> bool:
        self._at = 0
        return True

    def last(self) -> bool:
        self._at = len(self._rows) - 1
        return self._at >= 0

    def iternext(self, **_: bool) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._rows[self._at :])


def row(key: bytes, value: bytes = b"some value") -> tuple[bytes, bytes]:
    return key, TABLE.seal(key, value)


def flipped(key: bytes) -> tuple[bytes, bytes]:
    """A row whose key is not the one that it was stored under."""
    return key, row(key + b"?")[1]


def walked(*rows: tuple[bytes, bytes], at: int = 0, prefix: bytes = b"", start: bytes = b"") -> list[bytes]:
    return [text for _, text, _ in walk(cast(Any, Rows(*rows, at=at)), TABLE, BUCKET, prefix, start)]


def test_a_list_ends_at_the_row_of_a_later_bucket() -> None:
    assert walked(row(OURS + b"a"), row(LATER + b"a")) == [b"a"]


def test_a_list_begins_behind_the_row_before_it() -> None:
    assert walked(row(EARLIER + b"z"), row(OURS + b"a"), at=1) == [b"a"]
    assert walked(row(EARLIER + b"z"), at=1) == []
    assert walked() == []


@pytest.mark.parametrize("key", [b"", EARLIER + b"a"])
def test_d15_a_list_that_is_led_back_is_damage_and_not_its_end(key: bytes) -> None:
    with pytest.raises(RecordDamaged, match="out of order"):
        walked(row(OURS + b"a"), row(key), row(OURS + b"b"))


def test_d15_the_row_where_a_list_ends_may_be_one_of_it() -> None:
    with pytest.raises(RecordDamaged, match="CRC"):
        walked(row(OURS + b"a"), flipped(LATER + b"b"), row(OURS + b"c"))
    with pytest.raises(RecordDamaged, match="CRC"):
        walked(row(OURS + b"a1"), flipped(OURS + b"b2"), row(OURS + b"a3"), prefix=b"a")


def test_d15_the_row_before_a_list_may_be_one_of_it() -> None:
    with pytest.raises(RecordDamaged, match="CRC"):
        walked(row(OURS + b"a"), flipped(EARLIER + b"b"), row(OURS + b"c"), at=2)
    with pytest.raises(RecordDamaged, match="CRC"):
        walked(row(EARLIER + b"z"), flipped(EARLIER + b"a"), at=2)


def test_d15_a_search_that_ends_too_early_or_too_late_is_damage() -> None:
    with pytest.raises(RecordDamaged, match="out of order"):
        walked(row(OURS + b"a"), row(OURS + b"b"), start=b"b")
    with pytest.raises(RecordDamaged, match="out of order"):
        walked(row(OURS + b"b"), row(OURS + b"c"), at=1, start=b"a")
    with pytest.raises(RecordDamaged, match="out of order"):
        walked(row(OURS + b"b"), row(OURS + b"c"), at=2)


def test_d15_a_row_that_only_looks_like_a_branch_is_damage() -> None:
    with pytest.raises(RecordDamaged, match="CRC"):
        walked(row(OURS + b"a"), (OURS + b"b", b"8 bytes!"), row(OURS + b"c"))
