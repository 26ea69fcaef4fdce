"""`rs3d.kernels.catalogwalk` over a table that liblmdb wrote: against its rows in order, and with any byte of its pages
changed. What is listed of right keys only, `tests/stores/test_catalog_walk.py` compares."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import pytest

from rs3d.kernels.catalogwalk import (
    END,
    FULL,
    LONG,
    PageUnfollowable,
    RowDamaged,
    RowOutOfOrder,
    selftest,
    walk_objects,
)
from rs3d.kernels.crc import crc32c
from tests.stores.coldpages import drop_pages, is_refused_when_cold
from tests.stores.nowait import reads_without_waiting

SPACE, SEED, VALUE_BYTES, PAGE_BYTES = b"bucketid", 7, 30, 4096
KEYS = [b"folder %02d/%s%05d" % (number // 400, b"k" * (number % 40), number) for number in range(6_000)]


@dataclass
class Table:
    path: Path
    fd: int
    record: bytes

    def walk(self, prefix: bytes = b"", start: bytes = b"", delimiter: bytes = b"", **named: Any) -> Any:
        arguments = {
            "page_bytes": PAGE_BYTES,
            "seed": SEED,
            "value_bytes": VALUE_BYTES,
            "maximum": 1000,
            "may_wait": True,
        }
        return walk_objects(self.fd, self.record, SPACE, prefix, start, delimiter, **(arguments | named))


def sealed(key: bytes, value: bytes) -> bytes:
    return value + crc32c(value, crc32c(key, SEED)).to_bytes(4, "big")


def texts(packed: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(packed):
        length = int.from_bytes(packed[at : at + 2], "little")
        found.append(packed[at + 2 : at + 2 + length])
        at += 2 + length + VALUE_BYTES - 4
    assert at == len(packed)
    return found


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    environment = lmdb.open(str(tmp_path), max_dbs=2, map_size=64 << 20)
    handle = environment.open_db(b"rows")
    with environment.begin(write=True) as transaction:
        for number, text in enumerate(sorted(KEYS)):
            key = SPACE + text
            transaction.put(key, sealed(key, number.to_bytes(VALUE_BYTES - 4, "big")), db=handle)
        transaction.put(b"bucketie", sealed(b"bucketie", bytes(VALUE_BYTES - 4)), db=handle)
    with environment.begin() as transaction:
        record = bytes(transaction.get(b"rows") or b"")
    environment.sync(True)
    environment.close()
    path = tmp_path / "data.mdb"
    fd = os.open(path, os.O_RDWR)
    yield Table(path, fd, record)
    os.close(fd)


def test_rows_come_in_order_with_their_values(table: Table) -> None:
    keys = sorted(KEYS)
    packed, count, prefixes, last, last_is_prefix, end, met = table.walk(maximum=10_000)
    assert texts(packed) == keys
    assert packed == b"".join(
        struct.pack("<H", len(text)) + text + number.to_bytes(VALUE_BYTES - 4, "big")
        for number, text in enumerate(keys)
    )
    assert (count, prefixes, last, last_is_prefix, end, met) == (len(keys), [], keys[-1], False, END, b"")


def test_common_prefixes_are_skipped_over(table: Table) -> None:
    packed, count, prefixes, last, last_is_prefix, end, _ = table.walk(delimiter=b"/", maximum=7)
    assert (packed, count, prefixes) == (b"", 0, [b"folder %02d/" % number for number in range(7)])
    assert (last, last_is_prefix, end) == (b"folder 06/", True, FULL)
    _, _, prefixes, last, _, end, _ = table.walk(start=b"folder 07", delimiter=b"/")
    assert (prefixes[0], last, end, len(prefixes)) == (b"folder 07/", b"folder 14/", END, 8)


def test_a_row_that_leads_to_long_keys_ends_the_walk(tmp_path: Path) -> None:
    environment = lmdb.open(str(tmp_path), max_dbs=2)
    handle = environment.open_db(b"rows")
    with environment.begin(write=True) as transaction:
        for text, value in ((b"a", bytes(VALUE_BYTES - 4)), (b"b\0", bytes(4)), (b"c", bytes(VALUE_BYTES - 4))):
            transaction.put(SPACE + text, sealed(SPACE + text, value), db=handle)
    with environment.begin() as transaction:
        record = bytes(transaction.get(b"rows") or b"")
    environment.close()
    fd = os.open(tmp_path / "data.mdb", os.O_RDONLY)
    made = Table(tmp_path / "data.mdb", fd, record)
    packed, _, _, last, _, end, met = made.walk()
    assert (texts(packed), last, end, met) == ([b"a"], b"a", LONG, b"b\0")
    assert made.walk(maximum=1)[5:] == (FULL, b"")
    assert texts(made.walk(start=b"b\1")[0]) == [b"c"]
    os.close(fd)


def test_changed_bytes_are_told_or_leave_rows_that_are_there(table: Table) -> None:
    chance, keys, told = random.Random(5), set(KEYS), 0
    content = table.path.read_bytes()
    for _ in range(3_000):
        spots = [chance.randrange(2 * PAGE_BYTES, len(content)) for _ in range(chance.choice((1, 1, 4)))]
        if chance.random() < 0.5:  # heads and pointers of pages, where most of what is followed lies
            spots = [spot - spot % PAGE_BYTES + chance.randrange(120) for spot in spots]
        for spot in spots:
            os.pwrite(table.fd, bytes((chance.choice((0, 1, 255, chance.randrange(256))),)), spot)
        delimiter, start = chance.choice((b"", b"", b"/", b"k")), chance.choice((b"", chance.choice(KEYS)))
        try:
            packed, _, prefixes, *_ = table.walk(start=start, delimiter=delimiter, maximum=10_000)
        except (PageUnfollowable, RowDamaged, RowOutOfOrder):
            told += 1
        else:
            found = texts(packed)
            assert keys.issuperset(found)
            assert found == sorted(found) and prefixes == sorted(prefixes)
        for spot in spots:
            os.pwrite(table.fd, content[spot : spot + 1], spot)
    assert told > 500
    assert texts(table.walk(maximum=10_000)[0]) == sorted(KEYS)


def test_branches_that_lead_past_pages_are_told(table: Table) -> None:
    """The places of two pages in the branch above them, changed for one another, and one that is there twice."""
    content, keys, told = table.path.read_bytes(), sorted(KEYS), 0
    chance = random.Random(8)
    branches = [at for at in range(2 * PAGE_BYTES, len(content), PAGE_BYTES) if content[at + 10] == 1]
    for _ in range(300):
        at = chance.choice(branches)
        lower = struct.unpack_from("<H", content, at + 12)[0]
        nodes = struct.unpack_from(f"<{(lower - 16) // 2}H", content, at + 16)
        one, other = chance.sample(nodes, 2)
        os.pwrite(table.fd, content[at + other : at + other + 6], at + one)
        if chance.random() < 0.5:
            os.pwrite(table.fd, content[at + one : at + one + 6], at + other)
        try:
            assert texts(table.walk(maximum=10_000)[0]) == keys
        except (PageUnfollowable, RowOutOfOrder):
            told += 1
        os.pwrite(table.fd, content[at : at + PAGE_BYTES], at)
    assert told > 200


@pytest.mark.parametrize(
    ("at", "raw"), [(4, b"\4\0"), (6, b"\0\0"), (6, b"\x21\0"), (40, b"\xff\xff\xff\0"), (40, b"\0\0\0\0\0\0\0\x7f")]
)
def test_records_that_lead_nowhere_are_told(table: Table, at: int, raw: bytes) -> None:
    changed = bytearray(table.record)
    changed[at : at + len(raw)] = raw
    with pytest.raises(PageUnfollowable):
        Table(table.path, table.fd, bytes(changed)).walk()
    with pytest.raises(PageUnfollowable):
        Table(table.path, table.fd, bytes(changed[:-1])).walk()


def test_a_file_that_ends_early_is_told(table: Table) -> None:
    os.ftruncate(table.fd, os.fstat(table.fd).st_size // 2 + 100)
    with pytest.raises(PageUnfollowable):
        table.walk(maximum=10_000)


def test_what_cannot_be_read_is_an_error_of_the_system(table: Table) -> None:
    closed = os.dup(table.fd)
    os.close(closed)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Table(table.path, closed, table.record).walk()


def test_a_page_that_is_not_in_memory_is_not_waited_for(table: Table, tmp_path: Path) -> None:
    if not reads_without_waiting(tmp_path):
        pytest.skip("this file system does not read without waiting")
    size = os.fstat(table.fd).st_size
    os.fsync(table.fd)

    def is_answered() -> bool:
        try:
            table.walk(maximum=10_000, may_wait=False)
        except BlockingIOError:
            return False
        return True

    assert is_refused_when_cold(table.fd, size, is_answered)
    drop_pages(table.fd, size)
    assert texts(table.walk(maximum=10_000)[0]) == sorted(KEYS)
    assert is_answered()


@pytest.mark.parametrize(
    "wrong",
    [
        {"page_bytes": 0},
        {"page_bytes": 5000},
        {"page_bytes": 1 << 17},
        {"maximum": 0},
        {"maximum": 1 << 21},
        {"value_bytes": 3},
        {"value_bytes": 1 << 20},
        {"delimiter": b"a\xff"},
        {"start": bytes(504)},
        {"prefix": bytes(504)},
    ],
)
def test_impossible_arguments_are_refused(table: Table, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        table.walk(**wrong)


def test_a_space_is_eight_bytes(table: Table) -> None:
    with pytest.raises(ValueError, match="space"):
        walk_objects(
            table.fd,
            table.record,
            b"short",
            b"",
            b"",
            b"",
            page_bytes=4096,
            seed=0,
            value_bytes=30,
            maximum=1,
            may_wait=True,
        )


def test_selftest_checks_something() -> None:
    assert selftest() > 0
