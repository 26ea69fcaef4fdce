"""The daemon's processes hold no key where a core dump or the swap would have it, and leave no dump."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.testing import MiniProcess
from tests.crypto.processmemory import places_of
from tests.system.clients import s3_client
from tests.system.waiting import wait_until

BODY = b"sealed" * 100_000


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MiniProcess]:
    monkeypatch.chdir(tmp_path)  # where a core would be left
    with MiniProcess(tmp_path / "data", workers=1) as daemon:
        yield daemon


def use_keys(daemon: MiniProcess) -> None:
    client = s3_client(daemon)
    client.create_bucket(Bucket="sealed")
    for mode in ("AES256", "aws:kms"):
        client.put_object(Bucket="sealed", Key=mode, Body=BODY, ServerSideEncryption=mode)
        assert client.get_object(Bucket="sealed", Key=mode)["Body"].read() == BODY
    client.close()


@pytest.mark.skipif(os.getuid() != 0, reason="the memory of a process that may not be dumped is root's to read")
def test_the_master_key_is_only_in_locked_pages_that_no_dump_has(daemon: MiniProcess) -> None:
    use_keys(daemon)
    digits = (daemon.directory / "master.key").read_text().strip().rpartition(":")[2]
    key = [bytes.fromhex(digits), digits.encode()]
    found = {name: places_of(pid, key) for name, pid in daemon.children().items()}
    assert found["worker"]
    for name, places in found.items():
        assert all({"dd", "lo"} <= place.flags for place in places), (name, places)
    assert places_of(daemon.pid, key) == []  # the supervisor needs it at the start only


def test_a_process_that_crashes_leaves_no_core(daemon: MiniProcess, tmp_path: Path) -> None:
    if "|" in (pattern := Path("/proc/sys/kernel/core_pattern").read_text()) or "/" in pattern:
        pytest.skip("this machine hands core dumps to somebody else")
    worker = daemon.children()["worker"]
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(worker, resource.RLIMIT_CORE, unlimited)
    os.kill(worker, signal.SIGABRT)
    wait_until(lambda: daemon.children().get("worker", worker) != worker)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("core")]
