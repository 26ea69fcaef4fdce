"""Pages of the catalog checked before liblmdb follows them: a bit that flips is told, or hides no row but its own.

PITFALLS D15; STORE.md 23.
"""

from __future__ import annotations

import random
from pathlib import Path

import lmdb
import pytest

from rs3d.errors import StoreDamaged
from rs3d.format.lmdbpages import MetaPage, PageError, decode_metas, named_trees, pages_of
from rs3d.stores import catalogpages
from rs3d.stores.catalogpages import damage_in_view, damage_of, require_readable, require_whole

PAGE_BYTES = 4096
ROWS = 300
LARGE = 10_000
"""Bytes of a value that has pages of its own."""


def made(folder: Path) -> Path:
    """A catalog of two tables with freed pages, branches and large values."""
    folder.mkdir()
    environment = lmdb.open(str(folder), max_dbs=4, map_size=4 << 20, sync=False)
    table, large = environment.open_db(b"table"), environment.open_db(b"large")
    for start in (0, ROWS // 3, 2 * ROWS // 3):
        with environment.begin(write=True) as transaction:
            for number in range(start, start + ROWS // 3):
                transaction.put(b"%06d" % (number * 7919 % 1_000_003), b"%0100d" % number, db=table)
            transaction.put(b"large %d" % start, b"l" * LARGE, db=large)
            transaction.delete(b"large %d" % (start - 100), db=large)
    environment.close()
    return folder


def rows(folder: Path) -> dict[bytes, bytes | None]:
    """What liblmdb finds by each key that was put."""
    environment = lmdb.open(str(folder), max_dbs=4, map_size=4 << 20, readonly=True, lock=False, create=False)
    try:
        table, large = environment.open_db(b"table", create=False), environment.open_db(b"large", create=False)
        with environment.begin() as transaction:
            found = {key: transaction.get(key, db=table) for key in keys()}
            found[b"large"] = transaction.get(b"large %d" % (2 * ROWS // 3), db=large)
        return found
    finally:
        environment.close()


def keys() -> list[bytes]:
    return [b"%06d" % (number * 7919 % 1_000_003) for number in range(ROWS)]


def names_of(content: bytes | bytearray) -> set[bytes]:
    """The tables that there are: whoever opens a catalog knows which there have to be."""
    view = memoryview(bytes(content))
    return {name for name, _ in named_trees(view, decode_metas(view)[0])}


def damage(content: bytes) -> str:
    view = memoryview(content)
    return damage_of(view, decode_metas(view)[0])


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return made(tmp_path / "catalog")


def test_a_sound_catalog_and_one_that_is_not_there_yet_are_sound(catalog: Path, tmp_path: Path) -> None:
    require_whole(str(catalog))
    require_whole(str(tmp_path))
    (tmp_path / "data.mdb").touch()
    require_readable(str(tmp_path))
    assert damage((catalog / "data.mdb").read_bytes()) == ""


def test_d15_a_flipped_bit_in_a_page_is_told_or_every_row_is_still_found(catalog: Path) -> None:
    before, path = (catalog / "data.mdb").read_bytes(), catalog / "data.mdb"
    right = rows(catalog)
    view = memoryview(before)
    meta = decode_metas(view)[0]
    trees = [(meta.free, False), (meta.tables, True), *((tree, False) for _, tree in named_trees(view, meta))]
    pages = [run.first for tree, names in trees for run in pages_of(view, meta, tree, names_tables=names)]
    chance, told = random.Random(15), 0
    for _ in range(400):
        at = chance.choice(pages) * PAGE_BYTES + chance.choice([chance.randrange(160), chance.randrange(PAGE_BYTES)])
        flipped = bytearray(before)
        flipped[at] ^= 1 << chance.randrange(8)
        if _damage(flipped) or names_of(flipped) != {b"large", b"table"}:
            told += 1
            continue
        path.write_bytes(flipped)
        after = rows(catalog)
        # The row that the bit is in may have another key or value now, of which its CRC tells; it hides no other.
        assert sum(after[key] != right[key] for key in right) <= 1, at
    assert told > 60, told


def _damage(content: bytes | bytearray) -> str:
    try:
        return damage(bytes(content))
    except PageError as error:
        return str(error)


def test_every_kind_of_damage_is_told_with_its_page(catalog: Path) -> None:
    before = (catalog / "data.mdb").read_bytes()
    view = memoryview(before)
    meta = decode_metas(view)[0]
    trees = dict(named_trees(view, meta))
    branch = trees[b"table"].root * PAGE_BYTES
    for at, value, reason in (
        (branch + 10, 2, "flags 0x2 at depth 1"),
        (branch, 1, "says that it is page"),
        (branch + 12, 17, "its pointers end at 17"),
        (branch + 17, 255, "a node is said to begin at"),
    ):
        changed = bytearray(before)
        changed[at] = value
        assert reason in _damage(changed)
    assert "the file ends before page" in _damage(before[: -2 * PAGE_BYTES])


def test_a_store_with_a_damaged_table_of_tables_is_refused_with_the_command(catalog: Path) -> None:
    path = catalog / "data.mdb"
    content = bytearray(path.read_bytes())
    meta = decode_metas(memoryview(content))[0]
    content[meta.tables.root * PAGE_BYTES + 17] ^= 8
    path.write_bytes(content)
    for check in (require_readable, require_whole):
        with pytest.raises(StoreDamaged, match=r"cannot be followed.*rs3d check --rebuild"):
            check(str(catalog))


def test_the_pages_of_a_view_are_checked_beside_commits(catalog: Path) -> None:
    environment = lmdb.open(str(catalog), max_dbs=4, map_size=4 << 20, sync=False)
    table = environment.open_db(b"table")
    with environment.begin() as held:
        assert damage_in_view(str(catalog), held.id(), lambda done, total: None) == ""
        for number in range(3):
            with environment.begin(write=True) as transaction:
                transaction.put(b"later", b"%d" % number, db=table)
        assert damage_in_view(str(catalog), held.id(), lambda done, total: None) is None
    environment.close()


@pytest.mark.parametrize(("torn_times", "is_damage"), [(3, False), (1000, True)])
def test_a_page_that_is_being_written_is_read_again_before_it_is_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn_times: int, is_damage: bool
) -> None:
    catalog = made(tmp_path / "catalog")
    seen = 0

    def decode(view: memoryview) -> list[MetaPage]:
        nonlocal seen
        seen += 1
        if seen <= torn_times:
            raise PageError(0, "half of one commit and half of the next")
        return decode_metas(view)

    monkeypatch.setattr(catalogpages, "decode_metas", decode)
    environment = lmdb.open(str(catalog), max_dbs=4, map_size=4 << 20, sync=False)
    with environment.begin() as held:
        found = damage_in_view(str(catalog), held.id(), lambda done, total: None)
    environment.close()
    assert found == ("byte 0: half of one commit and half of the next" if is_damage else "")
