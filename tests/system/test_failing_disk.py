"""A file whose blocks the disk cannot read any more, met by a mapping: an error for its readers, quarantine by the
scrub, and a worker that lives and serves everything else. On a small ext4 of its own, by a loop device."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.kernels import mapped
from rs3d.testing import MiniProcess
from tests.engine.bodies import noise
from tests.s3.wire.client import check_refusal
from tests.system.failingdisk import FailingDisk, failing_disk
from tests.system.races import caller_of
from tests.system.scrubbing import blob_files, rs3d, scrub
from tests.system.smalldisk import MIB, mounted_or_skipped

SPACE = {
    "RS3D_STORAGE__SPACE__BALLAST_BYTES": str(MIB),
    "RS3D_STORAGE__SPACE__MINIMUM_FREE_BYTES": str(MIB),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    with mounted_or_skipped(failing_disk(tmp_path, 32 * MIB)) as disk:
        yield disk


@pytest.fixture
def disk_of_a_store(tmp_path: Path) -> Iterator[FailingDisk]:
    """With room for three log segments of 64 MiB and little more."""
    with mounted_or_skipped(failing_disk(tmp_path, 288 * MIB)) as disk:
        yield disk


@pytest.fixture
def unreadable(disk: FailingDisk) -> Path:
    """A file of 2 MiB whose every read is EIO."""
    path = disk.place / "file"
    path.write_bytes(noise(2 * MIB, 1))
    disk.move_to_the_end(path)
    disk.forget()
    disk.fail_from(path)
    return path


def test_an_io_error_under_a_mapping_is_an_error_that_names_the_byte(unreadable: Path) -> None:
    descriptor = os.open(unreadable, os.O_RDONLY)
    try:
        with pytest.raises(OSError) as read:
            os.pread(descriptor, 10, MIB)
        assert read.value.errno == errno.EIO
        for offset in (0, MIB + 5):
            with pytest.raises(mapped.MappingFault) as fault:
                mapped.first_bad_block(descriptor, offset, MIB - 5, MIB, bytes(4))
            assert (fault.value.kind, fault.value.offset, fault.value.errno) == ("unreadable", offset, errno.EIO)
            with pytest.raises(mapped.MappingFault, match=f"unreadable at byte {offset}"):
                mapped.copy_from_mapping(descriptor, offset, bytearray(MIB - 5))
    finally:
        os.close(descriptor)


def test_the_same_io_error_kills_a_process_that_reads_its_mapping_unguarded(unreadable: Path) -> None:
    program = "import mmap, os, sys; mmap.mmap(os.open(sys.argv[1], 0), 0, prot=mmap.PROT_READ)[0]"
    done = subprocess.run([sys.executable, "-c", program, str(unreadable)], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGBUS


def test_d7_an_io_error_under_a_mapped_read_costs_one_object_and_no_worker(disk_of_a_store: FailingDisk) -> None:
    disk = disk_of_a_store
    bodies = {f"/bkt/{name}": noise(2 * MIB, seed) for seed, name in enumerate(("lost", "other"))}
    with MiniProcess(disk.place / "data", workers=1, environment=SPACE) as server:
        caller = caller_of(server)
        assert caller.put("/bkt").status == 200
        for target, body in bodies.items():
            assert caller.put(target, body).status == 200
        lost, its_sidecar = blob_files(server, "bkt", "lost")
        others = blob_files(server, "bkt", "other")
        server.stop()
        disk.move_to_the_end(lost, before=(its_sidecar, *others))
        disk.forget()
        server.start()
        caller = caller_of(server)
        assert caller.get("/bkt/other").body == bodies["/bkt/other"]
        pids = server.children()
        disk.fail_from(lost)
        check_refusal(caller.get("/bkt/lost"), 500, "InternalError", "/bkt/lost")
        problems = scrub(server)["problems"]
        assert [problem["code"] for problem in problems] == ["blob-damaged"], problems
        rows = rs3d(server, "quarantine", "list")
        assert [(row["bucket"], row["key"]) for row in rows] == [("bkt", "lost")], problems
        check_refusal(caller.get("/bkt/lost"), 500, "InternalError", "/bkt/lost")
        assert caller.get("/bkt/other").body == bodies["/bkt/other"]
        assert caller.put("/bkt/lost", b"again").status == 200
        assert caller.get("/bkt/lost").body == b"again"
        assert server.children() == pids, "a process was restarted"
