"""A catalog's file that did not come about by commits of a committer: put back from a copy, or changed with liblmdb."""

from __future__ import annotations

import shutil
from pathlib import Path

from rs3d.stores.catalogcheckpoint import CHECKPOINT
from rs3d.stores.catalogpages import FILE


def count_as_it_is(root: Path | str) -> None:
    """Let the closed store at `root` open with whatever `catalog/data.mdb` is there: without a checkpoint beside it, it
    is one of before there were checkpoints, whose commits were all synced. With one it would be refused as another
    file than the one that was closed."""
    (Path(root) / "catalog" / CHECKPOINT).unlink()


def copy_catalog(source: Path, target: Path) -> None:
    """Copy a catalog's file and what tells which commit of it counts. Neither directory's lock.mdb is touched."""
    target.mkdir(exist_ok=True)
    for name in (FILE, CHECKPOINT):
        shutil.copy(source / name, target / name)
