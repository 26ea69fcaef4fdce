"""Keys are where they are meant to be and nowhere else: the memory of processes that used keys is searched for them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.crypto.masterkey import MasterKey
from tests.crypto.keysurroundings import secret_file
from tests.crypto.processmemory import Mapping, places_of

USER = """
import gc, sys
from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.privatefiles import read_secret
from rs3d.kernels.secretmemory import SecretMemory
from rs3d.rio.encryption import Cipher
from rs3d.rio.keys import EncryptionKey, Purpose

def step(word):
    gc.collect()
    print(word, flush=True)
    sys.stdin.readline()

control = open(sys.argv[3], "rb").read()
step("started")
master = MasterKey.from_file(sys.argv[1])
sealer = master.sealer(bytes(16))
sealed = sealer.seal("bucket key", b"c", memoryview(read_secret(sys.argv[2], 64, ValueError)))
data = EncryptionKey(sealer.unseal_key("bucket key", b"c", sealed))
wrapped = data.derive(Purpose.WRAPPING).wrap(data, b"context")
assert data.derive(Purpose.WRAPPING).unwrap(wrapped, b"context") == data
master.write(sys.argv[1] + ".copy")
step("used")
master.wipe()
data.wipe()
step("wiped")
"""


class Child:
    """A process that uses keys in steps."""

    def __init__(self, folder: Path) -> None:
        self.master, self.data, self.control = (os.urandom(32) for _ in range(3))
        master_file = secret_file(folder / "master.key", self.master.hex())
        data_file, control_file = folder / "data.key", folder / "control"
        for path, content in ((data_file, self.data), (control_file, self.control)):
            path.write_bytes(content)
            path.chmod(0o600)
        command = [sys.executable, "-c", USER, master_file, str(data_file), str(control_file)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)

    def until(self, word: str) -> None:
        assert self.process.stdout is not None and self.process.stdin is not None
        if word != "started":
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
        assert self.process.stdout.readline() == word.encode() + b"\n"

    def places(self) -> list[Mapping]:
        """Where raw keys and their digits are."""
        return places_of(self.process.pid, [self.master, self.data, self.master.hex().encode()])

    def shows_what_it_does_not_hide(self) -> bool:
        """Whether the search finds bytes that are kept as Python usually keeps them."""
        return any("dd" not in place.flags for place in places_of(self.process.pid, [self.control]))

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child(tmp_path)
    yield child
    child.end()


def test_keys_in_use_are_only_in_locked_pages_that_no_dump_has(child: Child) -> None:
    child.until("started")
    assert child.places() == []
    child.until("used")
    found = child.places()
    assert child.shows_what_it_does_not_hide()
    assert found and all("dd" in place.flags and "lo" in place.flags for place in found), found


def test_wiped_keys_are_nowhere(child: Child) -> None:
    child.until("started")
    child.until("used")
    child.until("wiped")
    assert child.shows_what_it_does_not_hide()
    assert child.places() == []


def test_a_core_dump_holds_no_key(child: Child, tmp_path: Path) -> None:
    if "|" in (pattern := Path("/proc/sys/kernel/core_pattern").read_text()) or "/" in pattern:
        pytest.skip("this machine hands core dumps to somebody else")
    child.until("started")
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(child.process.pid, resource.RLIMIT_CORE, unlimited)
    child.until("used")
    child.process.send_signal(6)
    child.process.wait()
    cores = [path for path in tmp_path.iterdir() if path.name.startswith("core")]
    assert len(cores) == 1
    content = cores[0].read_bytes()
    assert child.control in content
    for secret in (child.master, child.data, child.master.hex().encode()):
        assert secret not in content


def test_a_master_key_does_not_change_by_its_way_through_a_file(tmp_path: Path) -> None:
    key = MasterKey.generate()
    key.write(str(tmp_path / "master.key"))
    again = MasterKey.from_file(str(tmp_path / "master.key"))
    assert again.key_id == key.key_id and again.check_value(bytes(16)) == key.check_value(bytes(16))
