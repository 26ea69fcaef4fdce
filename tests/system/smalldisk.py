"""A small ext4 of its own, by a loop device, and somebody else's file that fills it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

MIB = 1024 * 1024

Mounted = TypeVar("Mounted")


def run(*words: str) -> None:
    """Raises OSError with what the program said when it failed."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PATH": path}, timeout=120)
    if done.returncode != 0:
        raise OSError(f"{' '.join(words)}: {done.stderr}")


@contextmanager
def mounted_or_skipped(disk: AbstractContextManager[Mounted]) -> Iterator[Mounted]:
    """The disk, where this process may mount one; elsewhere the test is skipped, and says why."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system of its own needs root: run this test as root to have it checked")
    with ExitStack() as stack:
        try:
            mounted = stack.enter_context(disk)
        except OSError as error:
            pytest.skip(f"this machine does not let root mount a loop device: {error}")
        yield mounted


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Where it is mounted, in `folder`; unmounted and removed afterwards.

    Raises:
        OSError: this process may not mount, or this machine has no loop devices.
    """
    image, place = folder / "image", folder / "disk"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    place.mkdir()
    run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    run("mount", "-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        run("umount", str(place))
        image.unlink()
        place.rmdir()


def fill_the_rest(place: Path) -> Path:
    """Somebody else's file takes every block that is left."""
    path = place / "foreign"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        step = 64 * MIB
        offset = 0
        while step >= 4096:
            try:
                os.posix_fallocate(descriptor, offset, step)
                offset += step
            except OSError:
                step //= 2
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path
