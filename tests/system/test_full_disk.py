"""A full file system: deletes work, writes are refused with 507, and come back by themselves. On a small ext4 of its
own, by a loop device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.stores.check import assert_files_reachable
from rs3d.testing import MiniProcess
from tests.s3.wire.client import check_refusal
from tests.system.races import caller_of
from tests.system.smalldisk import MIB, fill_the_rest, mounted_or_skipped, small_disk
from tests.system.waiting import wait_until

DISK_BYTES = 288 * MIB
"""Two log segments of 64 MiB, the reserves below, and some 100 MiB for objects."""
RESERVES = {
    "RS3D_STORAGE__SPACE__BALLAST_BYTES": str(16 * MIB),
    "RS3D_STORAGE__SPACE__MINIMUM_FREE_BYTES": str(16 * MIB),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Where a file system of its own is mounted."""
    with mounted_or_skipped(small_disk(tmp_path, DISK_BYTES)) as place:
        yield place


def test_d2_a_full_disk_takes_deletes_refuses_writes_and_recovers_without_a_restart(disk: Path) -> None:
    directory = disk / "data"
    with MiniProcess(directory, workers=1, environment=RESERVES) as server:
        caller = caller_of(server)
        assert caller.put("/full").status == 200
        upload = caller.post("/full/parts?uploads").text("UploadId")
        part = f"/full/parts?partNumber=1&uploadId={upload}"
        assert caller.put(part, b"p" * MIB).status == 200
        count = 0
        while (answer := caller.put(f"/full/{count}", bytes([count % 256]) * MIB)).status == 200:
            count += 1
        check_refusal(answer, 507, "InsufficientStorage", f"/full/{count}")
        assert 20 < count < 160
        pid = server.children()
        foreign = fill_the_rest(disk)
        status = os.statvfs(disk)
        assert status.f_bavail * status.f_frsize < 64 * 1024
        wait_until(lambda: caller.put("/full/small", b"s" * 100).status == 507)
        for target in ("/full/large", part):
            check_refusal(caller.put(target, b"x" * MIB), 507, "InsufficientStorage")
        assert caller.get("/full/0").body == bytes(MIB)
        # Every delete and abort is committed on a disk without a free block.
        assert caller.delete(f"/full/parts?uploadId={upload}").status == 204
        for key in (*range(count), "small"):
            assert caller.delete(f"/full/{key}").status == 204, key
        assert caller.get("/full?list-type=2").text("KeyCount") == "0"
        # Room comes back as garbage is unlinked, with the foreign file still there.
        wait_until(lambda: caller.put("/full/again", b"a" * MIB).status == 200)
        wait_until(lambda: caller.put("/full/small", b"s" * 100).status == 200)
        assert foreign.exists()
        assert server.children() == pid, "a process was restarted"
        assert caller.get("/full/again").body == b"a" * MIB
        foreign.unlink()
    assert_files_reachable(str(directory))
