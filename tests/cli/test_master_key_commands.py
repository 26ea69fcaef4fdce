"""`rs3d master-key` with a running daemon, across kill -9; and the key in shares."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rs3d.cli.main import main
from rs3d.crypto.masterkey import MasterKey, add_key
from rs3d.testing import MiniProcess
from tests.system.clients import s3_client
from tests.system.waiting import wait_until

BODIES = {"AES256": b"s3" * 3000, "aws:kms": b"kms" * 3000, "aws:kms:dsse": b"dsse" * 3000}


@pytest.fixture(scope="module")
def process() -> Iterator[MiniProcess]:
    with MiniProcess() as running:
        client = s3_client(running)
        client.create_bucket(Bucket="sealed")
        for mode, body in BODIES.items():
            client.put_object(Bucket="sealed", Key=mode, Body=body, ServerSideEncryption=mode)
        yield running


def ask(process: MiniProcess, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status = main([*arguments, "--data", str(process.directory), "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)


def all_read_as_they_were(process: MiniProcess) -> None:
    client = s3_client(process)
    for mode, body in BODIES.items():
        assert client.get_object(Bucket="sealed", Key=mode)["Body"].read() == body


def key_in_store_meta(process: MiniProcess, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["dump", str(process.directory / "store.meta"), "--json"]) == 0
    return str(json.loads(capsys.readouterr().out)["pieces"][1]["fields"]["master_key_id"])


def test_a_rotation_seals_all_secrets_anew_while_the_daemon_serves(
    process: MiniProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    old = key_in_store_meta(process, capsys)
    done = ask(process, capsys, "master-key", "rotate")
    assert done["key_id"] == key_in_store_meta(process, capsys) != old
    assert (done["access_keys"], done["buckets"]) == (1, 1)
    shown = ask(process, capsys, "master-key", "show")
    assert [(key["id"], key["state"]) for key in shown] == [(done["key_id"], "current"), (old, "needed")]
    all_read_as_they_were(process)
    s3_client(process).put_object(Bucket="sealed", Key="new", Body=b"x", ServerSideEncryption="aws:kms")
    assert ask(process, capsys, "master-key", "retire")["retired"] == []
    process.kill()
    process.start()
    all_read_as_they_were(process)


def test_a_full_rotation_also_wraps_all_data_keys_anew(
    process: MiniProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    done = ask(process, capsys, "master-key", "rotate", "--full")
    assert (done["rotated_buckets"], done["rewrapped"], done["refused"]) == (1, 4, 0)
    all_read_as_they_were(process)


def test_a_new_line_in_the_key_file_is_a_rotation_that_a_killed_daemon_carries_to_its_end(
    process: MiniProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    process.kill()
    made = add_key(str(process.directory / "master.key"))
    process.start()
    wait_until(lambda: key_in_store_meta(process, capsys) == made.id)
    all_read_as_they_were(process)
    assert MasterKey.from_file(str(process.directory / "master.key")).id == made.id


def test_no_master_key_lies_in_the_log_or_catalog_or_output(process: MiniProcess) -> None:
    ring = MasterKey.from_file(str(process.directory / "master.key"))
    for key in (ring, *ring.older):
        raw = key.reveal()
        for path in process.directory.rglob("*"):
            if path.is_file() and path.name != "master.key":
                content = path.read_bytes()
                assert raw not in content and raw.hex().encode() not in content, path
        assert raw.hex() not in process.output


def test_shares_restore_the_key_file_and_never_replace_one(
    process: MiniProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file = str(process.directory / "master.key")
    assert main(["master-key", "split", "--file", key_file, "--shares", "5", "--threshold", "3"]) == 0
    shares = capsys.readouterr().out.splitlines()
    assert len(shares) == 5
    for number, share in enumerate(shares):
        (tmp_path / f"share-{number}").write_text(share + "\n")
    files = [str(tmp_path / f"share-{number}") for number in (4, 0, 2)]
    restored = str(tmp_path / "restored.key")
    assert main(["master-key", "combine", *files, "--output", restored, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key_id"] == MasterKey.from_file(key_file).id
    assert MasterKey.from_file(restored).reveal() == MasterKey.from_file(key_file).reveal()
    assert os.stat(restored).st_mode & 0o777 == 0o600
    assert main(["master-key", "combine", *files, "--output", restored]) != 0
    assert "File exists" in capsys.readouterr().err
    assert main(["master-key", "combine", *files[:2], "--output", str(tmp_path / "other")]) != 0
    assert "3 different ones are needed" in capsys.readouterr().err
    assert main(["master-key", "split", "--file", key_file, "--shares", "2", "--threshold", "3"]) != 0
    assert "threshold" in capsys.readouterr().err
