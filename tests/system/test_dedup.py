"""Deduplication of a real daemon: what is acknowledged survives kill -9 and a restart, chunks are shared before and
after, and nothing is left when the last object has gone."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from rs3d.stores.check import assert_files_reachable
from rs3d.testing import MiniProcess
from tests.system.clients import s3_client
from tests.system.test_rebuild import command
from tests.system.waiting import wait_until

DATA = random.Random(11).randbytes(3_000_000)
CHANGED = DATA[:1_000_000] + b"a word more" + DATA[1_000_000:]


def test_chunks_survive_kills_and_go_with_the_last_object(tmp_path: Path) -> None:
    settings = ("dedup=content-defined:16KiB", "compression=zstd:3")
    with MiniProcess(tmp_path / "data", workers=2) as server:
        command(server, "bucket", "create", "clear", *settings)
        command(server, "bucket", "create", "sealed", *settings)
        client = s3_client(server)
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        client.put_bucket_encryption(Bucket="sealed", ServerSideEncryptionConfiguration={"Rules": [rule]})
        for bucket in ("clear", "sealed"):
            client.put_object(Bucket=bucket, Key="one", Body=DATA)
        server.kill()
    with MiniProcess(tmp_path / "data", workers=2) as server:
        client = s3_client(server)
        before = command(server, "dedup", "stats")
        assert before["packs"] == 2 and before["unique_bytes"] == before["referenced_bytes"] == 2 * len(DATA)
        for bucket in ("clear", "sealed"):
            client.put_object(Bucket=bucket, Key="two", Body=CHANGED)
            assert client.get_object(Bucket=bucket, Key="one")["Body"].read() == DATA
        after = command(server, "dedup", "stats")
        assert after["unique_bytes"] < before["unique_bytes"] + 2 * 300_000
        assert after["referenced_bytes"] == 2 * (len(DATA) + len(CHANGED)) and after["saved_percent"] > 40
        assert command(server, "status")["dedup"]["chunks"] == after["chunks"]
        server.kill()
    with MiniProcess(tmp_path / "data", workers=1) as server:
        client = s3_client(server)
        for bucket in ("clear", "sealed"):
            assert client.get_object(Bucket=bucket, Key="two")["Body"].read() == CHANGED
            client.delete_object(Bucket=bucket, Key="one")
            client.delete_object(Bucket=bucket, Key="two")
        wait_until(lambda: command(server, "dedup", "stats")["packs"] == 0)
        wait_until(lambda: not list((tmp_path / "data").rglob("blobs/*/*.data")))
    assert_files_reachable(str(tmp_path / "data"))


def test_a_catalog_made_anew_knows_every_chunk(tmp_path: Path) -> None:
    with MiniProcess(tmp_path / "data") as server:
        command(server, "bucket", "create", "tars", "dedup=fixed:64KiB")
        client = s3_client(server)
        for key, body in (("one", DATA), ("two", DATA), ("three", CHANGED)):
            client.put_object(Bucket="tars", Key=key, Body=body)
        client.delete_object(Bucket="tars", Key="one")
        wait_until(lambda: command(server, "dedup", "stats")["referenced_bytes"] < 3 * len(DATA))
        before = command(server, "dedup", "stats")
    check = [sys.executable, "-m", "rs3d", "check", "--rebuild", "--data", str(tmp_path / "data")]
    subprocess.run(check, check=True, capture_output=True, timeout=120)
    with MiniProcess(tmp_path / "data") as server:
        assert command(server, "dedup", "stats") == before
        client = s3_client(server)
        for key, body in (("two", DATA), ("three", CHANGED)):
            assert client.get_object(Bucket="tars", Key=key)["Body"].read() == body
