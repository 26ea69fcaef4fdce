"""`rs3d dump FILE`: any file of a store in the terms of FORMAT.md, read only."""

from __future__ import annotations

import argparse
import json
import mmap
import os

from rs3d.errors import FormatUnknown
from rs3d.format.dump import dump_file, jsonable, render
from rs3d.format.dumppieces import FileDump, Problem
from rs3d.stores.lock import LockRange, holder_of
from rs3d.stores.logplace import place_of


def run(arguments: argparse.Namespace) -> int:
    found = _dump(arguments.file, arguments.rows)
    if arguments.json:
        print(json.dumps(jsonable(found), indent=2))
    else:
        for line in render(found):
            print(line)
    return 1 if found.problems else 0


def _dump(path: str, rows_table: str) -> FileDump:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return dump_file(b"", path)
            place = place_of(path)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
                found = dump_file(view, path, place=place, rows_table=rows_table)
    except OSError as error:
        raise FormatUnknown(what=path, reason=error.strerror or str(error)) from error
    if found.kind == "catalog":
        _judge_use(path, found)
    elif rows_table:
        raise FormatUnknown(
            what=path, reason=f"--rows {rows_table}: only the catalog has tables, this is a {found.kind}"
        )
    return found


def _judge_use(path: str, found: FileDump) -> None:
    """Say that a catalog whose store is in use may have changed while it was read."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    try:
        holder = holder_of(root, LockRange.USE)
    except OSError as error:
        found.problems.append(Problem(0, f"who uses the store at {root} cannot be told: {error.strerror}"))
        return
    if holder is not None:
        reason = f"the store at {root} is in use by {holder.text()}: pages may have changed while they were read; "
        found.problems.append(Problem(0, reason + f"stop it and run `rs3d check --data {root}`"))
