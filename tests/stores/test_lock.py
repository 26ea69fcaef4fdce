"""STORE.md rule 9: three ranges of store.lock, and the name of whoever holds one."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from rs3d.errors import StoreBusy, StoreDamaged
from rs3d.stores.lock import LockMode, LockRange, StoreLock, holder_of

EXCLUSIVE, SHARED = LockMode.EXCLUSIVE, LockMode.SHARED
CHILD = """
import sys
from rs3d.stores.lock import LockMode, LockRange, StoreLock
lock = StoreLock.acquire(sys.argv[1], LockRange[sys.argv[2]], LockMode[sys.argv[3]], sys.argv[4])
print("held", flush=True)
sys.stdin.read()
"""


def hold_elsewhere(root: pathlib.Path, lock_range: str, mode: str, role: str) -> subprocess.Popen[str]:
    """Another process that holds a range until its stdin is closed or it is killed."""
    arguments = [sys.executable, "-c", CHILD, str(root), lock_range, mode, role]
    child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def test_store_rule_09_a_second_daemon_is_refused_naming_the_first(tmp_path: pathlib.Path) -> None:
    child = hold_elsewhere(tmp_path, "DAEMON", "EXCLUSIVE", "supervisor")
    with pytest.raises(StoreBusy) as caught:
        StoreLock.acquire(str(tmp_path), LockRange.DAEMON, EXCLUSIVE, "supervisor")
    assert f"supervisor (process {child.pid}: " in caught.value.holder
    assert "python" in caught.value.holder  # its command line
    end(child)


def test_store_rule_09_a_killed_holder_holds_nothing(tmp_path: pathlib.Path) -> None:
    child = hold_elsewhere(tmp_path, "WRITER", "EXCLUSIVE", "committer")
    assert holder_of(str(tmp_path), LockRange.WRITER) is not None
    end(child)
    assert holder_of(str(tmp_path), LockRange.WRITER) is None
    StoreLock.acquire(str(tmp_path), LockRange.WRITER, EXCLUSIVE, "committer").release()


def test_store_rule_09_ranges_do_not_touch_each_other(tmp_path: pathlib.Path) -> None:
    locks = [StoreLock.acquire(str(tmp_path), found, EXCLUSIVE, "test") for found in LockRange]
    for lock in locks:
        with pytest.raises(StoreBusy):
            StoreLock.acquire(str(tmp_path), lock.range, EXCLUSIVE, "second")
        lock.release()
        lock.release()
        StoreLock.acquire(str(tmp_path), lock.range, EXCLUSIVE, "second").release()


def test_store_rule_09_offline_tools_wait_for_all_users_and_keep_all_out(tmp_path: pathlib.Path) -> None:
    first = StoreLock.acquire(str(tmp_path), LockRange.USE, SHARED, "worker")
    second = StoreLock.acquire(str(tmp_path), LockRange.USE, SHARED, "steward")
    first.release()
    with pytest.raises(StoreBusy):
        StoreLock.acquire(str(tmp_path), LockRange.USE, EXCLUSIVE, "check")
    second.release()
    with StoreLock.acquire(str(tmp_path), LockRange.USE, EXCLUSIVE, "check"), pytest.raises(StoreBusy, match="check"):
        StoreLock.acquire(str(tmp_path), LockRange.USE, SHARED, "worker")


def test_a_shared_holder_without_a_note_is_found_by_its_open_file(tmp_path: pathlib.Path) -> None:
    child = hold_elsewhere(tmp_path, "USE", "SHARED", "worker")
    with pytest.raises(StoreBusy, match=f"process {child.pid}"):
        StoreLock.acquire(str(tmp_path), LockRange.USE, EXCLUSIVE, "check")
    end(child)


def test_a_note_of_a_dead_process_names_nobody(tmp_path: pathlib.Path) -> None:
    end(hold_elsewhere(tmp_path, "DAEMON", "EXCLUSIVE", "departed"))
    child = hold_elsewhere(tmp_path, "USE", "SHARED", "worker")
    with pytest.raises(StoreBusy) as caught:
        StoreLock.acquire(str(tmp_path), LockRange.USE, EXCLUSIVE, "check")
    assert "departed" not in caught.value.holder
    end(child)


def test_closing_another_descriptor_of_the_file_keeps_the_lock(tmp_path: pathlib.Path) -> None:
    lock = StoreLock.acquire(str(tmp_path), LockRange.DAEMON, EXCLUSIVE, "supervisor")
    (tmp_path / "store.lock").read_bytes()
    with pytest.raises(StoreBusy):
        StoreLock.acquire(str(tmp_path), LockRange.DAEMON, EXCLUSIVE, "second")
    lock.release()


def test_a_lock_is_not_inherited_by_a_program_that_is_started(tmp_path: pathlib.Path) -> None:
    lock = StoreLock.acquire(str(tmp_path), LockRange.DAEMON, EXCLUSIVE, "supervisor")
    running = "print(flush=True); input()"
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", running], stdin=pipe, stdout=pipe, close_fds=False)
    assert child.stdout is not None
    child.stdout.readline()  # it runs: until then it is a copy of this process
    lock.release()
    assert holder_of(str(tmp_path), LockRange.DAEMON) is None
    child.kill()
    child.communicate()


def test_a_lock_in_no_directory_or_through_a_link_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(StoreDamaged):
        StoreLock.acquire(str(tmp_path / "absent"), LockRange.DAEMON, EXCLUSIVE, "supervisor")
    assert holder_of(str(tmp_path), LockRange.DAEMON) is None
    os.symlink(tmp_path / "elsewhere", tmp_path / "store.lock")
    with pytest.raises(StoreDamaged):
        StoreLock.acquire(str(tmp_path), LockRange.DAEMON, EXCLUSIVE, "supervisor")
    assert not (tmp_path / "elsewhere").exists()
