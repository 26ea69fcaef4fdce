"""What tests of whole processes need of the machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.tracing import STRACE


@pytest.fixture(scope="module")
def may_trace(module_path: Path) -> None:
    """strace works here."""
    assert shutil.which("strace"), "apt-get install strace"
    record = module_path / "record"
    done = subprocess.run([*STRACE, f"--output={record}", "true"], capture_output=True, timeout=60)
    if done.returncode != 0 and b"ptrace" in done.stderr:
        pytest.skip(f"this machine forbids ptrace: {done.stderr.decode().strip()}")
