"""`rs3d dump FILE`: any file of a store in the terms of FORMAT.md, read only."""

from __future__ import annotations

import argparse
import json
import mmap
import os

from rs3d.errors import FormatUnknown
from rs3d.format.dump import FileDump, dump_file, jsonable, render


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
                return dump_file(view, path)
    except OSError as error:
        raise FormatUnknown(what=path, reason=error.strerror or str(error)) from error
