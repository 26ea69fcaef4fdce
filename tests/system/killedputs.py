"""Puts a MiB into stores, each in a process that is to be killed inside: `python -m tests.system.killedputs`.

For each line of stdin, the path of a store with a bucket `bucket`, it makes a process, whose number it prints. That
prints `open` once a first body has opened a segment for blobs; puts `killed` when a line has come, and prints
`acknowledged`. When it has ended, its status is printed.
"""

from __future__ import annotations

import os
import random
import sys
from typing import Final

import trio

from rs3d.engine import StorageEngine
from rs3d.engine.library import StoreOptions

BUCKET: Final = "bucket"
BODY: Final = random.Random(5).randbytes(1 << 20)
FIRST: Final = BODY[1:]
OPTIONS: Final = StoreOptions(log_segment_bytes=1 << 20)
"""A small store is copied soon."""


async def put_when_told(store: str) -> None:
    """Reads stdin on the loop: nothing else of the engine has anything to do then."""
    async with StorageEngine.open(store, options=OPTIONS) as engine:
        await engine.put_object(BUCKET, "first", FIRST)
        print("open", flush=True)
        sys.stdin.readline()
        await engine.put_object(BUCKET, "killed", BODY)
        print("acknowledged", flush=True)


def main() -> None:
    """Forks before anything of Trio or of a store is there, for imports take longer than all the rest."""
    while line := sys.stdin.readline():
        process = os.fork()
        if process == 0:
            print(os.getpid(), flush=True)
            trio.run(put_when_told, line.strip())
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
