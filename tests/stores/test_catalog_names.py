"""The names of the catalog's tables: those of a later version are told apart from damaged ones."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from rs3d.errors import FormatUnknown, StoreDamaged
from rs3d.stores.catalogtables import Access, TableName, open_tables


def made(root: Path, *names: str) -> str:
    """A catalog with these tables."""
    path = str(root / "catalog")
    with lmdb.open(path, max_dbs=64) as environment:
        for name in names:
            environment.open_db(name.encode())
    return path


OURS = [name.value for name in TableName]


@pytest.mark.parametrize("access", list(Access))
def test_a_catalog_of_a_later_version_is_unknown_and_not_damaged(tmp_path: Path, access: Access) -> None:
    path = made(tmp_path, *OURS, "heatmaps")
    with pytest.raises(FormatUnknown, match=r"made by a later rs3d: it has the tables heatmaps$"):
        open_tables(path, access=access)


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize("name", OURS)
def test_a_name_that_became_another_is_damage(tmp_path: Path, name: str, access: Access) -> None:
    flipped = name[:-1] + chr(ord(name[-1]) ^ 2)
    path = made(tmp_path, *(other for other in OURS if other != name), flipped)
    with pytest.raises(StoreDamaged, match="table of tables is damaged"):
        open_tables(path, access=access)


def test_a_catalog_of_an_earlier_version_gets_the_tables_that_it_lacks(tmp_path: Path) -> None:
    path = made(tmp_path, *OURS[:-1])
    open_tables(path, access=Access.WRITE).environment.close()
    tables = open_tables(path, access=Access.READ)
    assert sorted(table.name for table in tables.all) == sorted(OURS)
    tables.environment.close()
