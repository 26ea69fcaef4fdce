"""The catalog's check as a process: it outlives the thread that started it, and not the process that wants to know."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

from rs3d.daemon.catalogcheck import examine
from rs3d.engine.library import open_store_parts
from tests.model.driver import LIMITS, STORE

WAITING = """
import sys
from rs3d.daemon import catalogcheck
real = catalogcheck.check_catalog
def wait(*arguments):
    print("begun", file=sys.stderr, flush=True)
    sys.stdin.readline()
    return real(*arguments)
catalogcheck.check_catalog = wait
sys.exit(catalogcheck.main())
"""


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A store with a bucket in it."""

    async def make() -> None:
        async with open_store_parts(str(tmp_path), LIMITS, STORE) as opened:
            await opened.engine.create_bucket("bucket")

    trio.run(make)
    return str(tmp_path)


def test_a_check_goes_on_when_the_thread_that_started_it_has_ended(root: str) -> None:
    started: list[subprocess.Popen[str]] = []

    def start() -> None:
        command = [sys.executable, "-c", WAITING, "--root", root, "--parent", str(os.getpid())]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        assert started[0].stderr is not None
        assert started[0].stderr.readline() == "begun\n"

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    told, complaints = started[0].communicate("go on\n", timeout=120)
    assert (started[0].returncode, complaints) == (0, "")
    assert '"problems":[]' in told


def test_a_check_ends_when_nobody_waits_for_it(root: str) -> None:
    assert examine(root, os.getppid()).rows > 0
    with pytest.raises(SystemExit):
        examine(root, os.getpid())
