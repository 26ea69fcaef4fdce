"""What every test may count on: the programs that tests call are there (the README's second line installs them as
root), and a module's tests have a directory of their own.

A store reserves its log ahead, so it takes 64 MiB and more of the disk: what a test has passed with is removed at once
(`tmp_path_retention_policy`, `module_path`), what it failed with stays to be looked at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Some containers set it. Without bytecode each process of each daemon compiles rs3d anew: half of its start."""

PROGRAMS = {
    "mkfs.ext4": "e2fsprogs",
    "openssl": "openssl",
    "qemu-x86_64": "qemu-user",
    "softhsm2-util": "softhsm2",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "systemd-socket-activate": "systemd",
}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Say which packages are missing before anything runs, instead of failing in the middle."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None})
    if missing:
        pytest.exit(f"the tests need packages: apt-get install {' '.join(missing)}", returncode=3)


@pytest.fixture(scope="module")
def module_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty directory for the fixtures of one module; gone after its last test, unless one failed."""
    failed = request.session.testsfailed
    path = tmp_path_factory.mktemp(request.path.stem.removeprefix("test_"))
    yield path
    if request.session.testsfailed == failed:
        shutil.rmtree(path)
