"""Pages of a LIST out of the catalog's pages, against lists from first principles: whatever the keys, beside commits,
on a page that the disk has to give, and where the file system cannot tell."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from rs3d.errors import RecordDamaged
from rs3d.format.keys import CHUNK_BYTES, plain_path
from rs3d.format.rows import CURRENT, STORAGE_CLASSES, listed_object
from rs3d.kernels.catalogrows import listed_rows
from rs3d.kernels.catalogwalk import walk_objects
from rs3d.stores import catalogwalk
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogtables import Access, open_tables
from rs3d.stores.interfaces import TooLongForLoop, WalkedObjects
from rs3d.stores.logreader import LogReader
from rs3d.types.identifiers import BucketId
from rs3d.types.objects import ListedObject

BUCKET, BEFORE, BEHIND = BucketId(1 << 40), BucketId((1 << 40) - 1), BucketId((1 << 40) + 1)
Shown = list[tuple[bool, bytes]]
"""Of a page: whether it is a common prefix, and the text."""


def value_of(number: int) -> bytes:
    owner = bytes((number % 3,)) * 32
    return CURRENT.pack(
        *(number, 10**18 + number, number, *[0] * 7, 1 + number % 2, number % 2 * 3, bytes(range(32))),
        *(number % len(STORAGE_CLASSES), owner, number % 3, number % 3, 0),
    )


class Filled:
    """A catalog whose table of objects is filled by hand."""

    def __init__(self, root: Path) -> None:
        self.tables = open_tables(str(root / "catalog"), access=Access.WRITE, map_bytes=64 << 20)
        self.catalog = LocalCatalog(self.tables, LogReader(str(root / "log"), bytes(16)))
        self.keys: dict[bytes, int] = {}

    def put(self, transaction: lmdb.Transaction[bytes], key: bytes, number: int, bucket: BucketId = BUCKET) -> None:
        table, path = self.tables.current, plain_path(bucket, key)
        for branch in path.branches:
            transaction.put(branch.row_key, table.seal(branch.row_key, bytes((0, 0, 0, 1))), db=table.handle)
        transaction.put(path.row_key, table.seal(path.row_key, value_of(number)), db=table.handle)
        if bucket == BUCKET:
            self.keys[key] = number

    def remove(self, transaction: lmdb.Transaction[bytes], key: bytes) -> None:
        assert transaction.delete(plain_path(BUCKET, key).row_key, db=self.tables.current.handle)
        del self.keys[key]

    def close(self) -> None:
        self.catalog.close()
        self.tables.close()


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    made = Filled(tmp_path)
    yield made
    made.close()


def truth(keys: dict[bytes, int], prefix: bytes, start: bytes, delimiter: bytes, maximum: int) -> tuple[Shown, bool]:
    """What a page shows, and whether more follows."""
    shown: Shown = []
    for key in sorted(keys):
        if key < start or not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = (cut >= 0, key if cut < 0 else key[: cut + len(delimiter)])
        if not shown or shown[-1] != entry:
            shown.append(entry)
    return shown[:maximum], len(shown) > maximum


def shown_by(walked: WalkedObjects) -> Shown:
    rows = listed_rows(walked.objects.data, ListedObject, *walked.objects.names)
    assert len(rows) == len(walked.objects)
    shown = [(False, row.key.encode()) for row in rows] + [(True, prefix) for prefix in walked.common_prefixes]
    return sorted(shown, key=lambda entry: entry[1])


def require_right(made: Filled, prefix: bytes, start: bytes, delimiter: bytes, maximum: int) -> None:
    with made.catalog.snapshot() as view:
        walked = view.walk_objects(BUCKET, prefix, start, delimiter, maximum)
    shown, is_truncated = shown_by(walked), walked.is_truncated
    if shown:
        assert (walked.last_is_prefix, walked.last) == shown[-1]
    if walked.go_on is not None:
        assert any(len(key) > CHUNK_BYTES for key in made.keys) or max(len(prefix), len(start)) > CHUNK_BYTES
        rest, is_truncated = truth(made.keys, prefix, walked.go_on, delimiter, maximum - len(shown))
        shown += rest
    assert (shown, is_truncated) == truth(made.keys, prefix, max(start, prefix), delimiter, maximum)


@contextmanager
def committing(made: Filled) -> Iterator[lmdb.Transaction[bytes]]:
    with made.tables.environment.begin(write=True) as transaction:
        yield transaction


def random_text(chance: random.Random, most: int) -> bytes:
    return "".join(chance.choice("ab/é\0~") for _ in range(chance.randrange(1, most))).encode()


@pytest.mark.parametrize("longest", [1, 0, 600])
def test_pages_of_any_keys_are_those_of_a_plain_list(filled: Filled, longest: int) -> None:
    chance = random.Random(longest)
    with committing(filled) as transaction:
        for number in range(3_000):
            filled.put(transaction, random_text(chance, 9), number)
            if number < longest:
                filled.put(transaction, b"x" * (CHUNK_BYTES - 2) + random_text(chance, 30), number)
        for bucket in (BEFORE, BEHIND)[: longest % 3]:
            filled.put(transaction, b"theirs", 1, bucket)
    for _ in range(400):
        prefix, start = (chance.choice((b"", random_text(chance, 4), b"x" * 470)) for _ in range(2))
        delimiter = chance.choice((b"", b"/", b"a", "é".encode(), b"//", b"\0"))
        require_right(filled, prefix, start, delimiter, chance.choice((1, 2, 7, 100, 1000, 5000)))


def test_a_large_table_is_walked_page_by_page(filled: Filled) -> None:
    with committing(filled) as transaction:
        for number in range(40_000):
            filled.put(transaction, b"folder %03d/key %09d" % (number // 100, number), number)
    expected, start = sorted(filled.keys), b""
    found: list[bytes] = []
    while True:
        with filled.catalog.snapshot() as view:
            walked = view.walk_objects(BUCKET, b"", start, b"", 997)
            listed = view.list_objects(BUCKET, b"", start)
            rows = listed_rows(walked.objects.data, ListedObject, *walked.objects.names)
            assert rows == [next(listed)[1] for _ in rows]
        found += [row.key.encode() for row in rows]
        if not walked.is_truncated:
            break
        start = walked.last + b"\0"
    assert found == expected
    require_right(filled, b"", b"", b"/", 1000)
    require_right(filled, b"folder 39", b"folder 395/", b"/", 1000)


def test_rows_are_what_the_format_reads_of_them(filled: Filled) -> None:
    with committing(filled) as transaction:
        for number in range(50):
            filled.put(transaction, b"%02d" % number, number)
    with filled.catalog.snapshot() as view:
        walked = view.walk_objects(BUCKET, b"", b"", b"", 1000)
    rows = listed_rows(walked.objects.data, ListedObject, *walked.objects.names)
    assert rows == [listed_object(f"{number:02}", CURRENT.unpack(value_of(number))) for number in range(50)]


def test_a_view_shows_the_same_beside_commits(filled: Filled) -> None:
    chance = random.Random(3)
    with committing(filled) as transaction:
        for number in range(2_000):
            filled.put(transaction, b"key %06d" % chance.randrange(10**6), number)
    with filled.catalog.snapshot() as view:
        before = view.walk_objects(BUCKET, b"", b"", b"", 5_000)
        for number in range(60):
            with committing(filled) as transaction:
                for key in chance.sample(sorted(filled.keys), 40):
                    filled.remove(transaction, key)
                for _ in range(40):
                    filled.put(transaction, b"key %06d" % chance.randrange(10**6), number)
            assert view.walk_objects(BUCKET, b"", b"", b"", 5_000) == before
    require_right(filled, b"", b"", b"", 5_000)
    require_right(filled, b"", b"", b"1", 5_000)


def test_an_empty_table_has_an_empty_page(filled: Filled) -> None:
    with filled.catalog.snapshot() as view:
        walked = view.walk_objects(BUCKET, b"a", b"b", b"/", 10)
    assert shown_by(walked) == [] and not walked.is_truncated and walked.go_on is None


def test_d15_a_damaged_row_or_page_is_told(filled: Filled, tmp_path: Path) -> None:
    with committing(filled) as transaction:
        for number in range(2_000):
            filled.put(transaction, b"key %06d" % number, number)
    path = tmp_path / "catalog" / "data.mdb"
    content = path.read_bytes()
    at = content.rindex(b"key 001000")
    for offset, byte in ((at + 9, b"7"), (at + 40, b"\xee"), (at - at % 4096, b"\xee"), (at - at % 4096 + 12, b"\xff")):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(byte)
        with pytest.raises(RecordDamaged), filled.catalog.snapshot() as view:
            view.walk_objects(BUCKET, b"", b"key 000900", b"", 1_000)
        path.write_bytes(content)
    require_right(filled, b"", b"key 000900", b"", 1_000)


def test_on_the_loop_a_page_that_is_not_in_memory_is_for_a_thread(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    with committing(filled) as transaction:
        filled.put(transaction, b"key", 1)
    asked: list[bool] = []

    def cold(*arguments: object, may_wait: bool, **named: object) -> object:
        asked.append(may_wait)
        if not may_wait:
            raise BlockingIOError
        return walk_objects(*arguments, may_wait=may_wait, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(catalogwalk, "walk_objects", cold)
    with (
        filled.catalog.in_memory,
        pytest.raises(TooLongForLoop),
        filled.catalog.snapshot() as view,
    ):
        view.walk_objects(BUCKET, b"", b"", b"", 10)
    require_right(filled, b"", b"", b"", 10)
    assert asked == [False, True]


def test_where_the_file_system_cannot_tell_it_is_asked_once(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    with committing(filled) as transaction:
        filled.put(transaction, b"key", 1)
    asked: list[bool] = []

    def untold(*arguments: object, may_wait: bool, **named: object) -> object:
        asked.append(may_wait)
        if not may_wait:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return walk_objects(*arguments, may_wait=may_wait, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(catalogwalk, "walk_objects", untold)
    with filled.catalog.in_memory:
        require_right(filled, b"", b"", b"", 10)
        require_right(filled, b"", b"", b"", 10)
    assert asked == [False, True, True]


def test_a_file_that_cannot_be_read_is_damage(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **named: object) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(catalogwalk, "walk_objects", broken)
    with pytest.raises(RecordDamaged, match="check --rebuild"), filled.catalog.snapshot() as view:
        view.walk_objects(BUCKET, b"", b"", b"", 10)
