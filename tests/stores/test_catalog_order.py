"""A page of the catalog that a flipped bit has disordered leads a scan back: that is damage, and no end of a list."""

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
OURS = bucket_prefix(BUCKET)


class Rows:
    """A cursor, and the transaction that it is of, over rows in whatever order."""

    def __init__(self, *rows: tuple[bytes, bytes]) -> None:
        self._rows = rows

    def cursor(self, **_: Any) -> Rows:
        return self

    def set_range(self, _: bytes) -> bool:
        return True

    def iternext(self, **_: bool) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._rows)


def walked(*rows: tuple[bytes, bytes]) -> list[bytes]:
    table = Table("current", cast(Any, None))
    return [text for _, text, _ in walk(cast(Any, Rows(*rows)), table, BUCKET, b"", b"")]


def test_a_list_ends_at_the_row_of_a_later_bucket() -> None:
    assert walked((OURS + b"a", b"value"), (bucket_prefix(BucketId(8)) + b"a", b"value")) == [b"a"]


@pytest.mark.parametrize("key", [b"", bucket_prefix(BucketId(6)) + b"a"])
def test_d15_a_list_that_is_led_back_is_damage_and_not_its_end(key: bytes) -> None:
    with pytest.raises(RecordDamaged, match="out of order"):
        walked((OURS + b"a", b"value"), (key, b"value"), (OURS + b"b", b"value"))
