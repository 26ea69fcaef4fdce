"""The short form of `python -m tests.system.chaos --minutes 60`, and that its checks can fail."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rs3d.testing import MiniProcess
from tests.system.chaos import ENVIRONMENT, Total, check_offline, play_round
from tests.system.chaosload import MAKES, MadeLoad
from tests.system.clients import s3_client
from tests.system.faultydisk import FaultyDisk
from tests.system.mishaps import Mishaps
from tests.system.waiting import wait_until

STRIKES = ["kill -9 worker", "EIO under blobs", "kill -9 committer on a slow disk", "EIO under the log", "kill -9 all"]


def test_d1_mishaps_at_random_moments_of_mixed_load_lose_nothing_and_leave_nothing_half_done(tmp_path: Path) -> None:
    disk = FaultyDisk(tmp_path / "data", tmp_path)
    server = MiniProcess(tmp_path / "data", workers=2, environment={**ENVIRONMENT, **disk.environment()})
    mishaps, total = Mishaps(server, random.Random(3), disk), Total()
    play_round(mishaps, total, 1, STRIKES)
    assert total.acknowledged > 50 and total.checked > 20
    assert disk.hits()["blobs"] > 0 and disk.hits()["log"] > 0
    check_offline(server.directory)


def test_a_load_finds_out_what_was_lost_or_changed_behind_its_back(tmp_path: Path) -> None:
    with MiniProcess(tmp_path / "data") as server:
        client = s3_client(server)
        load = MadeLoad(server, "load", MAKES[-1], writers=1, seed=1)
        load.make_buckets(client)
        with load:
            wait_until(lambda: load.acknowledged > 25)
        load.verify(client)
        bucket, versions = load.buckets
        key = client.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"]
        client.put_object(Bucket=bucket, Key=key, Body=b"not what the load put")
        with pytest.raises(AssertionError, match="possible"):
            load.verify(client)
        client.delete_object(Bucket=bucket, Key=key)
        version = client.list_object_versions(Bucket=versions)["Versions"][0]
        client.delete_object(Bucket=versions, Key=version["Key"], VersionId=version["VersionId"])
        with pytest.raises(AssertionError):
            load.verify(client)
