"""`rs3d kms-key` against a running daemon, and objects under its keys across kill -9 and restart."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rs3d.cli.main import main
from rs3d.testing import MiniProcess
from tests.system.clients import error_code, s3_client


class Daemon:
    def __init__(self, process: MiniProcess, capsys: pytest.CaptureFixture[str]) -> None:
        self.process = process
        self._capsys = capsys

    def run(self, *arguments: str) -> Any:
        status = main([*arguments, "--data", str(self.process.directory), "--json"])
        captured = self._capsys.readouterr()
        assert status == 0, captured.err
        return json.loads(captured.out)

    def fail(self, *arguments: str) -> str:
        status = main([*arguments, "--data", str(self.process.directory)])
        captured = self._capsys.readouterr()
        assert status != 0 and captured.out == ""
        return captured.err


@pytest.fixture(scope="module")
def process() -> Iterator[MiniProcess]:
    with MiniProcess() as running:
        yield running


@pytest.fixture
def daemon(process: MiniProcess, capsys: pytest.CaptureFixture[str]) -> Daemon:
    return Daemon(process, capsys)


def test_a_key_is_made_shown_rotated_disabled_and_enabled(daemon: Daemon) -> None:
    made = daemon.run("kms-key", "create", "payroll")
    assert (made["provider"], made["name"], made["state"], made["version"]) == ("local", "payroll", "enabled", 1)
    assert made["id"] == "arn:aws:kms:us-east-1:000000000000:key/payroll"
    assert daemon.run("kms-key", "rotate", "payroll")["version"] == 2
    assert daemon.run("kms-key", "disable", "local:payroll")["state"] == "disabled"
    assert daemon.run("kms-key", "show", "alias/payroll")["state"] == "disabled"
    assert daemon.run("kms-key", "enable", "payroll")["state"] == "enabled"
    assert "payroll" in [key["name"] for key in daemon.run("kms-key", "list")]
    assert daemon.run("kms-key", "list", "--provider", "local") == daemon.run("kms-key", "list")


def test_a_key_of_ones_own_is_imported_and_shown_to_nobody(daemon: Daemon, tmp_path: Path) -> None:
    material = os.urandom(32)
    (tmp_path / "raw").write_bytes(material)
    made = daemon.run("kms-key", "import", "byok", "--file", str(tmp_path / "raw"))
    assert made["name"] == "byok" and material.hex() not in json.dumps(made)
    assert "imported" in daemon.fail("kms-key", "rotate", "byok")
    for path in daemon.process.directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert material not in content and material.hex().encode() not in content, path
    assert material.hex() not in daemon.process.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "alias/x"), "beginning with a letter or digit"),
        (("create", "a:b"), "letters, digits"),
        (("create", ""), "must not be empty"),
        (("show", "nobody"), "no key 'nobody'"),
        (("disable", "nobody"), "no key 'nobody'"),
        (("rotate", "nobody"), "no key 'nobody'"),
        (("list", "--provider", "nobody"), "must be one of local"),
        (("import", "x", "--file", "/nowhere/at/all"), "No such file"),
        (("import", "x", "--file", "/proc/self/status"), "neither 32 raw bytes"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_by_name(daemon: Daemon, arguments: tuple[str, ...], says: str) -> None:
    assert says in daemon.fail("kms-key", *arguments)


def test_a_key_is_not_made_twice(daemon: Daemon) -> None:
    daemon.run("kms-key", "create", "once")
    assert "already" in daemon.fail("kms-key", "create", "once")


def test_objects_under_a_key_survive_a_kill_and_are_refused_while_it_is_disabled(daemon: Daemon) -> None:
    daemon.run("kms-key", "create", "mine")
    client = s3_client(daemon.process)
    client.create_bucket(Bucket="vault")
    body = os.urandom(300_000)
    for mode in ("aws:kms", "aws:kms:dsse"):
        client.put_object(Bucket="vault", Key=mode, Body=body, ServerSideEncryption=mode, SSEKMSKeyId="mine")
    assert daemon.run("locate", "vault", "aws:kms:dsse")["recipe"] == ["encrypt", "encrypt"]
    daemon.process.kill()
    daemon.process.start()
    client = s3_client(daemon.process)
    for mode in ("aws:kms", "aws:kms:dsse"):
        assert client.get_object(Bucket="vault", Key=mode)["Body"].read() == body
    daemon.run("kms-key", "disable", "mine")
    with pytest.raises(ClientError) as refused:
        client.get_object(Bucket="vault", Key="aws:kms")
    assert error_code(refused.value) == "KMS.DisabledException"
    daemon.run("kms-key", "enable", "mine")
    assert client.get_object(Bucket="vault", Key="aws:kms")["Body"].read() == body
