"""The catalog looked at in a process of its own: liblmdb trusts its pages, so a damaged one may kill whoever reads it.

`python -m rs3d.daemon.catalogcheck --root DIR --parent PID` prints one line of JSON (`CatalogExamined`). Started by the
steward, which judges a death by a signal as damage, too.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from functools import partial
from typing import Final

import lmdb
import msgspec
import trio

from rs3d.app.interpreter import own_environment, own_python
from rs3d.errors import DamageError, FormatUnknown, Rs3dError
from rs3d.priority import lower_priority
from rs3d.services.scrub import CatalogExamined
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogpages import damage_in_view
from rs3d.stores.catalogtables import Access, open_tables
from rs3d.stores.checkcatalog import check_catalog
from rs3d.stores.checkreport import CheckReport, Progress, Severity
from rs3d.stores.layout import CATALOG, LOG
from rs3d.stores.layoutmeta import read_store_meta
from rs3d.stores.lock import LockMode, LockRange, StoreLock
from rs3d.stores.logreader import LogReader

ROLE: Final = "catalog check"
VIEW_LIMIT_S: Final = 120.0
"""How long the one view that a check needs may live: the catalog's file grows by what is committed meanwhile."""
PROBLEMS_TOLD: Final = 50
_VIEWS_TRIED: Final = 100
"""A view whose page was overwritten by two commits before it could be read is given up for a new one."""


class _OutOfTimeError(Exception):
    """The catalog is too large to be walked within VIEW_LIMIT_S."""


def examine(root: str, parent: int) -> CatalogExamined:
    """Walk the catalog of a store that is served, or not. Blocks.

    Args:
        parent: the process that asked. No signal of the kernel tells of its death: that would come with the end of the
            thread that started this process, and Trio's end after ten seconds.

    Raises:
        Rs3dError: it cannot be opened for another reason than damage.
        SystemExit: nobody waits for the answer any more.
    """
    report = CheckReport(root)
    deadline_s = time.monotonic() + VIEW_LIMIT_S

    def progress(stage: str, done: int, total: int) -> None:
        if os.getppid() != parent:
            sys.exit(1)
        if time.monotonic() > deadline_s:
            raise _OutOfTimeError

    incomplete = ""
    with StoreLock.acquire(root, LockRange.USE, LockMode.SHARED, ROLE):
        meta = read_store_meta(root)
        try:
            tables = open_tables(os.path.join(root, CATALOG), access=Access.READ, map_bytes=meta.map_bytes)
        except (DamageError, FormatUnknown) as error:
            return CatalogExamined(problems=[("catalog/", str(error))])
        catalog = LocalCatalog(tables, LogReader(os.path.join(root, LOG), meta.store_id))
        try:
            damage = _damaged_pages(catalog, os.path.join(root, CATALOG), progress)
            if damage:
                report.add(Severity.ERROR, "catalog/", f"its pages cannot be followed: {damage}")
            else:
                check_catalog(catalog, None, report, progress)
        except _OutOfTimeError:
            incomplete = f"{report.rows} rows were checked in {VIEW_LIMIT_S:.0f} s, not all of them"
        except (DamageError, FormatUnknown, lmdb.Error, ValueError, UnicodeError) as error:
            report.add(Severity.ERROR, "catalog/", f"its pages cannot be followed: {error}")
        finally:
            catalog.close()
            tables.environment.close()
    problems = [(found.what, found.reason) for found in report.findings if found.severity is Severity.ERROR]
    return CatalogExamined(rows=report.rows, problems=problems[:PROBLEMS_TOLD], incomplete=incomplete)


def _damaged_pages(catalog: LocalCatalog, catalog_path: str, progress: Progress) -> str:
    """What is wrong with the catalog's pages, '' when nothing is. Done first: what follows believes them."""
    for _ in range(_VIEWS_TRIED):
        with catalog.snapshot() as view:
            found = damage_in_view(catalog_path, view.transaction.id(), partial(progress, "catalog pages"))
        if found is not None:
            return found
    return "neither of the pages that name commits names the newest one"


async def examine_aside(root: str) -> CatalogExamined:
    """The same in a process of its own.

    Raises:
        OSError: it cannot be started.
    """
    command = [*own_python(), "rs3d.daemon.catalogcheck", "--root", root, "--parent", str(os.getpid())]
    done = await trio.run_process(
        command,
        capture_stdout=True,
        capture_stderr=True,
        stdin=subprocess.DEVNULL,
        check=False,
        env=own_environment(os.environ),
    )
    if done.returncode == 0:
        return msgspec.json.decode(done.stdout, type=CatalogExamined)
    if done.returncode in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGFPE):
        name = signal.Signals(-done.returncode).name
        return CatalogExamined(problems=[("catalog/", f"reading its pages ends in {name}")])
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return CatalogExamined(incomplete=lines[-1] if lines else f"the check ended with {done.returncode}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Started by rs3d alone.")
    parser.add_argument("--root", required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    lower_priority(5)
    try:
        found = examine(arguments.root, arguments.parent)
    except Rs3dError as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
