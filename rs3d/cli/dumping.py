"""`rs3d dump FILE`: any file of a store in the terms of FORMAT.md, read only."""

from __future__ import annotations

import argparse
import json
import mmap
import os

from rs3d.errors import FormatUnknown, StoreDamaged
from rs3d.format.dump import FileDump, dump_file, jsonable, render
from rs3d.format.logsegment import COMPACTED, HEADER_BYTES, decode_header
from rs3d.stores.logchain import read_directory


def run(arguments: argparse.Namespace) -> int:
    found = _dump(arguments.file)
    if arguments.json:
        print(json.dumps(jsonable(found), indent=2))
    else:
        for line in render(found):
            print(line)
    return 1 if found.problems else 0


def _dump(path: str) -> FileDump:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return dump_file(b"", path)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
                return dump_file(view, path, named_end=_named_end(path, view))
    except OSError as error:
        raise FormatUnknown(what=path, reason=error.strerror or str(error)) from error


def _named_end(path: str, view: memoryview) -> int | None:
    """Where a log segment ends as the header of the next one, beside it, says; None when none says it."""
    try:
        header = decode_header(bytes(view[:HEADER_BYTES]))
        if header.number >= COMPACTED:
            return None
        successor = read_directory(os.path.dirname(path) or ".", header.store_id).successor(header.number)
    except (ValueError, OSError, StoreDamaged):
        return None
    return None if successor is None else successor.header.previous_end
