"""A put that is killed at any of its calls on files leaves all of the object or nothing of it, and no file behind.

The bodies of plain puts are brought to the disk by threads that no file layer of the tests sees, so the kernel does the
killing, by strace.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
import trio

from rs3d.engine import StorageEngine
from rs3d.engine.configuration import EngineConfig
from rs3d.engine.library import open_store_parts
from rs3d.errors import NoSuchKey
from rs3d.stores.check import assert_files_reachable
from tests.system.killedputs import BODY, BUCKET, FIRST, OPTIONS
from tests.system.waiting import wait_until

PLACES = [("openat", 2), ("pwrite64", 3), ("fdatasync", 3), ("fsync", 1)]
"""Calls that make a blob and make it durable, and how many of each a thread makes for one. Each thread counts its own;
the committer's for the record are among them."""


class Putter:
    """`killedputs` in a process of its own."""

    def __init__(self, lines: IO[str], answers: IO[str]) -> None:
        self._lines = lines
        self._answers = answers

    def _tell(self, line: str) -> None:
        print(line, file=self._lines, flush=True)

    def _next(self) -> str:
        return self._answers.readline().strip()

    def put(self, store: Path, call: str, number: int) -> bool:
        """Put into the store, killed when one of its threads begins its so manieth such call. Whether the put had been
        acknowledged."""
        self._tell(str(store))
        process = int(self._next())
        assert self._next() == "open"
        command = ["strace", "-f", "-q", "--output=/dev/null", f"--trace={call}", f"--attach={process}"]
        with subprocess.Popen([*command, f"--inject={call}:signal=SIGKILL:when={number}"]):
            wait_until(lambda: is_traced(process))
            self._tell("")
            answer = self._next()
            is_acknowledged = answer == "acknowledged"
            status = int(self._next() if is_acknowledged else answer)
        assert status in (0, -signal.SIGKILL)
        return is_acknowledged


def is_traced(process: int) -> bool:
    """Whether each of its threads has a tracer."""
    tasks = Path(f"/proc/{process}/task").glob("*/status")
    return all("\nTracerPid:\t0\n" not in task.read_text() for task in tasks)


@pytest.fixture(scope="module")
def putter() -> Iterator[Putter]:
    command = [sys.executable, "-m", "tests.system.killedputs"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield Putter(process.stdin, process.stdout)
        process.stdin.close()


async def make_store(root: Path) -> None:
    async with StorageEngine.open(str(root), options=OPTIONS) as engine:
        await engine.create_bucket(BUCKET)


async def recovered(root: Path) -> bytes | None:
    """The body that was being put, after everything that is left was cleared away."""
    async with open_store_parts(str(root), EngineConfig(), OPTIONS) as opened:
        assert await opened.engine.get_object(BUCKET, "first") == FIRST
        await opened.collector.sweep()
        await opened.collector.collect()
        try:
            return await opened.engine.get_object(BUCKET, "killed")
        except NoSuchKey:
            return None


@pytest.mark.usefixtures("may_trace")
def test_d1_a_put_killed_at_any_of_its_calls_is_whole_or_nothing(putter: Putter, tmp_path: Path) -> None:
    trio.run(make_store, tmp_path / "made")
    lost = set()
    for call, most in PLACES:
        for number in range(1, most + 1):
            store = tmp_path / f"{call}{number}"
            shutil.copytree(tmp_path / "made", store)
            is_acknowledged = putter.put(store, call, number)
            body = trio.run(recovered, store)
            assert_files_reachable(str(store))
            assert body == BODY if is_acknowledged else body in (None, BODY)
            if body is None:
                lost.add(call)
            shutil.rmtree(store)
    assert lost == {call for call, _ in PLACES}
