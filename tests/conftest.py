"""What every test may count on: the programs that tests call are there. The README's second line installs them as
root."""

from __future__ import annotations

import os
import shutil

import pytest

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
